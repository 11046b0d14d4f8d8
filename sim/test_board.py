"""The top that goes onto a board, through its UART pins: passes, texts, noise on the line, and hosts that expect
another machine."""
import dataclasses
import functools
import random

import numpy as np
import pytest

from hwgen.fpga.boards import board
from hwgen.golden.decode_loop import GAP
from hwgen.host.links.board import build_pins, pins_link
from hwgen.host.driver import CheckedLink, Totals, generate
from hwgen.host.links.frames import FramePort
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.lines import NoisyLine, PinsLine
from hwgen.host.links.link import Entry, LinkError
from hwgen.host.links.register_link import RegisterLink
from hwgen.models import ModelError
from hwgen.models.adapter_codes import quantize_adapter, random_adapter
from hwgen.models.adapters import Adapter, LowRank
from hwgen.models.pack import model_id, pack
from hwgen.params.phases import phases
from hwgen.top.board import BUSES, BoardMachine
from sim.boards import CHANGES, DIVISOR
from sim.designs import small_design
from sim.passes import History, bus_steps, random_model, run_step
from sim.runner import run
from sim.weights_units import image

BOARD = board("ulx3s-85f")
DESIGN = small_design(**CHANGES)
MODEL = random_model(DESIGN, 49)        # its text is of several tokens, and some numbers are clipped


@pytest.fixture(scope="module")
def executable():
    return build_pins(BOARD, DESIGN, MODEL, divisor=DIVISOR)


@pytest.fixture
def machine(executable):
    return functools.partial(pins_link, executable, DESIGN, MODEL)


def test_passes_equal_golden(machine):
    with machine() as link:
        checked = CheckedLink(link, GoldenLink(DESIGN, MODEL))
        for step in History(DESIGN, wrong=0.1).steps(15):
            run_step(checked, step)
        assert link._port.repeats == link._port.dropped == 0


def text(link, prompt, count):
    """Greedy tokens, one pass each, in slot 0."""
    tokens = []
    for position in range(len(prompt) + count - 1):
        token = prompt[position] if position < len(prompt) else tokens[-1]
        want = position >= len(prompt) - 1
        result = link.run_pass([Entry(0, position, token, want)])
        if want:
            tokens.append(result.tokens[0])
    return tokens


def test_a_text_that_goes_on_by_itself(machine):
    prompt, count = [3, 1, 4], 9
    golden = GoldenLink(DESIGN, MODEL)
    expected = text(golden, prompt, count)
    with machine() as link:
        for position, token in enumerate(prompt[:-1]):
            link.run_pass([Entry(0, position, token)])
        assert [token for _, token in link.follow([Entry(0, 2, prompt[-1], True)], count - 1)] == expected
        # behind the stop token nothing follows; the last pass's counters are still there
        link.free(0)
        for position, token in enumerate(prompt[:-1]):
            link.run_pass([Entry(0, position, token)])
        stop = expected[4]
        ended = expected[:expected.index(stop) + 1]
        assert [token for _, token in link.follow([Entry(0, 2, prompt[-1], True)], count - 1, stop=stop)] == ended
        golden.reset()
        text(golden, prompt, len(ended) - 1)
        last = golden.run_pass([Entry(0, len(prompt) + len(ended) - 2,
                                      ([*prompt, *ended])[len(prompt) + len(ended) - 2], True)])
        assert link.counters() == list(last.counters.values())
    assert GAP == 2


def test_what_is_clipped_is_known_of_the_prompt_and_of_the_last_pass(machine):
    golden, prompt, counts = GoldenLink(DESIGN, MODEL), [3, 1, 4], []
    for start, part in ((0, prompt[:2]), (2, prompt[2:])):
        result = golden.run_pass([Entry(0, start + i, token, start == 2) for i, token in enumerate(part)])
        counts.append(result.counters["saturated"])
    tokens = [result.tokens[0]]
    while len(tokens) < 9:
        result = golden.run_pass([Entry(0, 2 + len(tokens), tokens[-1], True)])
        tokens.append(result.tokens[0])
        counts.append(result.counters["saturated"])
    with machine() as link:
        prefill, decode = Totals(), Totals()
        assert list(generate(link, prompt, 9, prefill=prefill, decode=decode)) == tokens
    assert [t.counters["saturated"] for t in (prefill, decode)] == [sum(counts[:2]), counts[-1]]
    assert sum(counts[:2]) and counts[-1] and sum(counts[2:]) > counts[-1]


