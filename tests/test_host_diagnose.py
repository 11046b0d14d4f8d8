"""What the self-test names, on the golden model as a machine with a wrong bit. (sim/test_selftest.py does it with
Verilog.)"""
import copy
import functools

import numpy as np
import pytest

from hwgen.golden.decoder import GoldenDecoder
from hwgen.golden.numbers import fp8_ints
from hwgen.golden.vector_buffer import quantize as codes_of
from hwgen.host.diagnosis.diagnose import diagnose
from hwgen.host.driver import Mismatch, selftest
from hwgen.host.diagnosis.constants import constants
from hwgen.host.diagnosis.faults import (AdapterFault, ConstantFault, FlippingLink, KvFault, WeightFault, WireFault,
                                         parse_fault, rewired)
from hwgen.host.links.golden_link import GoldenLink
from hwgen.models import quantize, random_checkpoint
from hwgen.models.adapter_codes import pack_adapter
from hwgen.lib.wires import registers
from hwgen.models.pack import pack
from hwgen.models.wires import fixed_matrices
from hwgen.params.block import dense
from hwgen.params.tables import rsqrt_table, sigmoid_table
from sim.designs import small_design
from sim.wired_units import serial_sums

SHAPE = dict(lanes=4, columns=4, vector_lanes=2, attention_lanes=4, entries=2, slots=2, kv_block=4, context=16,
             hidden_size=10,
             intermediate_size=12, head_dim=6, vocab_size=29, tie_word_embeddings=False, head="pair",
             weight_format="e4m3")
DESIGN = small_design(**SHAPE)
MODEL = quantize(random_checkpoint(DESIGN.model), DESIGN.recipe)


