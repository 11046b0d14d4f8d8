import random
import re
from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator

from hwgen.fpga import files
from hwgen.fpga.families import FAMILIES
from hwgen.fpga.tools import run_tool
from hwgen.lib.verilog import emit_verilog
from hwgen.params.block import QkNorm, dense
from hwgen.params.design import Design
from hwgen.params.formats import E3M4, E4M3
from hwgen.params.model import DEMO
from hwgen.params.presets import hw_shape, recipe
from hwgen.plan import costs
from hwgen.plan.memory import memories, place
from hwgen.top import make
from hwgen.units.mac_column import Column, ColumnPair
from tools import ledger, synth
from tools.fit_costs import changes, fit
from tools.mac_variants import FloatMac, IntColumn


def modules(text):
    return set(re.findall(r"^module (\\\S+|\w+)", text, re.MULTILINE))


def test_units_are_a_partition_of_the_machine():
    text = (ledger.ROOT / "rtl_out" / "specimen" / "specimen.v").read_text()
    units = {unit.name: unit for unit in synth.split(text, "specimen")}
    inside = {}
    for name, unit in units.items():
        boxed = set(re.findall(r"^\(\* blackbox \*\)\nmodule (\\\S+|\w+)", unit.verilog, re.MULTILINE))
        whole = modules(unit.verilog) - boxed
        assert "top" in whole
        for module in whole - {"top"}:
            inside.setdefault(module, set()).add(name)
    once = {module for module, names in inside.items() if len(names) == 1}
    # in whichever unit has memories
    assert {module for module in inside if module not in once} <= {"specimen_block_ram"}
    # All that is in no unit is the top of one, but for the ROM. Vector buffers of one shape are one module.
    buffers = [module for module in modules(text) if "vector_buffer" in module]
    tops = modules(text) - set(inside) - {"specimen_rom"}
    assert len(tops) == len(units) - 3 + len(buffers)       # xa, xo, xh
    assert {name: unit.count for name, unit in units.items() if unit.count > 1} == {"column": 4, "dot": 2,
                                                                                    "numerators": 2}
    assert set(units) <= set(costs.table()["ecp5"])
    assert {name for name, unit in units.items() if not synth.whole(unit)} == {"array", "attention",
                                                                               "decoder", "weights"}


@pytest.mark.parametrize("name, unit", [("convert", make.convert), ("swiglu", make.swiglu)])
def test_estimates_of_units_at_a_shape_that_they_were_not_fitted_to(name, unit, monkeypatch, tmp_path):
    design = Design(model=DEMO, hw=hw_shape("tiny,lanes=8,columns=4,vector_lanes=4,attention_lanes=8", DEMO),
                    recipe=recipe())
    monkeypatch.setattr(synth, "CACHE", tmp_path)
    found = synth.synthesize(synth.Unit(name, emit_verilog(unit(design), "top")), "ecp5")
    estimated = costs.estimate(design, "ecp5")[name]
    for kind in costs.KINDS:
        assert estimated[kind] == pytest.approx(found[kind], rel=0.1, abs=16), kind


def test_lines_go_through_what_they_were_fitted_to():
    designs = [Design(model=DEMO,
                      hw=hw_shape(f"tiny,lanes={lanes},columns={lanes},vector_lanes={v},attention_lanes={lanes}", DEMO),
                      recipe=recipe())
               for lanes, v in ((4, 2), (8, 4), (16, 4))]
    weights = fit([(d, {"rmsnorm": {"LUT": 1000 + 70 * d.hw.vector_lanes, "FF": 0}}) for d in designs],
                  "xilinx7")["rmsnorm"]["LUT"]
    from hwgen.plan.memory import memories, place
    taken = [sum(place(m, "xilinx7").luts for m in memories(d) if m.unit == "rmsnorm") for d in designs]
    found = [sum(w * f for w, f in zip(weights, costs.features("rmsnorm", d, "LUT"))) + t
             for d, t in zip(designs, taken)]
    assert found == pytest.approx([1140, 1280, 1280], rel=0.02)


@pytest.mark.parametrize("fmt", [E3M4, E4M3], ids=str)
def test_the_float_variant_rounds_as_float32(fmt):
    unit, rng = FloatMac(fmt), random.Random(1)
    codes = [code for code in range(256) if fmt.is_finite(code)]

    async def bench(ctx):
        total, inexact = np.float32(0), 0
        for _ in range(150):
            w, x = rng.choice(codes), rng.choice(codes)
            for signals in ({"load": 1, "tile": w}, {"load": 0, "x": x}, {}, {"enable": 1, "keep": 1},
                            {"enable": 0, "keep": 0}):
                for name, value in signals.items():
                    ctx.set(getattr(unit, name), value)
                await ctx.tick()
            exact = float(total) + fmt.int_value(w) * fmt.int_value(x) * 2.0 ** (2 * fmt.unit_exp)
            total = np.float32(exact)
            inexact += float(total) != exact
            assert np.uint32(ctx.get(unit.sum) & (0x7FFFFFFF if total == 0 else 0xFFFFFFFF)).view(np.float32) == total
        assert inexact > 0 or fmt is E3M4

    simulate(unit, bench)


