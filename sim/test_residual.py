import pytest

from hwgen.top import make
from sim.designs import random_changes, small_design
from sim.runner import run, simulators

SHAPES = {
    # one granule in a row, hi and lo codes in successive cycles
    "smallest": dict(entries=1, lanes=2, columns=2, vector_lanes=2, attention_lanes=2, hidden_size=2, head="pair"),
    "pair": dict(entries=2, lanes=8, columns=16, vector_lanes=4, hidden_size=48, head="pair", weight_format="e4m3",
                 activation_format="e4m3"),
    "single": dict(entries=3, lanes=16, columns=4, vector_lanes=4, hidden_size=40, residual_fraction=20),
}

# beside plain sums: what is added, and where
KINDS = {
    "biases": dict(entries=3, lanes=8, columns=8, vector_lanes=4, hidden_size=30, residual_fraction=14, head="pair",
                   block=dict(biased=["o", "down"])),
    "longer": dict(entries=2, lanes=8, columns=8, vector_lanes=4, hidden_size=30, head="pair",
                   tie_word_embeddings=False, head_bias=True,
                   block=dict(biased=["down"], final_bias=True)),
    "bias": dict(entries=1, lanes=2, columns=4, vector_lanes=2, attention_lanes=2, hidden_size=10, head="pair",
                 block=dict(biased=["down"])),
    "normed": dict(entries=3, lanes=8, columns=4, vector_lanes=4, hidden_size=30, head="pair",
                   block=dict(norms="post", biased=["o"])),
    "normed_1": dict(entries=1, lanes=2, columns=2, vector_lanes=2, attention_lanes=2, hidden_size=6,
                     residual_fraction=32,
                     weight_format="e4m3", activation_format="e4m3", block=dict(norms="sandwich")),
    "sums": dict(entries=3, lanes=4, columns=8, vector_lanes=2, attention_lanes=4, hidden_size=30, sums=True,
                 block=dict(norms="post")),
    "biased_sums": dict(entries=1, lanes=8, columns=8, vector_lanes=8, hidden_size=24, sums=True,
                        block=dict(norms="sandwich", biased=["o", "down"])),
}

# sums of rows with offsets of their own; tables in E2M5
OFFSETS = {
    "rows": dict(entries=3, lanes=8, columns=8, vector_lanes=4, hidden_size=30, formats="scales=row",
                 block=dict(biased=["o"])),
    "rows_sums": dict(entries=2, lanes=4, columns=8, vector_lanes=2, attention_lanes=4, hidden_size=30, sums=True,
                      formats="scales=row",
                      block=dict(norms="post")),
    "five_bits": dict(entries=2, lanes=8, columns=16, vector_lanes=4, hidden_size=48,
                      formats="weights=e2m5,down=e2m1,head=pair",
                      activation_format="e4m3"),
}

# the rows of positions behind those of tokens
POSITIONS = {
    "positions": dict(entries=3, lanes=8, columns=8, vector_lanes=4, hidden_size=30, learned_positions=True),
    "positions_pair": dict(entries=1, lanes=2, columns=2, vector_lanes=2, attention_lanes=2, hidden_size=2, head="pair",
                           learned_positions=True),
    "positions_close": dict(entries=2, lanes=4, columns=4, vector_lanes=2, attention_lanes=2, hidden_size=4,
                            learned_positions=True,
                            block=dict(norms="post")),
}


def _run(name, params, simulator):
    shape = {key: value for key, value in params.items() if key != "sums"}
    run(make.residual(small_design(**shape), sums=params.get("sums", False)), f"residual_{name}", "bench_residual",
        params=params, sim=simulator)


@pytest.mark.parametrize("shape", SHAPES)
def test_residual(simulator, shape):
    _run(shape, SHAPES[shape], simulator)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_adds(kind):
    _run(kind, KINDS[kind], simulators()[-1])


@pytest.mark.nightly
@pytest.mark.parametrize("kind", OFFSETS)
def test_offsets_of_rows(kind):
    _run(kind, OFFSETS[kind], simulators()[-1])


@pytest.mark.parametrize("kind", POSITIONS)
def test_positions(kind):
    _run(kind, POSITIONS[kind], simulators()[-1])


def test_rows_that_are_set_are_for_a_norm():
    with pytest.raises(ValueError, match="Block must have post norms"):
        make.residual(small_design(), sums=True)


@pytest.mark.parametrize("seed", range(1))
def test_random_shapes(seed):
    changes = random_changes(seed)
    run(make.residual(small_design(**changes)), "residual_random", "bench_residual", params=changes,
        sim=simulators()[-1], seed=seed)
