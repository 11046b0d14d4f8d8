"""The program `hwgen` with the demo model on a small machine: emitted, simulated, compared, and caught with a fault."""
import re

import pytest

from hwgen.cli import main
from hwgen.host.diagnosis.faults import WeightFault
from hwgen.models import load
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.presets import hw_shape

SHAPE = "tiny,sampler=gumbel"


@pytest.fixture
def hwgen(capsys):
    def run(*words, code=0):
        command, *rest = words
        assert main([command, "demo", "--shape", SHAPE, *rest]) == code
        return capsys.readouterr()
    return run


def fault(where, bit):
    """A fault in the middle of a matrix."""
    model = load("demo").shape
    design = Design(model=model, hw=hw_shape(SHAPE, model), recipe=Recipe())
    beat = next(b for b in range(design.stream_beats)
                if WeightFault(b, 5, bit).where(design).split(": ", 1)[1].startswith(where))
    return f"weight:{beat + 30}:5:{bit}"


def test_run_is_what_golden_says(hwgen):
    words = ("run", "--prompt", "She was", "--max-tokens", "8", "--temperature", "0.8", "--seed", "3")
    simulated, golden = hwgen(*words, "--check"), hwgen(*words, "--link", "golden")
    assert simulated.out == golden.out
    assert "every token and signature, cycle and counter equals the golden model's" in simulated.err

    def table(err):
        return [line for line in err.splitlines() if line.startswith("  ")]
    assert table(simulated.err) == table(golden.err) and len(table(golden.err)) == 6


def test_selftest(hwgen):
    assert hwgen("selftest").out.startswith("ok: the tokens, and the residual after each of 5 layers")


def test_selftest_says_when_a_fault_is_not_felt(hwgen):
    last = hwgen("selftest", "--inject", fault("LM head", 6))     # a logit that wins in no pass
    assert last.out.endswith("no pass felt what was injected\n")


@pytest.mark.parametrize("layer, matrix", [(0, "down"), (3, "gate_up")])
def test_selftest_finds_the_layer_and_the_unit_of_a_fault(hwgen, layer, matrix):
    result = hwgen("selftest", "--inject", fault(f"layer {layer}: {matrix},", 6), code=1)
    assert re.search(rf"^pass 0: layer {layer}, entry 0 .* is the first whose signature differs", result.out)
    injected = re.search(rf"injected: (weight beat .*: layer {layer}: {matrix}, output .*)", result.err)[1]
    assert "\nunit: weights\n" in result.out and injected in result.out
    assert re.search(rf"failed: pass 0: layer {layer}, entry 0 .*: weights$", result.err.splitlines()[-1])