def test_the_integer_variant_is_a_dot_product():
    unit, rng = IntColumn(8), random.Random(2)

    async def bench(ctx):
        weights = [rng.randint(-128, 127) for _ in range(8)]
        ctx.set(unit.load, 1)
        ctx.set(unit.tile, int.from_bytes(np.array(weights, np.int8).tobytes(), "little"))
        await ctx.tick()
        ctx.set(unit.load, 0)
        total = 0
        for _ in range(20):
            x = [rng.randint(-128, 127) for _ in range(8)]
            ctx.set(unit.x, int.from_bytes(np.array(x, np.int8).tobytes(), "little"))
            await ctx.tick().repeat(3)
            ctx.set(unit.enable, 1)
            ctx.set(unit.keep, 1)
            await ctx.tick()
            ctx.set(unit.enable, 0)
            ctx.set(unit.keep, 0)
            total += sum(a * b for a, b in zip(weights, x))
            assert ctx.get(unit.sum) == total

    simulate(unit, bench)


def simulate(unit, bench):
    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_what_a_block_changes_is_fitted_beside_what_llama_has():
    base = costs.table()["ecp5"]
    block = dense(norms="post", qk_norm=QkNorm("projection"))
    designs = [Design(model=replace(DEMO, block=block),
                      hw=hw_shape(f"tiny,lanes={n},columns={n},vector_lanes={v},attention_lanes={n}",
                                                                    DEMO), recipe=recipe())
               for n, v in ((4, 2), (8, 4))]
    found = changes(base, [(d, {"sums": {"LUT": 500 + 100 * d.hw.vector_lanes, "FF": 9000},
                                "residual": {"LUT": 100 * d.hw.vector_lanes, "FF": 9000}}) for d in designs])
    assert set(found) == {"sums", "residual, of normed values"}
    for row, unit, line in (("sums", "sums", found), ("residual, of normed values", "residual", base)):
        for d in designs:
            logic = sum(w * f for w, f in zip(line[unit]["LUT"], costs.features(unit, d, "LUT")))
            logic += 0 if row == unit else sum(w * f for w, f in zip(found[row]["LUT"], costs.growth(row, d)))
            taken = sum(place(m, "ecp5").luts for m in memories(d) if m.unit == unit)
            assert logic + taken == pytest.approx((500 if unit == "sums" else 0) + 100 * d.hw.vector_lanes, abs=1)


def yosys(folder, *lines):
    """Run a script of Yosys; ToolError if it fails."""
    (folder / "test.ys").write_text("\n".join([*lines, ""]))
    run_tool("yosys", "-q", "test.ys", folder=folder, log="test.log")


@pytest.mark.parametrize("family, kind, words, cell", [
    ("gowin5", Column, dict(own=True), "MULT12X12"), ("ecp5", ColumnPair, dict(pairs=True), "MULT18X18D")])
def test_a_multiplier_in_each_lane(family, kind, words, cell, tmp_path):
    """Of a column of its own, and in E4M3, whose factors are narrow, of a pair."""
    fmt = E3M4 if kind is Column else E4M3
    column = kind(weight=fmt, activation=fmt, lanes=2, entries=1, rows=2, acc_bits=48, multipliers=kind is Column)
    (tmp_path / "unit.v").write_text(emit_verilog(column, "top"))
    script = files.synthesis_script(["unit.v"], "", family, **words).splitlines()
    last = max(i for i, line in enumerate(script) if line.startswith("techmap -map"))
    yosys(tmp_path, *script[:last + 1], f"select -assert-count 2 t:{cell}")


def test_the_techmap_of_gw5a_multiplies(tmp_path):
    """All factors of 6 and 5 bits, and the largest product there is, against a model of the block: as Gowin's manual
    (UG1253) has it without registers."""
    (tmp_path / "map.v").write_text(FAMILIES["gowin5"].product)
    model = "module MULT12X12(output signed [23:0] DOUT, input signed [11:0] A, B, input [1:0] CLK, CE, RESET);\n{}\n" \
            "assign DOUT = A * B;\nendmodule\n"
    names = [f'{register}REG_{what}' for register in "ABPO" for what in ("CLK", "CE", "RESET")]
    (tmp_path / "model.v").write_text(model.format("\n".join(f'parameter {name} = "";' for name in names)))
    product = ("module {}(input signed [{}:0] a, input signed [{}:0] b, output signed [{}:0] y); "
               "assign y = a * b; endmodule\n")
    (tmp_path / "products.v").write_text(product.format("gold", 5, 4, 10) + product.format("gate", 5, 4, 10)
                                         + product.format("wide", 10, 10, 20))
    yosys(tmp_path, "read_verilog products.v", "wreduce", "techmap -map map.v gate wide",
          "select -assert-count 2 t:MULT12X12",
          "read_verilog model.v", "hierarchy",
          "proc", "flatten", "miter -equiv -make_assert -flatten gold gate miter", "sat -verify -prove-asserts miter",
          "sat -verify -set a 11'd1024 -set b 11'd1024 -prove y 21'd1048576 wide")
