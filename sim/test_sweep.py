"""`make sweep` runs random decoders for hours: here what it draws, one that it builds, and that it finds what is
wrong."""
import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwgen.golden.admission import admit_pass
from hwgen.golden.kv_cache import KvBlocks
from hwgen.host.driver import Mismatch
from hwgen.host.diagnosis.faults import ConstantFault, rewired
from hwgen.params.block import Block
from hwgen.params.errors import ErrorCode
from hwgen.params.formats import FORMATS
from hwgen.params.hardware import HwShape
from sim import sweep
from sim.designs import small_design
from sim.passes import History, Operation
from sim.runner import ROOT
from sim.sweep import CHOICES, DRAWN, Case, Refused, draw, play, undrawn
from tools import sweep as tool

#: The smallest machine there is, of the other parameters whatever is drawn.
SMALL = dict(
    lanes=2, columns=2, vector_lanes=2, attention_lanes=2, tile_beats=1, entries=1, halves=1, slots=1, context=6,
    kv_block=2, kv_blocks=0,
    dsp_columns=0, dsp_pairs=0, adapters=0,
    max_position_embeddings=6, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=2,
    rotary_dim=None, rope_scaling=None, layer_types=[], hidden_size=4, intermediate_size=3, vocab_size=5,
    bos_token_id=None,
    eos_token_ids=(), block={}, head_bias=False, scales="matrix", overrides=[], block_range=None)


def small(number, play=(), axi=None, **changes):
    case = draw(1, number)
    return Case(case.changes | SMALL | changes, axi, case.play | dict(bus=axi is not None, end=False, reset=False)
                | dict(play))


# -- what is drawn

def test_every_parameter_is_drawn():
    assert undrawn() == []


def test_a_new_parameter_is_missed():
    new = dataclasses.make_dataclass("HwShape", [("colour", str, "red")], bases=(HwShape,), frozen=True, kw_only=True)
    block = dataclasses.make_dataclass("Block", [("experts", int, 1)], bases=(Block,), frozen=True)
    assert undrawn({new: DRAWN[HwShape]}, block) == ["Block.experts", "HwShape.colour"]


@pytest.mark.parametrize(("of", "name"), CHOICES, ids=lambda value: getattr(value, "__name__", value))
def test_every_word_is_drawn(of, name):
    with pytest.raises(ValueError) as refused:
        of(**{name: 7 if name == "halves" else "?"})
    said = str(refused.value).partition(" must be ")[2].partition(", not ")[0]
    assert set(re.findall(r"\w+", said)) - {"or", "one", "of"} == set(map(str, CHOICES[of, name]))


def accepted(count):
    """Cases, how many are not refused, and the refusals."""
    cases, refusals = [draw(2, number) for number in range(count)], []
    for case in cases:
        try:
            case.design()
        except Refused as refused:
            refusals.append(str(refused))
    return cases, count - len(refusals), refusals


def test_what_is_drawn():
    """A third of the draws at least are machines, the others are refused in one line; fields take several values."""
    cases, machines, refusals = accepted(250)
    assert machines > 83 and refusals and not any("\n" in said for said in refusals)
    for name in set(cases[0].changes):
        values = {repr(case.changes[name]) for case in cases}
        assert len(values) >= (len(FORMATS) if name.endswith("_format") else 2), name
    assert {case.axi and case.axi["host"] for case in cases} == {None, "stream", "queue"}


def test_a_draw_depends_on_its_numbers_alone():
    cases = [draw(3, number) for number in range(20)]
    assert cases == [draw(3, number) for number in range(20)] != [draw(4, number) for number in range(20)]


# -- machines

def test_a_machine(tmp_path):
    counts = play(small(1, {"wrong": 0.1, "stall": 0.0, "weights": "usual"}, source="stream", kv_ecc=False), tmp_path)
    assert counts["passes"] >= 12 and counts["refusals"] and counts["cycles"]


