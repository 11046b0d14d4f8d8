"""The planned die: its cycles are the machine's, its bits are counted, its parts add up, and the published chip's row
comes out."""
import dataclasses
import json
import math

import pytest

from hwgen.cli import main
from hwgen.golden.decode_loop import GAP
from hwgen.golden.sequencer import pass_timeline
from hwgen.params.block import Project, QkNorm, dense
from hwgen.params.model import DEMO, LLAMA3_8B
from hwgen.params.presets import recipe
from hwgen.plan.die import _attention, die, plan
from hwgen.plan.die_logic import TABLE, measured
from hwgen.plan.die_report import as_json, bits_of, of_bits, operations_a_second, report, rows_beside
from hwgen.plan.published import ARITHMETIC, HC1, chips_for, matrix_units
from hwgen.top import make
from model_files import write_folder
from tools import bench_die, bench_emit_die


@pytest.fixture(scope="module")
def llama():
    """As fast as the published chip."""
    return plan(die(LLAMA3_8B, tokens=HC1.tokens))


def small(text="", **changes):
    return plan(die(DEMO, text, **{"tokens": 20_000.0, "context": 256, **changes}))


def test_transistors_are_those_of_the_ledger():
    assert TABLE.read_text() == bench_die.written(bench_die.table())


def test_goal(llama):
    """Fewer transistors a weight than the published chip, at its speed, on one die, with everything."""
    assert llama.per_weight < HC1.transistors / LLAMA3_8B.parameter_count and llama.speed >= HC1.tokens
    assert llama.mm2 < llama.die.field_mm2 and llama.total == sum(llama.transistors.values())
    assert {"ROM", "SRAM, keys and values", "SRAM, adapters", "multipliers", "attention",
            "vectors and control"} < set(llama.transistors)
    assert llama.binds == ("array", "ROM")


def test_bits(llama):
    """Counted by hand: 4 bits a weight, an offset to 32 and a row's to 64; 8 of the embedding; keys and values in 8,
    exponents 10."""
    weights = 32 * (4096 * 4096 * 2 + 2 * 1024 * 4096 + 3 * 14336 * 4096)
    head = 251 * 512 * 4096         # rows in whole tiles of 512
    rom = llama.rom
    assert (rom["matrices"], rom["LM head"], rom["embedding"]) == (4 * weights, 4 * head, 8 * head)
    assert rom["offsets of blocks and rows"] == (weights + head) // 8 + (weights + head) // 16 + 4 * 251 * 512
    assert llama.sram["keys and values"] == 2 * 32 * 8 * 2048 * (128 * 8 + 10)
    assert llama.sram["adapters"] == 5 * 8 * 32 * (2 * (4096 + 4096) + 2 * (1024 + 4096) + 3 * (4096 + 14336))
    assert llama.read == weights + 128256 * 4096


def test_rom_is_that_of_the_grid(llama):
    """Words of the grid that is emitted, as wide as its layout says, are the bits of matrices and head; the embedding's
    offsets are not."""
    rows, tiles, words, design = bench_emit_die.grid(llama)
    bits = rows * tiles * words * make.rom_grid_params(design, words).word_layout.size
    assert bits == sum(llama.rom[what] for what in ("matrices", "LM head",
                                                    "offsets of blocks and rows")) - 4 * 251 * 512


@pytest.mark.parametrize("users", [1, 3])
def test_one_engine_is_the_machine(users):
    """Without more engines and rows of tiles a pass takes what the golden model says of the machine that is emitted."""
    found = small("most_engines=1,position=100", users=users, tokens=3000.0)
    time = pass_timeline(found.design, [100] * users, [True] * users)
    assert found.engines == (1, 1, 1) and found.tiles == 1 and found.pass_cycles == time.counters["cycles"] + GAP
    assert found.cycles["attention"] == time.counters["attention"]
    assert found.cycles["array"] == time.counters["mac_busy"]