def test_texts_that_go_on_together(machine):
    """Two texts of different length; the one whose slot is full leaves the other alone."""
    prompts = [3, 1, 4, 1, 5, 9], [2]
    golden, expected, counters = GoldenLink(DESIGN, MODEL), [], None
    entries = [Entry(slot, len(prompt) - 1, prompt[-1], True) for slot, prompt in enumerate(prompts)]

    def begin(link):
        for slot, prompt in enumerate(prompts):
            for position, token in enumerate(prompt[:-1]):
                link.run_pass([Entry(slot, position, token)])

    begin(golden)
    going = list(enumerate(entries))
    while going:
        result = golden.run_pass([entry for _, entry in going])
        counters = result.counters
        texts = [(text, entry, result.tokens[i]) for i, (text, entry) in enumerate(going)]
        expected += [(text, token) for text, _, token in texts]
        going = [(text, Entry(entry.slot, entry.position + 1, token, True)) for text, entry, token in texts
                 if entry.position < DESIGN.hw.context - 1]
    assert len(expected) == 11 + 16
    with machine() as link:
        begin(link)
        assert list(link.follow(entries, 99)) == expected
        assert link.counters() == list(counters.values())


ADAPTED = small_design(**CHANGES | dict(lanes=2, hidden_size=6, intermediate_size=6, head_dim=4, adapters=3,
                                        adapter_rank=2))


@pytest.mark.nightly
def test_adapters_over_the_line():
    """Loaded, replaced and mixed between passes; a text goes on by itself with its own; a wrong one changes nothing."""
    model, rng = random_model(ADAPTED, 3), random.Random(4)
    with pins_link(build_pins(BOARD, ADAPTED, model, divisor=DIVISOR), ADAPTED,
                   model) as link, GoldenLink(ADAPTED, model) as golden:
        checked, numbers = CheckedLink(link, golden), [0]
        for count, step in enumerate(History(ADAPTED, 8, operations=0).steps(12)):
            if count % 3 == 0:
                number = 1 + count // 3 % 3
                checked.load_adapter(number, random_adapter(ADAPTED, count))
                numbers.append(number)
            if count % 3 == 1:
                with pytest.raises(ModelError, match="Rank of an adapter must be at most"):
                    link.load_adapter(1, quantize_adapter(Adapter("too large",
                                                                  {"x": LowRank(np.zeros((9, 6)), np.zeros((6, 9)),
                                                                                1.0)}), model, ADAPTED))
            run_step(checked, [dataclasses.replace(entry, adapter=rng.choice(numbers)) for entry in step])
        for other in (link, golden):
            other.reset()
        texts = [list(generate(other, [3, 1], 6, adapter=2)) for other in (link, golden)]
        assert texts[0] == texts[1]
        with pytest.raises(LinkError, match="Adapter must be one that is loaded, not 1"):
            RegisterLink(link._port, ADAPTED, BUSES, model).run_pass([Entry(0, 0, 1, adapter=1)])


def test_noise_on_the_line(machine):
    noisy = []

    def line(pins):
        noisy.append(NoisyLine(pins, drop=0.004, flip=0.004, late=0.1, seed=7))
        return noisy[0]

    prompt = [3, 1, 4]
    with machine(line=line, timeout=0.6, attempts=40) as link:
        assert text(link, prompt, 6) == text(GoldenLink(DESIGN, MODEL), prompt, 6)
        assert link._port.repeats > 2
    assert noisy[0].lost and noisy[0].flipped and noisy[0].delayed


@pytest.mark.parametrize("design, model, complaint", [
    (dataclasses.replace(DESIGN, hw=dataclasses.replace(DESIGN.hw, context=8)), MODEL,
     "The machine has another shape: 2 x 2 multipliers, 2 entries, 2 slots of 16"),
    (dataclasses.replace(DESIGN, model=dataclasses.replace(DESIGN.model, name="other")), MODEL,
     f"built for the model {DESIGN.model.name}, not for other"),
    (DESIGN, random_model(DESIGN, 5), "runs with weights 0x"),
])
def test_another_machine_is_refused(executable, design, model, complaint):
    pins = PinsLine(executable)
    try:
        with pytest.raises(LinkError, match=complaint):
            RegisterLink(FramePort(pins, timeout=30), design, BUSES, model)
    finally:
        pins.close()


@pytest.mark.nightly
def test_pins():
    """On the pins of the machine, bit by bit."""
    design = dataclasses.replace(DESIGN, hw=dataclasses.replace(DESIGN.hw, source="rom"))
    run(BoardMachine(design, divisor=DIVISOR, rom_file=str(image(pack(MODEL, design)))), "board", "bench_board",
        internals=["count"], params={
        "changes": CHANGES | dict(source="rom"), "divisor": DIVISOR, "weights_id": model_id(MODEL),
        "phases": [int(phase) for phase in phases(design.block)],
        "steps": list(bus_steps(design, MODEL, History(design, operations=0.3, wrong=0.2).steps(5)))})
