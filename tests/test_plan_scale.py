"""The planner at scale: one chip of one array is the machine of the cycle model, and more of anything does what it
should."""
import dataclasses

import pytest

from hwgen.cli import main
from hwgen.golden.sequencer import pass_timeline
from hwgen.params.block import LLAMA, QkNorm, dense
from hwgen.params.model import LLAMA3_8B, LLAMA3_70B, LayerType
from hwgen.params.phases import phases
from hwgen.plan.scale import Scale, _alternate, _half, _shares, outcome, parse, steady_passes
from sim.designs import small_design

MODEL = dataclasses.replace(small_design(hidden_size=64, intermediate_size=96, num_attention_heads=4,
                                         num_key_value_heads=2, vocab_size=512).model,
                            max_position_embeddings=512)
ONE = Scale(model=MODEL, chips=1, arrays=1, lanes=8, columns=8, attention_engines=1, attention_lanes=8, vector_units=1,
            vector_lanes=8, halves=1,
            entries=32, prompt=60, output=4)


_BLOCKS = {"llama": LLAMA, "sandwich": dense(biased=("q", "o", "up"), qk_norm=QkNorm("head"), norms="sandwich"),
           "parallel": dense(parallel=True, gated=False),
           "post": dense(norms="post", activation="relu2")}


@pytest.mark.parametrize("name", _BLOCKS)
def test_one_chip_is_the_machine(name):
    """Each phase takes as long as in a pass of a machine with the same shape: the same twins, asked in another way."""
    model = dataclasses.replace(MODEL, block=_BLOCKS[name],
                                layer_types=(LayerType(window=9),) * MODEL.num_hidden_layers)
    design = small_design(**{f.name: getattr(model, f.name) for f in dataclasses.fields(model)}, lanes=8, columns=8,
                          vector_lanes=8,
                          attention_lanes=8, entries=32, context=64, tile_beats=4, kv_block=16, slots=1)
    entries = next(steady_passes(ONE, 1))[0]
    time = pass_timeline(design, [position for position, *_ in entries], [want for _, want, _ in entries])
    layer, _ = _half(dataclasses.replace(ONE, model=model), entries, 9)
    Phase = phases(model.block)
    starts = [(cycle, phase) for cycle, phase, at in time.phases if at == 1 and phase not in (Phase.NORM_F, Phase.HEAD)]
    ends = [cycle for cycle, *_ in starts[1:]] + [next(c for c, phase, _ in time.phases if phase == Phase.NORM_F)]
    # a phase ends a cycle after its last `done`
    spent = {Phase(phase): end - start - 1 for (start, phase), end in zip(starts, ends)}
    spent[Phase.ATTENTION] += spent.pop(Phase.KV_WRITE)
    counts = [count for engine, count in layer if engine != "links"]
    if model.block.qk_norm:         # behind the array here, in the phase of its matrix there
        counts[1:3] = [counts[1] + counts[2]]
    assert counts == list(spent.values())
    assert all(count == 0 for engine, count in layer if engine == "links")


def test_layers_with_windows_read_less():
    full, half = (outcome(dataclasses.replace(ONE,
                                              model=dataclasses.replace(MODEL,
                                                                        layer_types=(LayerType(),
                                                                                     LayerType(window=window)))), 1)
                  for window in (None, 4))
    assert 0.5 < half.bytes["KV rows read"] / full.bytes["KV rows read"] < 0.75
    assert half.cycles < full.cycles


def test_alternate():
    """Two halves take turns on the engines; one alone is the sum."""
    half = [("a", 10), ("b", 10)] * 3
    assert _alternate([half]) == (60, {"a": 30, "b": 30})
    assert _alternate([half, half]) == (70, {"a": 60, "b": 60})
    assert _alternate([[("a", 5)], [("a", 7)]]) == (12, {"a": 12})


def test_shares():
    shares = _shares(range(103), 8)
    assert sorted(p for share in shares for p in share) == list(range(103))
    assert max(map(sum, shares)) - min(map(sum, shares)) <= 103


@pytest.mark.parametrize("halves", [1, 2])
def test_steady_passes(halves):
    """Over all passes of a text, as many entries and outputs as it has; nobody's position twice in a pass."""
    scale = Scale(entries=870, prompt=384, output=32, halves=halves)
    wanted = entries = 0
    for groups in steady_passes(scale, 64):
        every = [entry for group in groups for entry in group]
        assert len(groups) == halves and len(every) == 870 and len({(p, s) for p, _, s in every}) == 870
        assert max(map(len, groups)) - min(map(len, groups)) <= 2
        entries += len(every)
        wanted += sum(want for _, want, _ in every)
    assert wanted / entries == pytest.approx(32 / (384 + 31), rel=0.01)


def test_more_of_what_binds_is_faster():
    base = Scale(model=LLAMA3_8B, split="tensor", entries=1024)
    found = outcome(base, 2)
    assert found.binds == "links" and found.mac_utilization < 0.2 and sum(share > 1
                                                                          for share in found.busy.values()) == 0
    fast = outcome(dataclasses.replace(base, link_tb_s=100.0, link_us=0.001), 2)
    assert fast.in_out > 2 * found.in_out and fast.binds == "HBM"
    # HBM's time is its bytes over its speed
    assert fast.seconds == pytest.approx(sum(fast.bytes.values()) / 4.8e12)
    free = outcome(dataclasses.replace(base, link_tb_s=100.0, link_us=0.001, hbm_tb_s=100.0), 2)
    assert free.in_out > fast.in_out and free.binds not in ("HBM", "links")


def test_utilization_is_of_useful_products():
    """With one half and nothing else to wait for, the arrays' time is what the products take, and padding."""
    scale = Scale(model=LLAMA3_70B, split="pipeline", halves=1, hbm_tb_s=1000.0, attention_engines=4096,
                  vector_units=4096, entries=1024)
    found = outcome(scale, 1)
    assert 0.9 < found.busy["arrays"] <= 1
    assert 0.93 * found.busy["arrays"] < found.mac_utilization < found.busy["arrays"]


def test_parse():
    assert parse(LLAMA3_8B, "chips=4, clock_ghz=1,split=pipeline") == Scale(model=LLAMA3_8B, chips=4, clock_ghz=1.0,
                                                                            split="pipeline")


def test_program(capsys, tmp_path):
    assert main(["plan", "scale", "--set", "split=pipeline,entries=512", "--sweep", "entries=256:512", "--json",
                 str(tmp_path / "x.json")]) == 0
    out = capsys.readouterr().out
    assert "assumed; not published" in out and "what binds" in out and out.count("HBM\n") == 3
    assert (tmp_path / "x.json").stat().st_size > 2000
