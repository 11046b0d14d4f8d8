"""A slice of `make fuzz`, and that it finds what there is to find."""
import functools
import os
import signal
import warnings

import pytest

from tools import fuzz

#: Inputs of each target, with seeds that `make fuzz` does not use.
INPUTS = 60


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def findings(name, work, count=INPUTS):
    bench = fuzz.Bench(name, 1000, work)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # of another test's components, when they are collected
        warnings.filterwarnings("ignore", ".* created but never used")
        return [found.text for number in range(count) if (found := bench.try_input(number)[1])]


#: Targets that are held: all.
HELD = tuple(fuzz.TARGETS)


@pytest.mark.parametrize("name", HELD)
def test_damaged_inputs_are_read_or_refused(name, work):
    assert findings(name, work) == []


@pytest.mark.parametrize("name", list(fuzz.TARGETS))
def test_inputs_depend_on_their_number_alone(name, work):
    bench, again = (fuzz.Bench(name, 7, work) for _ in range(2))
    again.files(1)
    assert [bench.files(n) for n in (3, 4)] == [again.files(n) for n in (3, 4)] and bench.files(3) != bench.files(4)


@pytest.mark.parametrize("name, least", [("safetensors", 3), ("config", 10), ("gguf", 3), ("tokenizer", 10),
                                         ("trace", 3), ("manifest", 10),
                                         ("uart", 5)])
def test_some_are_read(name, least, work):
    bench = fuzz.Bench(name, 1000, work)
    assert sum(bench.try_input(number)[0] for number in range(INPUTS)) >= least


def loop():
    while True:
        pass


def raise_(error):
    raise error


#: What a reader may do wrong, and what the finding says.
FAULTS = ((lambda: raise_(TypeError("x")), "TypeError in "), (lambda: raise_(fuzz.InputError("")), "not one line"),
          (lambda: warnings.warn("x", stacklevel=2), "UserWarning"), (lambda: os.write(2, b"x"), "words on stderr"),
          (lambda: bytearray(500_000_000), "too much memory"),
          (loop, "TooSlow"), (lambda: os.kill(os.getpid(), signal.SIGKILL), "the process died"),
          (lambda: raise_(SystemExit(0)), "SystemExit"))


class Faulty(fuzz.Manifest):
    def __init__(self, fault, work):
        super().__init__(work)
        self.fault = fault

    def attempts(self, folder, rng):
        yield FAULTS[self.fault][0]


def test_what_is_a_finding():
    """In worker processes, of which one dies."""
    targets = {f"faulty {i}": functools.partial(Faulty, i) for i in range(len(FAULTS))}
    counts, found = fuzz.fuzz([(name, 0) for name in targets], 1, 1, lambda counts: None, targets)
    assert counts == {(name, "finding"): 1 for name in targets}
    assert [place in f.place for f, (_, place) in zip(found, FAULTS)] == [True] * len(FAULTS)
