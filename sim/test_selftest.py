"""The self-test on machines with a wrong bit: which unit it names, over both simulated links, and with no single bit to
name."""
import contextlib
import dataclasses
import random

import pytest

from hwgen.fpga.boards import board
from hwgen.emit import emit
from hwgen.host.links.board import build_pins, pins_link
from hwgen.host.diagnosis.diagnose import diagnose
from hwgen.host.driver import Mismatch, selftest
from hwgen.host.diagnosis.faults import AdapterFault, ConstantFault, KvFault, WeightFault, parse_fault, rewired
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.machine import simulated
from hwgen.params.presets import recipe
from hwgen.plan.stream_map import title
from sim.designs import small_design
from sim.passes import random_model

DESIGN = small_design(lanes=4, columns=4, vector_lanes=2, attention_lanes=4, entries=2, slots=2, kv_block=4, context=16,
                      hidden_size=10,
                      intermediate_size=12, head_dim=6, vocab_size=29)
MODEL = random_model(DESIGN)


@contextlib.contextmanager
def stage(text):
    yield


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """What makes a link of a kind to a machine with faults; what they have in common is made once."""
    folder, made = tmp_path_factory.mktemp("machine") / "top", {}

    @contextlib.contextmanager
    def connect(kind, faults):
        constant = any(isinstance(fault, ConstantFault) for fault in faults)
        if kind == "verilator":
            if not constant and not folder.exists():
                emit(DESIGN, MODEL, folder, name="top")
            link = simulated(DESIGN, MODEL, stage, folder=None if constant else folder, faults=faults)
        else:
            with rewired(DESIGN, faults):
                executable = made.get(constant) or build_pins(board("ulx3s-85f"), DESIGN, MODEL, divisor=4)
            made[constant] = None if constant else executable
            link = pins_link(executable, DESIGN, MODEL, faults=faults)
        with link as connected:
            yield connected
    return connect


def found(connected):
    """What the self-test says of a machine with faults; None if it did not feel them."""
    with connected as link, GoldenLink(DESIGN, MODEL) as golden:
        try:
            selftest(link, golden)
        except Mismatch as mismatch:
            return diagnose(link, MODEL, golden, mismatch)


def names(diagnosis, fault, unit, again=True):
    """Whether it names the unit, and the bit among those of the same effect."""
    return (diagnosis.unit == unit and fault in [s.fault for s in diagnosis.suspects] and diagnosis.again == again
            and {s.explained for s in diagnosis.suspects} == {diagnosis.passes})


def weight(rng):
    return WeightFault(rng.randrange(DESIGN.body_address, DESIGN.final_address), rng.randrange(DESIGN.hw.beat_bytes),
                       rng.randrange(8))


