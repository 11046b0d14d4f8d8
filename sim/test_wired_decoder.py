"""A decoder whose matrices are logic, against golden: tokens, signatures, phases and every cycle."""
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


def decoder(changes):
    """(the design, its model, the component)."""
    design = small_design(source="wired", entries=1, **changes)
    quantized = random_model(design)
    return design, quantized, Decoder(design, rom_file=str(image(pack(quantized, design))),
                                      wires=fixed_matrices(quantized, design))


@pytest.mark.nightly
@pytest.mark.parametrize("name", SHAPES)
def test_wired_decoder(name):
    design, quantized, unit = decoder(SHAPES[name])
    steps = list(expected_steps(design, quantized, History(design).steps(6)))
    run(unit, "wired_decoder", "bench_decoder", params={
        "changes": {"source": "wired", "entries": 1, **SHAPES[name]}, "steps": steps, "weights_id": model_id(quantized),
        "refused": list(bus_steps(design, quantized, History(design, 3, operations=0.5, wrong=0.25).steps(14),
                                  SAMPLING))})


@pytest.mark.parametrize("changes, complaint", [
    (dict(entries=2), "Entry count must be 1 where matrices are logic, not 2"),
    (dict(entries=1, dsp_columns=1), "Column count with multipliers must be 0 where matrices are logic, not 1"),
    (dict(entries=1, dsp_pairs=1), "Column pair count with multipliers must be 0 where matrices are logic, not 1"),
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
