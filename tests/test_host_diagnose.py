"""What the self-test names, on the golden model as a machine with a wrong bit. (sim/test_selftest.py does it with Verilog.)"""
import copy

import numpy as np
import pytest

from hwgen.golden.decoder import GoldenDecoder
from hwgen.host.diagnose import diagnose
from hwgen.host.driver import Mismatch, selftest
from hwgen.host.faults import ConstantFault, FlippingLink, KvFault, WeightFault, constants, rewired
from hwgen.host.golden_link import GoldenLink
from hwgen.models import quantize, random_checkpoint
from hwgen.models.pack import pack
from hwgen.params.block import dense
from hwgen.params.tables import sigmoid_table
from sim.designs import small_design

DESIGN = small_design(lanes=4, columns=4, vector_lanes=2, attention_lanes=4, entries=2, slots=2, kv_block=4, context=16, hidden_size=10,
                      intermediate_size=12, head_dim=6, vocab_size=29, tie_word_embeddings=False, head="pair", weight_format="e4m3")
MODEL = quantize(random_checkpoint(DESIGN.model), DESIGN.recipe)


class Machine(GoldenLink):
    """A golden model with faults in its constants, and a KV memory whose words have the hardware's places."""

    def __init__(self, quantized, faults=()):
        super().__init__(DESIGN, MODEL)
        self.decoder, self._faults = GoldenDecoder(DESIGN, quantized), faults

    def run_pass(self, entries):
        with rewired(DESIGN, self._faults):
            return super().run_pass(entries)

    def flip(self, memory, word, bit):
        layer, head, block, offset, part = KvFault(memory, word, bit).place(DESIGN)
        slot, = (s for s, table in enumerate(self.decoder.blocks.tables) if block in table)
        position = self.decoder.blocks.tables[slot].index(block) * DESIGN.hw.kv_block + offset
        row = getattr(self.decoder.kv, memory.replace("exps", "exp"))[layer, slot, position, head:head + 1]
        if memory.endswith("exps"):
            row[0] = (int(row[0]) ^ 1 << bit) % 1024 if (int(row[0]) ^ 1 << bit) % 1024 < 512 else (int(row[0]) ^ 1 << bit) % 1024 - 1024
        else:
            row[0, part * DESIGN.hw.attention_lanes + bit // 8] ^= 1 << bit % 8


def found(machine):
    with machine as link, GoldenLink(DESIGN, MODEL) as golden:
        with pytest.raises(Mismatch) as caught:
            selftest(link, golden)
        return caught.value, diagnose(link, MODEL, golden, caught.value)


def named(diagnosis, fault):
    return fault in [s.fault for s in diagnosis.suspects] and {s.explained for s in diagnosis.suspects} == {diagnosis.passes}


WEIGHTS = {
    "q": lambda m: (m.layers[1].q.codes, (7, 3)), "k": lambda m: (m.layers[1].k.codes, (2, 5)), "v": lambda m: (m.layers[0].v.codes, (4, 1)),
    "o": lambda m: (m.layers[1].o.codes, (9, 8)), "gate": lambda m: (m.layers[0].gate.codes, (11, 9)), "up": lambda m: (m.layers[1].up.codes, (0, 2)),
    "down": lambda m: (m.layers[1].down.codes, (3, 11)), "gain 1": lambda m: (m.layers[1].input_gain, (4,)),
    "gain 2": lambda m: (m.layers[0].post_gain, (9,)), "embedding": lambda m: (m.embedding.codes, (7, 6)), "embedding, low": lambda m: (m.embedding.lo, (7, 2)),
}


@pytest.mark.parametrize("which", WEIGHTS)
def test_weights(which):
    wrong = copy.deepcopy(MODEL)
    array, at = WEIGHTS[which](wrong)
    array[at] ^= 1 << 5
    change = pack(wrong, DESIGN) ^ pack(MODEL, DESIGN)
    change[:DESIGN.header_beats] = 0            # the model's digest
    (beat, byte), = np.argwhere(change)
    fault = WeightFault(int(beat), int(byte), int(change[beat, byte]).bit_length() - 1)
    mismatch, diagnosis = found(Machine(wrong))
    assert mismatch.layer == (1 if "layer 1" in fault.where(DESIGN) else 0)
    assert diagnosis.unit == "weights" and named(diagnosis, fault) and diagnosis.again, "\n".join([fault.where(DESIGN), *diagnosis.lines()])


@pytest.mark.parametrize("memory, element, bit", [("k_codes", 5, 6), ("v_codes", 2, 5), ("k_exps", None, 1), ("v_exps", None, 0)])
def test_kv_memory(memory, element, bit):
    fault = KvFault.at(DESIGN, memory, 1, 0, 0, 2, element, bit)
    machine = Machine(MODEL)
    mismatch, diagnosis = found(FlippingLink(machine, [fault]))
    assert mismatch.layer == 1 and mismatch.number == 2
    assert diagnosis.unit == "kv_cache" and named(diagnosis, fault) and not diagnosis.again, "\n".join([fault.where(DESIGN), *diagnosis.lines()])


def residuals(*faults):
    """Signatures of the prompt's entries after each layer."""
    signatures = []
    with rewired(DESIGN, faults):
        GoldenDecoder(DESIGN, MODEL).layers([(0, i, (7 + 1009 * i) % DESIGN.model.vocab_size) for i in range(8)], signatures)
    return signatures


@pytest.mark.parametrize("name", constants(DESIGN))
def test_constants(name):
    """The first wrong bit of each table that is felt at all."""
    table, right = constants(DESIGN)[name], residuals()
    faults = (ConstantFault(name, entry, table.bits - 1 - bit) for entry in range(12 * (name == "rope_low"), len(table.entries))
              for bit in range(table.bits) if table.flipped(entry, table.bits - 1 - bit) is not None)
    fault = next(f for f in faults if residuals(f) != right)
    _, diagnosis = found(Machine(MODEL, [fault]))
    assert diagnosis.unit == f"{table.unit}, a constant" and named(diagnosis, fault), "\n".join([fault.where(DESIGN), *diagnosis.lines()])


def test_constants_of_other_activations():
    """The table is the activation's own; a square has none."""
    of_gelu, of_square = (constants(small_design(block=dense(activation=name))) for name in ("gelu", "relu2"))
    assert of_gelu["sigmoid_slope"].entries == sigmoid_table("gelu").slope != sigmoid_table().slope
    assert sorted(set(of_gelu) - set(of_square)) == ["sigmoid_base", "sigmoid_slope"]


def test_a_wrong_token_alone():
    """No residual shows it: the units that are left are named, and none of them is accused."""
    wrong = copy.deepcopy(MODEL)
    wrong.final_gain[3] ^= 1 << 15
    mismatch, diagnosis = found(Machine(wrong))
    assert mismatch.layer is None and not diagnosis.suspects
    assert "the final norm, the LM head's weights, or the sampler" in "\n".join(diagnosis.lines())
