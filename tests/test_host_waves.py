"""Which signals and cycles a waveform holds, and the files that open it."""
import contextlib
import re

import pytest
from vcd.reader import TokenKind, tokenize

from hwgen.host.links.link import Entry
from hwgen.host.links.machine import simulated
from hwgen.host.links.verilated import TraceError
from hwgen.host.diagnosis.waves import Trace, Window, probed, write_views
from hwgen.lib import verilator
from hwgen.params.phases import phases
from sim.designs import small_design
from sim.passes import random_model

DESIGN = small_design()
VERILOG = """
module dut_memory #(
  parameter DEPTH = 4
) (
  output reg [7:0] data
);
endmodule
module dut_column_l4 (
  input wire clk,
  input wire x__0,
  input wire i__valid
);
  reg sum;
endmodule
module dut (
  input wire clk,
  output wire [3:0] phase,
  input wire command__valid,
  output reg command__ready,
  input wire [63:0] command__payload  // [5:0] position
);
  reg [7:0] left;
  reg [7:0] left_next;
  reg [7:0] stage2;
  reg [32:0] wide;
  wire between;
  reg [7:0] rows [3:0];
  dut_unit unit (
    .clk(clk)
  );
  dut_column_l4 first (
    .clk(clk)
  );
  dut_column_l4 second (
    .clk(clk)
  );
endmodule
module dut_unit (
  input wire clk,
  output wire [7:0] o__payload
);
  dut_unit_skid skid (
    .clk(clk)
  );
endmodule
module dut_unit_skid (
  input wire clk,
  output reg [7:0] o__payload,
  input wire o__ready
);
  reg kept;
  dut_memory #(
    .DEPTH(32'd4)
  ) memory (
    .data(o__payload)
  );
  dut_memory other (
    .data(o__payload)
  );
endmodule
"""


def declared(verilog):
    """{module: names that Verilator traces}."""
    found, on = {}, True
    for line in verilog.split("\n"):
        if mark := re.match(r"/\*verilator tracing_(on|off)\*/", line):
            on, line = mark[1] == "on", line[mark.end():]
        if line.startswith("module "):
            names = found[line.split()[1].split("(")[0]] = set()
        if on and (match := re.search(r"(?:input|output|wire|reg) (?:reg |wire )?(?:\[\d+:0\] )?(\S+?)[,;]?(?: |$)",
                                      line)):
            names.add(match[1])
    return found


def test_named_signals():
    text = probed(VERILOG, "dut")
    assert declared(text) == {"dut_memory": set(), "dut_column_l4": {"i__valid"}, "dut_unit": {"clk", "o__payload"},
                              "dut_unit_skid": {"o__ready", "kept"},
                              "dut": {"clk", "phase", "command__valid", "command__ready", "command__payload", "left"}}
    assert re.sub(r"/\*.*?\*/", "", text) == VERILOG


def test_a_window():
    everything = f"0 {2 ** 64 - 1}"
    numbers = {phase.name.lower(): phase.value for phase in phases(DESIGN.block)}
    assert Window().command() == f"{everything} {everything} {everything} {2 ** 64 - 1}"
    assert Window.parse("passes=1:2,phases=embed+head", DESIGN).command() == (
        f"{everything} 1 2 {everything} {1 << numbers['embed'] | 1 << numbers['head']}")
    assert Window.parse("cycles=7,layers=0:1", DESIGN) == Window(cycles=(7, 7), layers=(0, 1))