def test_engines_share_heads_and_positions():
    of = die(DEMO, tokens=20_000.0, context=256)
    design = of.design(16, 16)
    whole, halves, parts = (_attention(of, design, *choice) for choice in ((1, 1), (2, 1), (2, 4)))
    assert whole > halves > parts
    # a part of the positions is the attention of so many, and three trees of two levels
    shorter = dataclasses.replace(of, position=(of.at + 1) // 4 - 1)
    assert parts == _attention(shorter, design, 2, 1) + 3 * 2 * DEMO.num_hidden_layers


def test_rows_of_tiles_cost_a_register_each_matrix():
    one, four = (small(f"tile_lanes={lanes},tile_columns={lanes}", tokens=200_000.0) for lanes in (64, 4))
    matrices = 1 + DEMO.num_hidden_layers * len(DEMO.block.of(Project))
    assert one.tiles == 1 and four.tiles == four.multipliers // 16 and four.design.hw.lanes > 4
    assert four.cycles["the rest"] - pass_rest(four) == matrices and one.cycles["the rest"] == pass_rest(one)


def pass_rest(found):
    counters = pass_timeline(found.design, [found.die.at], [True]).counters
    return counters["cycles"] + GAP - sum(counters[name] for name in ("attention", "norm", "mac_busy", "mac_starved",
                                                                      "mac_blocked"))


def test_assumptions_change_what_they_say(llama):
    changed = plan(die(LLAMA3_8B, "rom_overhead=0,adapters=0,density=100", tokens=HC1.tokens, context=1024,
                       recipe=recipe("weights=e2m1,block_range=0")))
    assert changed.transistors["ROM"] == sum(changed.rom.values()) < sum(llama.rom.values())
    assert not any("adapters" in part for part in changed.transistors)
    assert changed.mm2 == pytest.approx(changed.total / 1e8)
    assert 2 * changed.transistors["SRAM, keys and values"] == llama.transistors["SRAM, keys and values"]


@pytest.mark.parametrize("formats, expanded", [
    ("weights=e2m1,head=e3m4", True), ("e3m4", False), ("weights=e2m1,head=e3m4,block_range=0", False)])
def test_multipliers_are_of_the_array_s_format(formats, expanded):
    """And have what makes its codes of E2M1 where blocks have offsets."""
    found, multiplier = small(recipe=recipe(formats)), measured()["multipliers"]["e3m4"]
    each = multiplier["transistors"] + 24 * multiplier["FF"] + multiplier["expander"] * expanded
    assert found.transistors["multipliers"] == pytest.approx(1.25 * found.multipliers * each)


def test_logic_of_adapters(llama):
    """Counted by hand: a shifter in each column of each tile, a tile's slice of their memory, the rest once."""
    of, hw = measured()["adapters"], llama.design.hw

    def each(part, size):
        (base, slope), (ff_base, ff_slope) = of[part]["transistors"], of[part]["FF"]
        return base + slope * size + 24 * (ff_base + ff_slope * size)
    columns, bits = llama.multipliers // 64, 5 * 64 * 64
    assert llama.tiles == 64 and llama.design.array_format.bits == 5
    found = (columns * each("column", llama.design.acc_bits + 2) + llama.tiles * each("tiles", bits)
             + each("sums", hw.vector_lanes) + each("xz", hw.lanes) + each("feeder", 1)
             + each("decoder", hw.vector_lanes))
    assert llama.transistors["adapters' logic"] == pytest.approx(1.25 * found)
    assert plan(die(LLAMA3_8B, "adapter_bits=8", tokens=HC1.tokens)).sram["adapters"] == 8 / 5 * llama.sram["adapters"]


def test_what_the_page_says_of_the_machine_with_an_adapter(llama):
    """docs/die.md: its cycles are within the time that is left to them; its memory has whole tiles."""
    design, at = llama.design, [llama.die.at]
    adapted = dataclasses.replace(design, hw=dataclasses.replace(design.hw, adapters=1))
    without, more = (pass_timeline(of, at, [True], adapters=[of.hw.adapters]).counters["cycles"]
                     for of in (design, adapted))
    assert (more - without, llama.pass_cycles) == (5921, 49487)
    assert (more - without) / llama.pass_cycles < llama.die.adapter_time
    assert round(8e-9 * adapted.adapter_map.kept_bytes, 2) == 5.87 and round(1e-9 * llama.sram["adapters"], 3) == 0.105


def test_other_blocks_have_more_units():
    plain, more = (plan(die(dataclasses.replace(DEMO, block=dense(norms=norms, qk_norm=norm)), tokens=20_000.0,
                            context=256))
                   for norms, norm in (("pre", None), ("sandwich", QkNorm("head"))))
    assert more.design.hw == plain.design.hw
    assert more.transistors["vectors and control"] > 1.2 * plain.transistors["vectors and control"]


def test_more_users_take_more_memory():
    one, four = small(), small(users=4)
    assert four.sram["keys and values"] == 4 * one.sram["keys and values"]
    assert four.sram["adapters"] == 4 * one.sram["adapters"]
    assert four.rom["matrices"] >= one.rom["matrices"] and four.speed >= 20_000


def test_published_row(llama):
    published = {what: value for what, value, *_ in rows_beside(llama)}
    assert round(published["transistors a weight"],
                 1) == 6.6 and round(published["million transistors a mm2"], 1) == 65.0
    assert of_bits(llama, bits_of(llama, HC1.transistors)) == pytest.approx(HC1.transistors)
    assert HC1.low_bits < bits_of(llama, HC1.transistors) < HC1.high_bits      # between what it says that it mixes
    assert "beside Taalas HC1" in "\n".join(report(llama)) and "Taalas" not in "\n".join(report(small()))


def test_other_arithmetic(llama):
    transistors, share = matrix_units()
    assert (round(transistors / 1e9, 1), round(share, 3)) == (2.7, 0.034)
    rates = operations_a_second(llama)
    assert rates["this die"] == 2 * llama.speed * llama.read and rates["HC1"] == 2 * 17000 * llama.read
    assert chips_for(3e12, rates["H100"]) == math.ceil(1e8 * ARITHMETIC.tokens_a_word * 3e12 / (0.3 * 989e12))


def test_program(capsys, tmp_path, llama):
    """A configuration without weights, by its name or its folder's; the report, and the same for programs."""
    folder = tmp_path / "model"
    write_folder(folder)
    for path in folder.iterdir():
        if path.name != "config.json":
            path.unlink()
    outs = []
    for model in (folder, folder / "config.json"):
        options = ["--tokens-per-second", "9", "--users", "2", "--set", "clock_ghz=2", "--json",
                   str(tmp_path / "x.json")]
        assert main(["plan", "die", str(model), *options]) == 0
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1] and "2 users" in outs[0] and "2.0 GHz" in outs[0] and "other arithmetic" in outs[0]
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["asked"]["users"] == 2 and written["planned"]["tokens_per_second"] >= 9
    assert all(row["source"] for row in written["assumptions"])
    assert as_json(llama)["planned"]["transistors_per_weight"] == llama.per_weight


def test_name_of_a_preset(capsys):
    assert main(["plan", "die", "Demo", "--tokens-per-second", "20000"]) == 0
    assert ("demo, 256,704 weights: 20,000 tokens/s for each of 1 user, 256 positions, e3m4, weights=e2m1, head"
            in capsys.readouterr().out)