@pytest.mark.nightly
@pytest.mark.parametrize("host", ["stream", "queue"])
def test_a_machine_on_buses(host, tmp_path):
    axi = dict(data_width=32, address_width=40, burst=4, prefetch=16, outstanding=2, host=host)
    driven = {"wrong": 0.3, "stall": 0.2, "latency": 30, "flips": 2, "reset": True, "weights": "odd"}
    counts = play(small(2, driven, axi, source="stream", kv_ecc=True, entries=3, slots=2, sampler="gumbel"), tmp_path)
    assert counts["passes"] >= 12 and counts["refusals"] and counts["corrected"]


@pytest.mark.nightly
@pytest.mark.parametrize("host", [None, "stream", "queue"])
def test_a_machine_with_adapters(host, tmp_path):
    axi = host and dict(data_width=32, address_width=40, burst=4, prefetch=16, outstanding=2, host=host)
    driven = {"wrong": 0.1, "stall": 0.0, "latency": 30, "weights": "usual", "adapted": 0.7, "loads": 0.3}
    counts = play(small(1, driven, axi, source="stream", kv_ecc=False, entries=3, slots=3, adapters=3, adapter_rank=2,
                        head_dim=4, intermediate_size=6), tmp_path)
    assert counts["passes"] >= 12 and counts["adapted"] and counts["loads"]


@pytest.mark.nightly
@pytest.mark.parametrize("matrices", ["all", "o+gate_up"])
def test_a_machine_with_adapters_over_logic(matrices, tmp_path):
    driven = {"wrong": 0.1, "stall": 0.0, "weights": "usual", "adapted": 0.7, "loads": 0.3}
    counts = play(small(1, driven, source="wired", wire_levels=1, wire_matrices=matrices, kv_ecc=False, slots=3,
                        adapters=3, adapter_rank=2, head_dim=4, intermediate_size=6, hidden_size=6), tmp_path)
    assert counts["passes"] >= 12 and counts["adapted"] and counts["loads"]


@pytest.mark.nightly
def test_a_broken_unit_is_found(tmp_path, monkeypatch):
    """One wrong bit in a table of the RTL."""
    case = small(1, {"weights": "usual"}, source="rom", kv_ecc=False, residual_fraction=16)
    fault, emit = ConstantFault("reciprocal_base", 0, 12), sweep.emit

    def broken(*args, **more):
        with rewired(case.design()[0], [fault]):
            return emit(*args, **more)
    monkeypatch.setattr(sweep, "emit", broken)
    with pytest.raises(Mismatch, match=r"signature differs(.|\n)*step \d+ of the history(.|\n)*signatures: item 0"):
        play(case, tmp_path)


@pytest.mark.parametrize(("blocks", "refused"), [(22, True), (23, True), (25, False)])
def test_an_end_in_which_slots_give_blocks_back(blocks, refused):
    """Five slots that need five blocks on the way, and four in the end."""
    design = small_design(slots=5, entries=2, context=40, kv_block=8, kv_blocks=blocks, sliding_window=26,
                          max_position_embeddings=40)
    assert design.most_blocks(40) == 5 and design.positions_kept == 27
    golden = KvBlocks(design)
    for seed in range(20):
        found = set()
        for step in History(design, seed).end():
            if not isinstance(step, Operation):
                found |= set(admit_pass(design, golden, [(e.slot, e.position, e.token) for e in step]).errors.values())
            else:
                golden.operate(*step)
        assert (ErrorCode.NO_BLOCK in found) == refused


# -- many

class Cases:
    """Stands for `tools.sweep.apart`: cases by number, and which were run."""

    def __init__(self, **results):
        self.results, self.ran = results, []

    def __call__(self, seed, number):
        self.ran.append(number)
        return {"case": number, "result": self.results.get(f"n{number}", "equal"), "said": ["A 1 must be 2"],
                "passes": 3, "seconds": 1.0,
                "commit": tool.ledger.commit()}


def swept(monkeypatch, record, cases, count):
    said = []
    monkeypatch.setattr(tool, "apart", cases)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        tool.sweep(record, 1, pool, 1, time.monotonic() + 60, count, said.append)
    return said