class Machine(GoldenLink):
    """A golden model with faults in its constants, and a KV memory whose words have the hardware's places."""

    def __init__(self, quantized, faults=(), design=DESIGN):
        super().__init__(design, quantized)
        self._faults = faults

    def run_pass(self, entries):
        with rewired(self.design, self._faults):
            return super().run_pass(entries)

    def flip(self, memory, word, bit):
        layer, head, block, offset, part = KvFault(memory, word, bit).place(self.design)
        slot, = (s for s, table in enumerate(self.decoder.blocks.tables) if block in table)
        position = self.decoder.blocks.tables[slot].index(block) * self.design.hw.kv_block + offset
        row = getattr(self.decoder.kv, memory.replace("exps", "exp"))[layer, slot, position, head:head + 1]
        if memory.endswith("exps"):
            flipped_bit = (int(row[0]) ^ 1 << bit) % 1024
            row[0] = flipped_bit if flipped_bit < 512 else flipped_bit - 1024
        else:
            row[0, part * self.design.hw.attention_lanes + bit // 8] ^= 1 << bit % 8


def found(machine, model=MODEL):
    with machine as link, GoldenLink(machine.design, model) as golden:
        with pytest.raises(Mismatch) as caught:
            selftest(link, golden)
        return caught.value, diagnose(link, model, golden, caught.value)


def named(diagnosis, fault):
    return fault in [s.fault for s in diagnosis.suspects] and {s.explained
                                                               for s in diagnosis.suspects} == {diagnosis.passes}


WEIGHTS = {
    "q": lambda m: (m.layers[1].q.codes, (7, 3)), "k": lambda m: (m.layers[1].k.codes, (2, 5)),
    "v": lambda m: (m.layers[0].v.codes, (4, 1)),
    "o": lambda m: (m.layers[1].o.codes, (9, 8)), "gate": lambda m: (m.layers[0].gate.codes, (11, 9)),
    "up": lambda m: (m.layers[1].up.codes, (0, 2)),
    "down": lambda m: (m.layers[1].down.codes, (3, 11)), "gain 1": lambda m: (m.layers[1].input_gain, (4,)),
    "gain 2": lambda m: (m.layers[0].post_gain, (9,)), "embedding": lambda m: (m.embedding.codes, (7, 6)),
    "embedding, low": lambda m: (m.embedding.lo, (7, 2)),
}


def flipped(model, design, place, bit):
    """The model with that bit of an element wrong, place(model) -> (array, index), and the fault that it is."""
    wrong = copy.deepcopy(model)
    array, at = place(wrong)
    array[at] ^= 1 << bit
    change = pack(wrong, design) ^ pack(model, design)
    change[:design.header_beats] = 0            # the model's digest
    (beat, byte), = np.argwhere(change)
    return wrong, WeightFault(int(beat), int(byte), int(change[beat, byte]).bit_length() - 1)


@pytest.mark.parametrize("which", WEIGHTS)
def test_weights(which):
    wrong, fault = flipped(MODEL, DESIGN, WEIGHTS[which], 5)
    mismatch, diagnosis = found(Machine(wrong))
    assert mismatch.layer == (1 if "layer 1" in fault.where(DESIGN) else 0)
    said = "\n".join([fault.where(DESIGN), *diagnosis.lines()])
    assert diagnosis.unit == "weights" and named(diagnosis, fault) and diagnosis.again, said


NARROW = small_design(**SHAPE | dict(head_dim=8, formats="e4m3,weights=e2m1,head=e4m3", hidden_size=40, tile_beats=2))
NARROW_MODEL = quantize(random_checkpoint(NARROW.model), NARROW.recipe)
OFFSETS = {
    "a code": (lambda m: (m.layers[1].up.codes, (3, 37)), 2),
    "a block": (lambda m: (m.layers[0].gate.blocks, (5, 1)), 0),
    "a block of o": (lambda m: (m.layers[1].o.blocks, (8, 0)), 1),
    "a row of q": (lambda m: (m.layers[0].q.rows, (9,)), 1),
    "a row of down": (lambda m: (m.layers[1].down.rows, (6,)), 0),
    "a row of the embedding": (lambda m: (m.embedding.rows, (7,)), 0)}


@pytest.mark.parametrize("which", OFFSETS)
def test_e2m1_and_offsets(which):
    wrong, fault = flipped(NARROW_MODEL, NARROW, *OFFSETS[which])
    mismatch, diagnosis = found(Machine(wrong, design=NARROW), NARROW_MODEL)
    assert mismatch.layer == (1 if "layer 1" in fault.where(NARROW) else 0)
    said = "\n".join([fault.where(NARROW), *diagnosis.lines()])
    assert diagnosis.unit == "weights" and named(diagnosis, fault) and diagnosis.again, said


@pytest.mark.parametrize("memory, element, bit", [("k_codes", 5, 6), ("v_codes", 2, 5), ("k_exps", None, 1),
                                                  ("v_exps", None, 0)])
def test_kv_memory(memory, element, bit):
    fault = KvFault.at(DESIGN, memory, 1, 0, 0, 2, element, bit)
    machine = Machine(MODEL)
    mismatch, diagnosis = found(FlippingLink(machine, [fault]))
    assert mismatch.layer == 1 and mismatch.number == 2
    said = "\n".join([fault.where(DESIGN), *diagnosis.lines()])
    assert diagnosis.unit == "kv_cache" and named(diagnosis, fault) and not diagnosis.again, said


def residuals(design, model, *faults):
    """Signatures of the prompt's entries after each layer."""
    signatures = []
    with rewired(design, faults):
        GoldenDecoder(design, model).layers([(0, i, (7 + 1009 * i) % design.model.vocab_size) for i in range(8)],
                                            signatures)
    return signatures


def felt(design, model, name, first=0):
    """The first wrong bit of a table, from an entry on, that is felt at all, as a fault."""
    table, right = constants(design)[name], residuals(design, model)
    faults = (ConstantFault(name, entry, table.bits - 1 - bit) for entry in range(first, len(table.entries))
              for bit in range(table.bits) if table.flipped(entry, table.bits - 1 - bit) is not None)
    return next(f for f in faults if residuals(design, model, f) != right)


@pytest.mark.parametrize("name", constants(DESIGN))
def test_constants(name):
    table, fault = constants(DESIGN)[name], felt(DESIGN, MODEL, name, 12 * (name == "rope_low"))
    _, diagnosis = found(Machine(MODEL, [fault]))
    said = "\n".join([fault.where(DESIGN), *diagnosis.lines()])
    assert diagnosis.unit == f"{table.unit}, a constant" and named(diagnosis, fault), said


def test_constants_of_a_softcap():
    """Of the scores; what its line would leave below 0 or beyond the bits of its end is no machine."""
    found = constants(small_design(attn_logit_softcapping=1.0))
    base, slope = (found[f"softcap_{field}"] for field in ("base", "slope"))
    assert len(base.entries) == len(slope.entries) == 256 and base.entries[0] == 0
    assert base.flipped(0, 0).base[0] == 1 and slope.flipped(3, 1).slope[3] == slope.entries[3] ^ 2
    assert slope.flipped(0, slope.bits - 1) is None and base.flipped(255, base.bits - 1) is None
    assert not any("softcap" in name for name in constants(small_design(final_logit_softcapping=1.0)))


def test_constants_of_other_blocks():
    """The table is the activation's own, of a square there is none; nor of RoPE where no layer turns."""
    of_gelu, of_square = (constants(small_design(block=dense(activation=name))) for name in ("gelu", "relu2"))
    assert of_gelu["sigmoid_slope"].entries == sigmoid_table("gelu").slope != sigmoid_table().slope
    assert sorted(set(of_gelu) - set(of_square)) == ["sigmoid_base", "sigmoid_slope"]
    assert sorted(set(of_gelu) - set(constants(small_design(rotary_dim=0)))) == ["rope_high", "rope_low"]


# Blocks that have together what Llama's has not. The projection of "post" is as long as its residual: each unit has
# that table.
BLOCKS = {
    "sandwich": dict(block=dict(norms="sandwich", qk_norm=dict(span="head"), activation="gelu_tanh"),
                     num_attention_heads=1,
                     layer_types=[dict(window=3), dict(rope_theta=100.0)], attn_logit_softcapping=1.0),
    "post": dict(block=dict(norms="post", qk_norm=dict(span="projection"), biased=["q", "v", "down"]), hidden_size=12,
                 layer_types=[dict(window=2, rotary=False), dict()]),
    "parallel": dict(block=dict(parallel=True, gated=False, activation="relu2",
                                biased=["q", "k", "v", "o", "up", "down"],
                                qk_norm=dict(span="head", after_rotary=True)), rotary_dim=4),
}


@functools.cache
def block_model(name):
    design = small_design(**SHAPE | dict(context=8, intermediate_size=8, vocab_size=13) | BLOCKS[name])
    return design, quantize(random_checkpoint(design.model), design.recipe)


#: block, layer of the fault, what has it, which element, bit
ELEMENTS = [
    ("sandwich", 0, "attention_gain", 3, 5), ("post", 1, "q_gain", 8, 5), ("post", 0, "q_bias", 7, 5),
    ("post", 1, "down_bias", 11, 5),
    ("parallel", 0, "input_gain", 7, 5), ("parallel", 1, "q_gain", 5, 4), ("parallel", 1, "up_bias", 4, 5),
]


@pytest.mark.parametrize("name, layer, part, at, bit", ELEMENTS)
def test_weights_of_other_blocks(name, layer, part, at, bit):
    design, model = block_model(name)

    def place(wrong):
        found = getattr(wrong.layers[layer], part)
        return getattr(found, "codes", found), at

    wrong, fault = flipped(model, design, place, bit)
    mismatch, diagnosis = found(Machine(wrong, design=design), model)
    assert mismatch.layer == layer
    assert diagnosis.unit == "weights" and named(diagnosis, fault), "\n".join([fault.where(design), *diagnosis.lines()])


@pytest.mark.parametrize("name, table, first", [("sandwich", "rope_low", 18), ("post", "k_rsqrt_base", 0),
                                                ("sandwich", "softcap_base", 1)])
def test_constants_of_units_of_other_blocks(name, table, first):
    design, model = block_model(name)
    fault = felt(design, model, table, first)
    _, diagnosis = found(Machine(model, [fault], design), model)
    unit = constants(design)[table].unit
    said = "\n".join([fault.where(design), *diagnosis.lines()])
    assert diagnosis.unit == f"{unit}, a constant" and named(diagnosis, fault), said


def test_a_table_is_of_one_unit():
    """Though vectors of queries are as long as the residual."""
    design, _ = block_model("post")
    length, right = design.model.hidden_size, rsqrt_table(design.model.hidden_size)
    with ConstantFault("q_rsqrt_base", 5, 3).changed(design):
        assert rsqrt_table(length) == rsqrt_table(length, "rmsnorm") == right
        assert rsqrt_table(length, "qk_norm") != right
    with ConstantFault("rsqrt_base", 5, 3).changed(design):
        assert rsqrt_table(length, "qk_norm") == right != rsqrt_table(length, "rmsnorm")


def test_a_bit_of_the_kv_memory_within_a_window():
    design, model = block_model("sandwich")
    fault = KvFault.at(design, "v_codes", 0, 0, 0, 2, 3, 6)
    mismatch, diagnosis = found(FlippingLink(Machine(model, design=design), [fault]), model)
    assert mismatch.layer == 0 and diagnosis.unit == "kv_cache" and named(diagnosis,
                                                                          fault), "\n".join(diagnosis.lines())


def test_a_wrong_token_alone():
    """No residual shows it: the units that are left are named, and none of them is accused."""
    wrong = copy.deepcopy(MODEL)
    wrong.final_gain[3] ^= 1 << 15
    mismatch, diagnosis = found(Machine(wrong))
    assert mismatch.layer is None and not diagnosis.suspects
    assert "the final norm, the LM head's weights, or the sampler" in "\n".join(diagnosis.lines())


WIRED = small_design(**SHAPE | dict(entries=1, source="wired", wire_levels=3))
WIRED_MODEL = quantize(random_checkpoint(WIRED.model), WIRED.recipe)


# some matrices are logic, and the others in the stream
NAMED = small_design(**SHAPE | dict(entries=1, source="wired", wire_levels=3, wire_matrices="o+gate_up+head"))


def of_wires(project, layer, kind, number, value, design=WIRED):
    """(`WireFault`, golden machine that has it): its matrix's sums come from registers, cycle by cycle."""
    machine, wires = Machine(WIRED_MODEL, design=design), fixed_matrices(WIRED_MODEL, design)
    matrix, bits, fmt = wires[project, layer], max(other.bits
                                                   for other in wires.values()), design.recipe.activation_format
    word, bit, register = [(word, bit, register) for word, of in registers(matrix.plan).items()
                           for bit, register in enumerate(of) if register[0] == kind][number]
    decoder, matmul = machine.decoder, machine.decoder.matmul
    mine = getattr(decoder.weights[layer], project)

    def wrong(values, weights):
        if weights is not mine:
            return matmul(values, weights)
        x, exp = codes_of(values, fmt)
        x = np.pad(fp8_ints(x, fmt).astype(np.int64), [(0, 0), (0, matrix.size[1] - values.shape[1])])
        return serial_sums(matrix, x, bits, (register, value))[:, :len(mine)].astype(np.float64), exp
    decoder.matmul = wrong
    return WireFault(f"{project}_{layer}.{word}", bit, value), machine


@pytest.mark.parametrize("place", [("qkv", 0, "carry", 30, 1), ("o", 1, "shift", 3, 0), ("gate_up", 0, "sum", 20, 1),
                                   ("down", 1, "delay", 5, 1)], ids=lambda place: place[0])
def test_registers_of_wires(place):
    fault, machine = of_wires(*place)
    _, diagnosis = found(machine, WIRED_MODEL)
    said = "\n".join([fault.where(WIRED), *diagnosis.lines()])
    assert diagnosis.unit == "wired" and named(diagnosis, fault) and diagnosis.again, said


@pytest.mark.parametrize("place", [("o", 0, "carry", 9, 1), ("gate_up", 1, "sum", 20, 0)], ids=lambda place: place[0])
def test_registers_of_named_matrices(place):
    fault, machine = of_wires(*place, NAMED)
    _, diagnosis = found(machine, WIRED_MODEL)
    said = "\n".join([fault.where(NAMED), *diagnosis.lines()])
    assert diagnosis.unit == "wired" and named(diagnosis, fault) and diagnosis.again, said


@pytest.mark.parametrize("which", ["q", "down", "gain 2", "embedding"])
def test_weights_beside_named_matrices(which):
    wrong, fault = flipped(WIRED_MODEL, NAMED, WEIGHTS[which], 5)
    _, diagnosis = found(Machine(wrong, design=NAMED), WIRED_MODEL)
    said = "\n".join([fault.where(NAMED), *diagnosis.lines()])
    assert diagnosis.unit == "weights" and named(diagnosis, fault) and diagnosis.again, said


@pytest.mark.parametrize("matrix", ["v", "down"])
def test_exponents_beside_named_matrices(matrix):
    """Those of matrices that are logic are nobody's."""
    machine, record = Machine(WIRED_MODEL, design=NAMED), "norm_1" if matrix == "v" else "norm_2"
    exps, section = machine.decoder.weights[1].exps, NAMED.stream[record, 1]
    exps[matrix] ^= 2
    _, diagnosis = found(machine, WIRED_MODEL)
    place = section.exponents.index(matrix)
    assert named(diagnosis, WeightFault(section.address, 2 * place, 1)), "\n".join(diagnosis.lines())
    streamed = {i for i, name in enumerate(section.exponents) if name in ("q", "k", "v", "down")}
    assert {s.fault.byte // 2 for s in diagnosis.suspects if s.fault.beat == section.address} <= streamed


@pytest.mark.parametrize("spelling, design, complaint", [
    ("wire:down_0.c0:0:1", NAMED, "one of o_0, gate_up_0, o_1, gate_up_1, head, not 'down_0'"),
    ("wire:down_0.c0:0:1", DESIGN, "add source=wired"), ("wire:down.c0:0:1", WIRED, "one of qkv_0, .*head, not 'down'"),
    ("wire:down_0.c0:0:2", WIRED, "Value of a register must be 0 to 1"),
    ("wire:down_0.y0:0:1", WIRED, "c0 to c.*not 'y0'"), ("wire:down_0.c0:99:1", WIRED, "Bit of down_0.c0 must be 0 to"),
    ("wire:down_0:1", WIRED, "wire:MATRIX.WORD:BIT:VALUE")])
def test_wires_that_are_none(spelling, design, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_fault(spelling, design).check_in(fixed_matrices(WIRED_MODEL, WIRED))


ADAPTED = small_design(**SHAPE | dict(adapters=3, adapter_rank=3))
#: And with an array of 5 bits a code.
FEWER_BITS = small_design(**SHAPE | dict(adapters=3, adapter_rank=3, head="single", attention_lanes=2,
                                     formats="weights=e2m1"))
FEWER_BITS_MODEL = quantize(random_checkpoint(FEWER_BITS.model), FEWER_BITS.recipe)


class AdaptedMachine(GoldenLink):
    """A golden model one of whose adapters is another one than was loaded."""

    def __init__(self, number, change, design=ADAPTED, model=MODEL):
        super().__init__(design, model)
        self.number, self.change, self.fault = number, change, None

    def load_adapter(self, number, quantized):
        if number == self.number:
            wrong = copy.deepcopy(quantized)
            self.change(wrong.parts)
            (beat, byte), = np.argwhere(change := pack_adapter(wrong, self.design)
                                        ^ pack_adapter(quantized, self.design))
            bit = int(change[beat, byte]).bit_length() - 1
            self.fault, quantized = AdapterFault(int(beat) + (number - 1) * self.design.adapter_map.beats,
                                                 int(byte), bit), wrong
        super().load_adapter(number, quantized)


def in_code(part, which, matrix, at, bit):
    def change(parts):
        getattr(parts[part], which)[matrix][at] ^= 1 << bit
    return change


def in_exponent(part, bit):
    def change(parts):
        object.__setattr__(parts[part], "exponent", parts[part].exponent ^ 1 << bit)
    return change


@pytest.mark.parametrize("number, change, told", [
    (1, in_code(("qkv", 1), "a", "v", (1, 2), 7), "layer 1, qkv, A of v, rank 1, input 2, bit 7"),
    (2, in_code(("gate_up", 0), "b", "up", (4, 1), 4), "layer 0, gate_up, B of up, rank 1, output 9, bit 4"),
    (2, in_exponent(("down", 0), 1), "layer 0, down, exponent, bit 1")])
def test_a_wrong_bit_of_an_adapter(number, change, told):
    machine = AdaptedMachine(number, change)
    mismatch, diagnosis = found(machine)
    assert str(mismatch).startswith(f"adapter {number}, pass ") and diagnosis.unit == "adapters"
    assert named(diagnosis, machine.fault), "\n".join(diagnosis.lines())
    assert told in machine.fault.where(ADAPTED) and f"adapter {number}" in machine.fault.where(ADAPTED)


@pytest.mark.parametrize("number, change, told, place", [
    (1, in_code(("qkv", 1), "a", "v", (1, 2), 4), "layer 1, qkv, A of v, rank 1, input 2, bit 4", None),
    (3, in_code(("down", 0), "b", "down", (4, 1), 2), "layer 0, down, B of down, rank 1, output 4, bit 2", None),
    (2, in_exponent(("qkv", 0), 1), "layer 0, qkv, exponent, bit 1", (0, 1)),
    (2, in_exponent(("qkv", 0), 6), "layer 0, qkv, exponent, bit 6", (1, 1))])
def test_a_wrong_bit_of_an_adapter_of_fewer_bits(number, change, told, place):
    machine = AdaptedMachine(number, change, FEWER_BITS, FEWER_BITS_MODEL)
    _, diagnosis = found(machine, FEWER_BITS_MODEL)
    fault = machine.fault
    assert FEWER_BITS.array_format.bits == 5 and place in (None, (fault.byte, fault.bit))
    assert named(diagnosis, fault), "\n".join([fault.where(FEWER_BITS), *diagnosis.lines()])
    assert told in fault.where(FEWER_BITS)


#: Adapters over matrices that are logic, all of them or some.
ADAPTED_WIRES = {which: small_design(**SHAPE | dict(entries=1, source="wired", wire_levels=3, wire_matrices=which,
                                                   adapters=1, adapter_rank=3)) for which in ("all", "o+down")}


@pytest.mark.parametrize("which, change, told", [
    ("all", in_code(("qkv", 1), "a", "v", (1, 2), 7), "layer 1, qkv, A of v, rank 1, input 2, bit 7"),
    ("o+down", in_code(("down", 0), "b", "down", (4, 1), 4), "layer 0, down, B of down, rank 1, output 4, bit 4"),
    ("all", in_exponent(("o", 0), 1), "layer 0, o, exponent, bit 1")])
def test_a_wrong_bit_of_an_adapter_over_logic(which, change, told):
    machine = AdaptedMachine(1, change, ADAPTED_WIRES[which], WIRED_MODEL)
    mismatch, diagnosis = found(machine, WIRED_MODEL)
    assert str(mismatch).startswith("adapter 1, pass ") and diagnosis.unit == "adapters"
    assert named(diagnosis, machine.fault), "\n".join(diagnosis.lines())
    assert told in machine.fault.where(machine.design)


@pytest.mark.parametrize("which, place, late", [
    ("all", ("gate_up", 1, "sum", 20, 1), False), ("all", ("qkv", 0, "carry", 30, 1), True),
    ("o+down", ("down", 1, "delay", 5, 1), True)])
def test_registers_of_wires_below_an_adapter(which, place, late):
    """From the beginning, or ``late``: when adapters are loaded, so that no pass without one shows it."""
    fault, machine = of_wires(*place, ADAPTED_WIRES[which])
    if late:
        wrong, load = machine.decoder.matmul, machine.load_adapter
        del machine.decoder.matmul

        def loaded(*adapter):
            machine.decoder.matmul = wrong
            load(*adapter)
        machine.load_adapter = loaded
    mismatch, diagnosis = found(machine, WIRED_MODEL)
    assert str(mismatch).startswith("adapter 1, pass " if late else "pass ")
    said = "\n".join([fault.where(ADAPTED_WIRES[which]), *diagnosis.lines()])
    assert diagnosis.unit == "wired" and named(diagnosis, fault) and diagnosis.again, said


def test_faults_of_adapters():
    assert parse_fault("adapter:7:2:1", ADAPTED) == AdapterFault(7, 2, 1)
    for spelling, design, complaint in (("adapter:7:2:8", ADAPTED, "Bit of a byte must be 0 to 7"),
                                        ("adapter:7:2:5", FEWER_BITS, "Bit of a byte must be 0 to 4"),
                                        ("adapter:9999:0:0", ADAPTED, "Beat of the adapters' memory"),
                                        ("adapter:0:0:0", DESIGN, "add adapters=1")):
        with pytest.raises(ValueError, match=complaint):
            parse_fault(spelling, design)
