"""Pages point at what exists, and at each other."""
import json
import re
from pathlib import Path

import pytest

from hwgen.cli import main
from hwgen.commands.run import BESIDE
from hwgen.golden.sequencer import pass_timeline
from hwgen.models import load
from hwgen.params.block import Project
from hwgen.params.design import Design
from hwgen.params.phases import phases
from hwgen.params.presets import hw_shape, recipe
from tools import bench_shapes, docs_check, draw_cost, draw_halves, draw_layer, draw_machine, draw_peers, ledger

#: Four cycles of a machine whose array has no signal o__ready.
WAVEFORM = """$scope module top $end
$var wire 1 ! clk $end
$var wire 2 " phase [1:0] $end
$var wire 1 # layer $end
$scope module array $end
$var wire 1 $ x__valid $end
$var wire 1 % x__ready $end
$upscope $end
$upscope $end
$enddefinitions $end
#0
0!
b00 "
1#
0$
1%
#5
1!
#10
0!
b01 "
#15
1!
#20
0!
1$
#25
1!
#30
0!
b10 "
0%
#35
1!
#40
0!
0#
#45
1!
"""
ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page):
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", CODE.sub("", page.read_text(encoding="utf-8")))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page):
    named = re.findall(r"`((?:hwgen|sim|tests|tools|docs|fpga)/[\w./]+\.(?:py|md|cpp))`",
                       page.read_text(encoding="utf-8"))
    examples = re.compile(r"NAME|[/_]x\.")
    assert [name for name in named if not examples.search(name) and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_waits_to_be_filled_in(page):
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    assert re.findall(r"@[A-Z_]{2,}@|\b(?:TODO|FIXME|TBD|XXX)\b", text) == []


def test_a_command_prints_what_its_page_shows(capsys):
    """One that takes no simulator; `make docs-check` runs all."""
    found = {session.command: session for session in docs_check.sessions()}
    session = found["hwgen plan engines smollm2-135m --shape batch-32x32 --position 200"]
    assert len(found) >= 5 and main(session.command.split()[1:]) == 0
    assert docs_check.difference(session.shown, capsys.readouterr().out) is None


def test_pictures_are_what_their_commands_draw():
    assert draw_machine.FILE.read_text(encoding="utf-8") == draw_machine.svg(), "run: python -m tools.draw_machine"
    drawn = bench_shapes.svg(ledger.load("shapes.json"))
    assert bench_shapes.FILE.read_text(encoding="utf-8") == drawn, "run: python -m tools.bench_shapes --draw"
    drawn = draw_cost.svg(ledger.load("synth.json"))
    assert draw_cost.FILE.read_text(encoding="utf-8") == drawn, "run: python -m tools.draw_cost"
    assert draw_peers.FILE.read_text(encoding="utf-8") == draw_peers.svg(), "run: python -m tools.draw_peers"


def test_the_picture_of_half_batches_is_what_its_command_draws():
    assert draw_halves.FILE.read_text(encoding="utf-8") == draw_halves.svg(), "run: python -m tools.draw_halves"


@pytest.mark.parametrize("halves", [1, 2])
def test_the_picture_of_half_batches_has_all_cycles_of_the_engines(halves):
    spans, timeline = draw_halves.spans(halves)
    drawn = [sum(end - start for row, _, _, start, end in spans if draw_halves.ROWS[row] == name)
             for name in draw_halves.ROWS[1:]]
    assert drawn == [timeline.counters["norm"], timeline.counters["attention"]]


def recorded():
    """What was recorded of the RTL for the picture of a layer, and the same machine's `Design`."""
    model = load("mini", need_tokenizer=False).shape
    return (json.loads(draw_layer.DATA.read_text(encoding="utf-8")),
            Design(model=model, hw=hw_shape("tiny", model), recipe=recipe()))


def test_the_picture_of_a_layer_is_what_its_command_draws():
    drawn = draw_layer.svg(recorded()[0])
    assert draw_layer.FILE.read_text(encoding="utf-8") == drawn, "run: python -m tools.draw_layer"


def test_the_recorded_layer_is_the_golden_models():
    data, design = recorded()
    found = [(start, phases(design.block)(phase).name.lower(), layer)
             for start, phase, layer in pass_timeline(design, [1], [True]).phases]
    first = next(start for start, name, layer in found if (name, layer) == ("norm_1", draw_layer.LAYER))
    assert data["phases"] == [[start - first, name] for start, name, layer in found if layer == draw_layer.LAYER]
    matrices = [design.stream[project.name, draw_layer.LAYER].matmul for project in design.block.of(Project)]
    moved = [sum(valid and ready for valid, ready in draw_layer.bits(data, f"array.{end}")) for end in "xo"]
    assert moved == [sum(matmul.n_tiles * matmul.k_tiles for matmul in matrices),
                     sum(matmul.n_tiles for matmul in matrices) * design.hw.columns // design.hw.vector_lanes]


def test_a_waveform_is_read(tmp_path):
    (tmp_path / "x.vcd").write_text(WAVEFORM)
    data = draw_layer.read(tmp_path / "x.vcd", {0: "down", 1: "norm_1", 2: "qkv"})
    assert (data["cycles"], data["phases"]) == (3, [[0, "norm_1"], [2, "qkv"]])
    assert data["streams"]["array.x"] == {"valid": "011", "ready": "110"}
    assert data["streams"]["array.o"] == {"valid": "000", "ready": "111"}


def test_a_picture_of_units_that_are_not_all_is_refused():
    some = [entry for entry in ledger.load("synth.json") if entry["name"] != "4x4/rope/ecp5 LUT"]
    with pytest.raises(ledger.LedgerError, match="must make up"):
        draw_cost.svg(some)


@pytest.mark.parametrize("shown, missing", [(["a", "c"], None), (["c", "a"], "a"), (["a", "x"], "x"),
                                            (["a", "a"], "a")])
def test_a_line_that_does_not_come_is_found(shown, missing):
    assert docs_check.difference(shown, "a\nb\nc\n") == missing


def test_the_glossary_says_where():
    rows = [line for line in (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
            if line.startswith("| ")]
    places = [re.fullmatch(r"\| .+ \| .+ \| (?:in code|`([\w/.]+)`: `(\w+)`) \|", row) for row in rows]
    assert [row for row, place in zip(rows, places) if not place] == []
    assert [place[0] for place in places if place[1]
            and not re.search(rf"\b{place[2]}\b", (ROOT / place[1]).read_text(encoding="utf-8"))] == []


def test_index_has_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert sorted(page for page in pages if f"({page})" not in index) == []


def test_readme_shows_what_the_demo_writes(capsys):
    """The golden model's text and cycles, which `hwgen demo` compares the machine with, are those that the README
    shows."""
    assert main(["demo", "--link", "golden"]) == 0
    shown = capsys.readouterr()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first, others = shown.out[:-1].rsplit("\n", len(BESIDE) + 1)[0], shown.out.splitlines()[-len(BESIDE) - 1:]
    ended, = (line for line in shown.err.splitlines() if line.startswith("ended "))
    assert f"{first}\n{ended}\n{len(BESIDE) + 1} texts at once\n" + "\n".join(others) + "\n" in readme
    assert "".join(others[0].split()) in "".join(first.split())        # the same text, alone and in a batch
    table = [line.rstrip() for line in shown.err.splitlines() if line.startswith("  ")]
    assert len(table) == 6 and "\n".join(table) in readme