def test_a_sweep_goes_on(tmp_path, monkeypatch):
    path, first, then = tmp_path / "seed-1.jsonl", Cases(n1="differs", n2="refused"), Cases()
    said = swept(monkeypatch, tool.Record(path), first, 4)
    path.write_text(path.read_text() + '{"case": 4, "resu')       # cut off
    again = tool.Record(path)
    assert first.ran == [0, 1, 2, 3] and said[0].startswith("case 1 differs")
    assert again.wrong() == [1] and again.refusals() == [("A N must be N", 1)]
    swept(monkeypatch, again, then, 3)
    assert then.ran == [1, 4, 5] and again.total()["equal"] == 5 and again.total()["passes"] == 15 and not again.wrong()


def test_counts_are_added_to_those_of_the_cases_before(tmp_path, monkeypatch):
    monkeypatch.setattr(tool.ledger, "RESULTS", tmp_path)
    before, behind = tool.Record(tmp_path / "seed-1.jsonl"), tool.Record(tmp_path / "elsewhere.jsonl")
    for number in (0, 1, 2, 4):         # 3 was stopped
        before.add(Cases(n1="refused")(1, number))
    monkeypatch.setattr(tool, "apart", Cases(n3="refused"))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        tool.sweep(behind, 1, pool, 1, time.monotonic() + 60, 4, print, 3)
    assert sorted(behind.cases) == [3, 4, 5, 6]

    def kept():
        return {entry["name"]: entry["value"] for entry in tool.ledger.load("sweep.json")}
    with pytest.raises(SystemExit, match="Recorded must be the first 3 cases of seed 1 for --first 3, not 0$"):
        tool.keep(behind, 1, 3)
    tool.keep(before, 1)
    assert kept() == {"sweep_shapes": 2, "sweep_refused": 1, "sweep_failures": 0, "sweep_passes": 6, "sweep_cycles": 0}
    for seed, first in (1, 4), (2, 3):
        with pytest.raises(SystemExit, match=f"first {first} cases of seed {seed} .* not 3 of: .* --seed 1 --record"):
            tool.keep(behind, seed, first)
    tool.keep(behind, 1, 3)
    assert kept() == {"sweep_shapes": 5, "sweep_refused": 2, "sweep_failures": 0, "sweep_passes": 15, "sweep_cycles": 0}
    assert not any(entry.get("sources") for entry in tool.ledger.load("sweep.json"))


def test_another_commit_is_refused(tmp_path, monkeypatch):
    cases = Cases()
    with pytest.raises(SystemExit, match="Workers must run commit"):
        swept(monkeypatch, tool.Record(tmp_path / "seed-1.jsonl"),
              lambda seed, number: cases(seed, number) | {"commit": "0000000000"}, 1)


def test_what_does_not_end_or_breaks_is_wrong(monkeypatch):
    monkeypatch.setattr(tool, "LIMIT", 0.2)
    assert tool.apart(1, 0)["said"][0] == "no end within 0.2 s"
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert tool.apart(1, 0)["said"][0] == "ended with code 1"


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_leaves_no_process(number):
    command = [sys.executable, "-m", "tools.sweep", "--seed", "999999999", "--time", "300", "--jobs", "1", "--fresh"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while not (started := children(process.pid)):
            time.sleep(0.1)
        time.sleep(3)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped: the next call goes on here" in out
    assert not any(children(pid) or alive(pid) for pid in started)


def children(pid):
    """Processes that a process has started from its threads."""
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def alive(pid):
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("30m", 1800), ("8h", 28800)])
def test_times(text, value):
    assert tool.seconds(text) == value


@pytest.mark.nightly
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None,
                    reason="Dask is an extra: pip install -e '.[cluster]'")
def test_two_workers_of_dask(tmp_path):
    """Two processes that share nothing with this one. Refused cases, for they take no time."""
    from distributed import LocalCluster
    refused = [number for number in range(200) if refuses(number)][:4]
    record = tool.Record(tmp_path / "seed-1.jsonl")
    record.numbers = lambda: iter(refused)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with tool.on_dask(cluster.scheduler_address) as (pool, jobs):
            tool.sweep(record, 1, pool, jobs, time.monotonic() + 200, 4, print)
    assert jobs == 2 and sorted(record.cases) == refused and record.total()["refused"] == 4


def refuses(number):
    try:
        draw(1, number).design()
    except Refused:
        return True
    return False