def kv(rng):
    memory, row = rng.choice(("k_codes", "v_codes", "k_exps", "v_exps")), 4 * rng.randrange(4) + rng.randrange(4)
    bits = 10 if memory.endswith("exps") else 8
    return KvFault.at(DESIGN, memory, rng.randrange(2), 0, row // 4, row % 4, rng.randrange(6), rng.randrange(bits))


@pytest.mark.parametrize("link, count", [("verilator", 6), ("sim-uart", 2)])
@pytest.mark.parametrize("kind, unit, again", [(weight, "weights", True), (kv, "kv_cache", False)])
def test_wrong_bits_at_random_places(machine, link, count, kind, unit, again):
    rng, felt = random.Random(1), 0
    for _ in range(count):
        fault = kind(rng)
        diagnosis = found(machine(link, [fault]))
        if diagnosis:
            felt += 1
            assert names(diagnosis, fault, unit, again), "\n".join([fault.where(DESIGN), *diagnosis.lines()])
    assert felt >= count / 3


@pytest.mark.parametrize("memory, offset", [("k_codes", 0), ("v_codes", 3), ("v_exps", 2)])
def test_wrong_bits_of_several_rows(memory, offset):
    """Where attention reads several rows a cycle each of these has memories of its own."""
    design = small_design(lanes=8, columns=4, vector_lanes=2, attention_lanes=8, entries=2, slots=2, kv_block=4,
                          context=16, hidden_size=10, intermediate_size=12, head_dim=6, vocab_size=29, attention_rows=4)
    model = random_model(design)
    fault = KvFault.at(design, memory, 1, 0, 0, offset, 2, 6)
    with simulated(design, model, stage, faults=[fault]) as link, GoldenLink(design, model) as golden:
        with pytest.raises(Mismatch) as mismatch:
            selftest(link, golden)
        assert names(diagnose(link, model, golden, mismatch.value), fault, "kv_cache", again=False)


@pytest.mark.parametrize("link, spelling, unit", [
    ("verilator", "constant:rope_low:8:12", "rope, a constant"),
    ("sim-uart", "constant:sigmoid_base:3:9", "swiglu, a constant")])
def test_a_wrong_constant(machine, link, spelling, unit):
    fault = parse_fault(spelling, DESIGN)
    diagnosis = found(machine(link, [fault]))
    assert names(diagnosis, fault, unit), "\n".join(diagnosis.lines())


def test_several_wrong_bits_are_not_taken_for_one(machine):
    """Two in one matrix, both felt by the first entry: there is no bit to name, and it says so."""
    faults = [WeightFault(body_of("layer 1: down") + beat, byte, 6) for beat, byte in ((0, 1), (1, 2))]
    diagnosis = found(machine("verilator", faults))
    assert diagnosis.unit == "cannot tell the unit" and not diagnosis.suspects
    assert "several are wrong" in "\n".join(diagnosis.lines())


def body_of(part):
    return next(section.address for section in DESIGN.stream if title(DESIGN, section) == part)


@pytest.mark.parametrize("spelling, complaint", [
    ("kv:k_codes:1", "Fault must be"), ("kv:codes:1:1", "KV memory must be one of k_codes"),
    ("kv:k_exps:0:10", "Bit of a word of k_exps must be 0 to 9"),
    ("constant:tanh:1:1", "Table of constants must be one of rsqrt_base"),
    ("constant:exp2:0:99", "Bit of an entry of exp2 must be 0 to 9"),
    ("weight:1:1:8", "Bit of a byte must be 0 to 7")])
def test_faults_that_are_none(spelling, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_fault(spelling, DESIGN)


WIRED = small_design(lanes=4, columns=4, vector_lanes=2, attention_lanes=4, context=16, hidden_size=10,
                     intermediate_size=12, head_dim=6, vocab_size=29, source="wired", entries=1,
                     wire_levels=2)
WIRED_MODEL = random_model(WIRED)


@pytest.mark.nightly
@pytest.mark.parametrize("link", ["verilator", "sim-uart"])
def test_a_register_of_wires(link):
    fault = parse_fault("wire:gate_up_0.c1:7:1", WIRED)
    if link == "verilator":
        connected = simulated(WIRED, WIRED_MODEL, stage, faults=[fault])
    else:
        with rewired(WIRED, [fault]):
            connected = pins_link(build_pins(board("ulx3s-85f"), WIRED, WIRED_MODEL, divisor=4), WIRED, WIRED_MODEL,
                                  faults=[fault])
    with connected as machine, GoldenLink(WIRED, WIRED_MODEL) as golden:
        with pytest.raises(Mismatch) as caught:
            selftest(machine, golden)
        diagnosis = diagnose(machine, WIRED_MODEL, golden, caught.value)
    assert names(diagnosis, fault, "wired"), "\n".join(diagnosis.lines())


NAMED = dataclasses.replace(WIRED, hw=dataclasses.replace(WIRED.hw, wire_matrices="gate_up+o"))


@pytest.mark.nightly
@pytest.mark.parametrize("unit, spelling", [
    ("wired", "wire:gate_up_0.c1:7:1"), ("weights", f"weight:{NAMED.stream['down', 0].address}:2:5")])
def test_a_fault_where_some_matrices_are_logic(unit, spelling):
    fault = parse_fault(spelling, NAMED)
    with (simulated(NAMED, WIRED_MODEL, stage, faults=[fault]) as machine,
          GoldenLink(NAMED, WIRED_MODEL) as golden):
        with pytest.raises(Mismatch) as caught:
            selftest(machine, golden)
        diagnosis = diagnose(machine, WIRED_MODEL, golden, caught.value)
    assert names(diagnosis, fault, unit), "\n".join(diagnosis.lines())


ADAPTED = small_design(lanes=4, columns=4, vector_lanes=2, attention_lanes=4, entries=2, slots=2, context=8,
                       hidden_size=10, intermediate_size=12, head_dim=6,
                       vocab_size=29, num_hidden_layers=1, adapters=1, adapter_rank=2)
#: And with an array of 5 bits a code.
NARROW = dataclasses.replace(ADAPTED, recipe=recipe("weights=e2m1"),
                             model=dataclasses.replace(ADAPTED.model, tie_word_embeddings=False),
                             hw=dataclasses.replace(ADAPTED.hw, attention_lanes=2))
#: And over matrices that are logic.
LOGIC = dataclasses.replace(ADAPTED, hw=dataclasses.replace(ADAPTED.hw, source="wired", entries=1, wire_levels=3))


@pytest.mark.nightly
@pytest.mark.parametrize("link, design", [("verilator", ADAPTED), ("sim-uart", ADAPTED), ("verilator", NARROW),
                                          ("verilator", LOGIC), ("sim-uart", LOGIC)],
                         ids=["verilator", "sim-uart", "5 bits", "over logic", "sim-uart, over logic"])
def test_wrong_bits_of_an_adapter(link, design):
    """At random places of its memory: those that are felt are named."""
    rng, felt, model = random.Random(2), 0, random_model(design)
    for _ in range(8):
        fault = AdapterFault(rng.randrange(design.adapter_map.beats), rng.randrange(design.hw.beat_bytes),
                             rng.randrange(design.array_format.bits))
        connected = (simulated(design, model, stage, faults=[fault]) if link == "verilator" else
                     pins_link(build_pins(board("ulx3s-85f"), design, model, divisor=4), design, model,
                               faults=[fault]))
        with connected as machine, GoldenLink(design, model) as golden:
            try:
                selftest(machine, golden)
                continue
            except Mismatch as mismatch:
                diagnosis = diagnose(machine, model, golden, mismatch)
        felt += 1
        said = "\n".join([fault.where(design), *diagnosis.lines()])
        assert fault in [s.fault for s in diagnosis.suspects] and diagnosis.again, said
    assert felt >= 3
