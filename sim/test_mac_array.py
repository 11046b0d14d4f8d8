"""MacArray on both simulators; all products of each pair of formats."""

import pytest

from hwgen.lib.verilator import lint
from hwgen.lib.verilog import emit_design
from hwgen.params.formats import E3M4
from hwgen.top import make
from hwgen.units.mac_array import ArrayParams
from hwgen.units.mac_column import Column
from sim.designs import small_design
from sim.runner import run, simulators

SHAPES = {
    "smallest": dict(lanes=2, columns=2, vector_lanes=2, entries=1, attention_lanes=2, head_dim=2,
                     num_attention_heads=1,
                     num_key_value_heads=1, hidden_size=2),
    # L < C, rows that are no power of two, one granule per row
    "wide": dict(lanes=4, columns=8, vector_lanes=4, entries=3, tile_beats=2, attention_lanes=4),
    # a stage more in the adder tree, tiles that arrive slowly, slow drain, three kinds of columns
    "deep": dict(lanes=16, columns=8, vector_lanes=2, entries=2, tile_beats=8, head="pair", dsp_columns=3, dsp_pairs=2),
}


def array(shape, sim, **params):
    shape = dict(shape, intermediate_size=512)      # accumulators wide enough for every bench
    run(make.mac_array(small_design(**shape)), "mac_array", "bench_mac_array",
        params={"design": shape, "quick": sim == "icarus", **params}, sim=sim)


@pytest.mark.parametrize("shape", SHAPES)
def test_mac_array(simulator, shape):
    array(SHAPES[shape], simulator)


@pytest.mark.nightly
@pytest.mark.parametrize("formats", ["scales=row", "weights=e2m1"])
def test_offsets_of_rows(formats):
    """They leave with the sums of their tile, in 8 bits and in E2M1."""
    array(dict(SHAPES["wide"], formats=formats, tie_word_embeddings=False), simulators()[-1])


@pytest.mark.parametrize("weight", ["e3m4", "e4m3"])
@pytest.mark.parametrize("activation", ["e3m4", "e4m3"])
def test_products(weight, activation):
    array(dict(lanes=4, columns=4, dsp_columns=1, dsp_pairs=1, entries=4, attention_lanes=4, weight_format=weight,
               activation_format=activation), "verilator",
          products=True)


@pytest.mark.nightly
@pytest.mark.parametrize("activation", ["e3m4", "e4m3"])
def test_products_of_five_mantissa_bits(activation):
    array(dict(lanes=4, columns=4, dsp_columns=1, dsp_pairs=1, entries=4, attention_lanes=4, weight_format="e2m5",
               activation_format=activation), "verilator", products=True)


@pytest.mark.nightly
@pytest.mark.parametrize("blocks", [0, 4, 12])
@pytest.mark.parametrize("activation", ["e3m4", "e4m3"])
def test_products_of_narrow_weights(blocks, activation):
    """E2M1, and the formats that hold its blocks."""
    array(dict(lanes=4, columns=4, dsp_columns=1, dsp_pairs=1, entries=4, attention_lanes=4,
               formats=f"weights=e2m1,scales=matrix,block_range={blocks}", tie_word_embeddings=False,
               activation_format=activation), "verilator", products=True)


@pytest.mark.parametrize("kinds, columns", [(1, {}), (3, dict(dsp_columns=2, dsp_pairs=3))])
def test_each_column_is_written_once(kinds, columns, tmp_path):
    text = emit_design(make.mac_array(small_design(columns=16, entries=1, **columns)), "array")
    assert text.count("\nmodule array_mac_column_") == kinds
    (tmp_path / "array.v").write_text(text)
    lint(tmp_path / "array.v", "array")


@pytest.mark.parametrize("change, complaint", [
    (dict(lanes=3), "Lane count must be a power of two"),
    (dict(acc_bits=20), "Accumulator must have at least 24 bits for 8 lanes, not 20"),
])
def test_column_refuses(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        Column(**{**dict(weight=E3M4, activation=E3M4, lanes=8, entries=1, rows=2, acc_bits=32), **change})


@pytest.mark.parametrize("change, complaint", [
    (dict(vector_lanes=8), "Column count must be a multiple of 8 vector lanes, not 4"),
    (dict(dsp_columns=1, dsp_pairs=2), "Columns with multipliers must be at most all 4, not 1 and 2 pairs"),
])
def test_array_refuses(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        ArrayParams(**{**dict(weight=E3M4, activation=E3M4, lanes=4, columns=4, vector_lanes=2, entries=1, acc_bits=32),
                       **change})