@pytest.mark.parametrize("text, complaint", {
    "time=3": "Window must be cycles=LOW:HIGH, .*, not 'time=3'", "": "Window must be",
    "cycles=1,cycles=2": "at most once, not 'cycles=2'",
    "passes=2:1": "Window's passes must be LOW:HIGH or a number, not '2:1'",
    "cycles=-1": "Window's cycles must be LOW:HIGH",
    "phases=nap": "Phases must be of idle, embed, .*, not 'nap'", "phases=": "Phases must be of",
    "layers=9": "Window's layers must be below 2, not '9'",
}.items())
def test_a_wrong_window(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        Window.parse(text, DESIGN)


def test_files_for_viewers(tmp_path):
    save, commands, names, mapping = (path.read_text()
                                      for path in write_views(tmp_path / "x.vcd", VERILOG, "dut", DESIGN))
    head = next(phase.value for phase in phases(DESIGN.block) if phase.name == "HEAD")
    assert f'[dumpfile] "{tmp_path}/x.vcd"' in save
    assert f"^1 {tmp_path}/x.phases.txt\n+{{phase}} TOP.dut.phase[3:0]" in save
    assert ("TOP.dut.command__valid\n+{command__ready} TOP.dut.command__ready\n"
            "@22\n+{command__payload} TOP.dut.command__payload[63:0]") in save
    assert "-unit\n@22\n+{unit.o__payload} TOP.dut.unit.o__payload[7:0]" in save
    assert commands.startswith("variable_add TOP.dut.phase\nitem_focus a_TOP.dut.phase\nitem_set_format x.phases\n")
    assert "divider_add unit\nvariable_add TOP.dut.unit.o__payload\n" in commands
    assert f"{head} head\n" in names and f"\n{head} head\n" in mapping
    assert mapping.startswith("Name = x.phases\nBits = 4\n0 idle\n")


def test_fst_without_its_libraries(tmp_path, monkeypatch):
    (tmp_path / "c++").write_text("#!/bin/sh\necho no lz4.h >&2; exit 1\n")
    (tmp_path / "c++").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(verilator.VerilatorError, match="FST needs the C.. compiler to find lz4 and zlib .*, or write "
                                                       "a .vcd file"):
        verilator.check_fst()


def changes(path):
    """(names, [(time, name, value)]) of a VCD file."""
    scopes, names, found, time = [], {}, [], None
    with open(path, "rb") as file:
        for token in tokenize(file):
            if token.kind is TokenKind.SCOPE:
                scopes.append(token.scope.ident)
            elif token.kind is TokenKind.UPSCOPE:
                scopes.pop()
            elif token.kind is TokenKind.VAR:
                names.setdefault(token.var.id_code, []).append(".".join([*scopes, token.var.reference]))
            elif token.kind is TokenKind.CHANGE_TIME:
                time = token.time_change
            elif token.kind in (TokenKind.CHANGE_SCALAR, TokenKind.CHANGE_VECTOR):
                change = token.scalar_change if token.kind is TokenKind.CHANGE_SCALAR else token.vector_change
                found += [(time, name, int(change.value)) for name in names[change.id_code]]
    return {name for same in names.values() for name in same}, found


@pytest.mark.nightly
def test_a_waveform_says_what_the_link_says(tmp_path):
    trace = Trace(tmp_path / "x.vcd", window=Window(passes=(1, 1)))
    with simulated(DESIGN, random_model(DESIGN), lambda _: contextlib.nullcontext(), trace=trace) as link:
        first, second = (link.run_pass([Entry(0, position, 3)]) for position in (0, 1))
    empty, stages = Trace(tmp_path / "empty.vcd", window=Window(passes=(2, 2))), []
    with pytest.raises(TraceError, match="no cycle was within its window"):
        with simulated(DESIGN, random_model(DESIGN), lambda text: stages.append(text) or contextlib.nullcontext(),
                       trace=empty) as link:
            link.run_pass([Entry(0, 0, 3)])
    assert not stages       # what was built is found without emission
    assert not list(tmp_path.glob("empty*"))
    names, found = changes(trace.path)
    shown = set(re.findall(r"^\+\{.*\} (.*?)(?:\[.*)?$", trace.path.with_suffix(".gtkw").read_text(), re.MULTILINE))
    assert shown <= names and len(shown) > 50
    seen = {name: [(time, value) for time, changed, value in found if changed == f"TOP.top.{name}"]
            for name in ("clk", "command__valid", "phase")}
    start = seen["command__valid"][0][0]
    cycles = {time // 10 for time, _ in seen["clk"]}
    assert start > 10 * first.cycles and len(seen["clk"]) == 2 * len(cycles)
    assert second.cycles < len(cycles) < second.cycles + 50
    said = [(cycle, phase) for (cycle, phase, _), (_, before, _) in zip(second.phases[1:], second.phases)
            if phase != before]
    assert [((time - start) // 10, value) for time, value in seen["phase"]
            if time > start][:len(said)] == said and len(said) > 9
