"""A decoder whose matrices are logic, all of them or some, against golden: tokens, signatures, phases and every
cycle."""
import re

import pytest

from hwgen.emit import emit
from hwgen.golden.sequencer import pass_timeline
from hwgen.lib.verilator import lint
from hwgen.models.pack import model_id, pack
from hwgen.models.wires import fixed_matrices
from hwgen.top.decoder import Decoder
from sim.designs import small_design
from sim.passes import SAMPLING, History, bus_steps, expected_steps, random_model
from sim.runner import run
from sim.weights_units import image

SHAPES = {
    "plain": dict(hidden_size=7, intermediate_size=5, vocab_size=19, head_dim=4, attention_lanes=4),
    # offsets of rows and blocks, an LM head of its own, biases, norms of sums
    "formats": dict(formats="weights=e2m1,head=e4m3", tie_word_embeddings=False,
                    block=dict(biased=["q", "o"], norms="sandwich"), columns=16, hidden_size=20,
                    intermediate_size=10, vocab_size=40),
    # one record of a layer for all vectors, which come longer than the first matrix takes
    "vectors": dict(block=dict(biased=["q", "k", "v", "o", "up", "down"], parallel=True,
                               qk_norm=dict(span="projection", after_rotary=False)), hidden_size=2,
                    intermediate_size=3, vocab_size=19, num_attention_heads=3, num_key_value_heads=3, head_dim=28,
                    attention_lanes=4, vector_lanes=2),
}


# some matrices are logic, and the others go through an array
NAMED = {
    # the array has the LM head alone, whose table is tied to it; columns with multipliers
    "head": SHAPES["plain"] | dict(wire_matrices="qkv+o+gate_up+down", dsp_columns=1, dsp_pairs=1),
    # padding of logic's heads leaves during attention; a run without tiles, and one with a single tile
    "gate": dict(wire_matrices="qkv+gate_up+down", hidden_size=3, num_attention_heads=1, num_key_value_heads=1,
                 head_dim=2, attention_lanes=2, intermediate_size=5, vocab_size=19, vector_lanes=2, columns=64,
                 weight_format="e4m3", num_hidden_layers=2),
    # a layer's matrices in the array and the LM head as logic, of pairs; no gate
    "pair": dict(wire_matrices="head+down", head="pair", block=dict(gated=False, activation="relu2"),
                 hidden_size=12, intermediate_size=9, vocab_size=40, weight_format="e4m3"),
    "formats": SHAPES["formats"] | dict(wire_matrices="down+o", formats="weights=e2m1,head=e4m3,layers.1.qkv=e4m3"),
    "narrow": dict(wire_matrices="qkv+head", formats="weights=e2m1", tie_word_embeddings=False, hidden_size=40,
                   intermediate_size=33, vocab_size=21, tile_beats=2),
    # records wait for the phases of their norms
    "vectors": SHAPES["vectors"] | dict(wire_matrices="o+down"),
    "biases": SHAPES["vectors"] | dict(wire_matrices="qkv+gate_up",
                                       block=dict(biased=["q", "k", "v", "o", "up", "down"], norms="sandwich")),
}


def decoder(changes):
    """(the design, its model, the component)."""
    design = small_design(source="wired", entries=1, **changes)
    quantized = random_model(design)
    return design, quantized, Decoder(design, rom_file=str(image(pack(quantized, design))),
                                      wires=fixed_matrices(quantized, design))


def simulate(changes):
    design, quantized, unit = decoder(changes)
    steps = list(expected_steps(design, quantized, History(design).steps(6)))
    run(unit, "wired_decoder", "bench_decoder", params={
        "changes": {"source": "wired", "entries": 1, **changes}, "steps": steps, "weights_id": model_id(quantized),
        "refused": list(bus_steps(design, quantized, History(design, 3, operations=0.5, wrong=0.25).steps(14),
                                  SAMPLING))})


@pytest.mark.nightly
@pytest.mark.parametrize("name", SHAPES)
def test_wired_decoder(name):
    simulate(SHAPES[name])


@pytest.mark.parametrize("name", [name if name == "gate" else pytest.param(name, marks=pytest.mark.nightly)
                                  for name in NAMED])
def test_named_matrices(name):
    simulate(NAMED[name])


@pytest.mark.parametrize("name", ["formats", "narrow"])
def test_named_matrices_change_no_number(name):
    """Tokens and signatures are those of a machine with an array alone, in whose formats sums are kept."""
    changes = {key: value for key, value in NAMED[name].items() if key not in ("wire_matrices", "dsp_columns",
                                                                               "dsp_pairs")}
    designs = [small_design(entries=1, **NAMED[name], source="wired"), small_design(entries=1, **changes)]
    quantized = random_model(designs[0])
    found = [[(step["tokens"], step["signatures"]) for step in
              expected_steps(design, quantized, History(design, operations=0).steps(4))] for design in designs]
    assert found[0] == found[1]


@pytest.mark.parametrize("changes, complaint", [
    (dict(entries=2), "Entry count must be 1 where matrices are logic, not 2"),
    (dict(entries=1, dsp_columns=1), "Column count with multipliers must be 0 where matrices are logic, not 1"),
    (dict(entries=1, dsp_pairs=1), "Column pair count with multipliers must be 0 where matrices are logic, not 1"),
    (dict(entries=2, wire_matrices="o"), "Entry count must be 1 where matrices are logic, not 2"),
    (dict(entries=2, adapters=1), "Entry count must be 1 where matrices are logic, not 2"),
    # the array has these, and continues their sums with an adapter's
    (dict(entries=1, adapters=1, wire_matrices="o+gate_up+down", lanes=16),
     "Lane count must be less than the inputs of qkv with adapters, not 16"),
    (dict(entries=1, wire_matrices="o+gate"),
     "Matrices that are logic must be some of qkv, o, gate_up, down, head, with .* not 'gate'"),
    (dict(entries=1, wire_matrices=""), "Matrices that are logic must be some of .*, not ''"),
    (dict(entries=1, wire_matrices="o+down+o"), r"Matrices that are logic must be named once each, not 'o\+down\+o'"),
    (dict(entries=1, wire_matrices="qkv+down+gate_up+o+head"),
     "Matrices that are logic must be some by name, or all if wire_matrices is left out, not 'qkv"),
])
def test_shapes_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        small_design(source="wired", **changes)


def test_what_has_no_matrices_is_refused():
    design = small_design(source="wired", entries=1)
    for make in (Decoder, lambda design: pass_timeline(design, [0], [True])):
        with pytest.raises(ValueError, match="Matrices must be given"):
            make(design)


def test_it_is_emitted(tmp_path):
    """A table that no LM head is; the memory inside has no matrix."""
    design = small_design(source="wired", entries=1, hidden_size=8, intermediate_size=5, vocab_size=19, head_dim=4,
                          attention_lanes=4, num_hidden_layers=1,
                          tie_word_embeddings=False)
    about = emit(design, random_model(design), tmp_path / "top", name="top")
    lint(tmp_path / "top/top.v", "top")
    assert about["derived"]["head_address"] is None
    assert "head" not in about["weights"] and about["weights"]["parameter"] == "ROM_FILE"
    assert {f"top_wires_{name}" for name in ("qkv_0", "o_0", "gate_up_0", "down_0",
                                             "head")} <= set(re.findall(r"module (\w+)",
                                                                        (tmp_path / "top/top.v").read_text()))
