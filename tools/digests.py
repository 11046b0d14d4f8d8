"""Digests of what the ledger's numbers depend on: ``python -m tools.digests`` writes tools/digests.json.

A number of the RTL depends on the Verilog that is emitted, not on the Python that emits it; a number of the golden
model on the values and cycles that the model predicts. Both are kept as digests of small fixed cases, which a test
makes again, so refactoring makes no number old:

- ``rtl:NAME``: the Verilog of a machine, without comments
- ``unit:NAME``: the modules of hwgen/units/NAME.py in the first of these machines that has them, and the parts of
  hwgen/lib in them
- ``golden:cycles``, ``golden:values``, ``golden:adapters``, ``golden:plan``: predictions for small designs
- ``board:NAME``: all Verilog of a board's bitstream, as in fpga/NAME/report.json
- ``file:PATH``: a file's data; ``code:PATH``: a module's syntax tree without docstrings

`ledger.record` stores the digests of `depends` in each entry; `tools.stale` compares them.
"""
import ast
import functools
import hashlib
import json
import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

__all__ = ["FILE", "MACHINES", "boards_of", "committed", "depends", "meaning", "now", "quick", "spelled", "units",
           "verilog"]

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "tools" / "digests.json"
_COMMENT = re.compile(r"/\*.*?\*/|[ \t]*//[^\n]*", re.DOTALL)
_MODULE = re.compile(r"^// Source: (?P<source>\S+?)(?:,[^\n]*)?\n(?P<text>module (?P<name>\w+).*?^endmodule\n)",
                     re.MULTILINE | re.DOTALL)
#: A model and a shape that are emitted in seconds.
SMALL = dict(lanes=2, vector_lanes=2, attention_lanes=2, tile_beats=1, context=16, kv_block=2, hidden_size=6,
             intermediate_size=6, num_attention_heads=1, num_key_value_heads=1, head_dim=4, vocab_size=11,
             num_hidden_layers=1)
#: Designs whose passes are predicted: fields as of `sim.designs.small_design`.
GOLDEN = (dict(entries=4, slots=4), dict(entries=4, slots=4, halves=2), dict(source="stream", tile_beats=2),
          dict(formats="weights=e2m1,head=e3m4"), dict(formats="e4m3", dsp_columns=2),
          dict(formats="scales=row", attention_lanes=4), dict(sampler="gumbel", context=64),
          dict(block=dict(qk_norm={"span": "head"}, norms="sandwich", activation="gelu_tanh")),
          dict(block=dict(biased=["q", "k", "v"])))
#: Names of parts in docs/results/synth.json -> the unit that they are of.
PARTS = {"array": "mac_array", "column": "mac_column", "dsp_column": "mac_column", "column_pair": "mac_column",
         "dot": "attention", "numerators": "attention", "xh": "vector_buffer", "xa": "vector_buffer",
         "xo": "vector_buffer", "qkv": "kv_cache", "loop": "decode_loop", "bridge": "uart_bridge",
         "registers": "axi_registers", "receiver": "uart", "transmitter": "uart"}
RTL = ("rtl:specimen", "rtl:board", "rtl:wired")
CYCLES, VALUES, ADAPTERS, PLAN = "golden:cycles", "golden:values", "golden:adapters", "golden:plan"
#: (file, pattern of an entry's name or command) -> what it depends on, of the first row that fits. {part} is the name's
#: part that is a unit's; a number of a unit that none of the machines has depends on all of them.
RULES = (
    ("accuracy.json", "*compensated*", (VALUES, "code:hwgen/plan/compensate.py")),
    ("accuracy.json", "*", (VALUES,)),
    ("adapters.json", "devil *", (VALUES,)),
    ("adapters.json", "*", (ADAPTERS, "rtl:board")),
    ("array.json", "*", ("unit:mac_array", "unit:mac_column")),
    ("axi.json", "axi_reader*", ("unit:axi_reader",)),
    ("axi.json", "axi_registers*", ("unit:axi_registers",)),
    ("axi.json", "*", (CYCLES, "unit:axi_reader", "unit:axi_registers")),
    ("batch.json", "*", (CYCLES,)),
    ("boards.json", "*--board {board}", ("board:{board}",)),
    ("boards.json", "*", ("rtl:specimen", "rtl:board")),
    ("column.json", "*", ("unit:mac_column",)),
    ("coverage.json", "{part}/*", ("unit:{part}",)),
    ("die.json", "expander_*", ("code:hwgen/lib/fp8_dot.py",)),
    ("die.json", "*", (CYCLES, "file:hwgen/plan/transistors.json")),
    ("dram.json", "*", (CYCLES, "rtl:board")),
    ("ddr3.json", "*", (CYCLES, "rtl:board")),
    ("emit_3m.json", "*", ("unit:mac_array", "unit:mac_column")),
    ("emit*.json", "*", ("rtl:specimen",)),
    ("gemma3.json", "*", (CYCLES,)),
    ("halves.json", "*", (CYCLES,)),
    ("kv.json", "*", ("unit:kv_cache", "unit:kv_blocks", "unit:admission")),
    ("load.json", "*", (CYCLES, "rtl:board")),
    ("mutation.json", "{part}/*", ("unit:{part}",)),
    ("mutation.json", "*", RTL),
    ("plan.json", "*", (PLAN,)),
    ("scale.json", "*", (CYCLES,)),
    ("serving.json", "*", (CYCLES,)),
    ("shapes.json", "*", (PLAN,)),
    ("smollm2.json", "*", (CYCLES,)),
    ("soak.json", "*", (*RTL[:2], CYCLES, VALUES)),
    ("soc.json", "*", ("rtl:board", CYCLES)),
    ("sweep.json", "*", (*RTL, CYCLES, VALUES)),
    ("synth.json", "*/{part}/*", ("unit:{part}",)),
    ("utilization.json", "*", (CYCLES,)),
    ("waiting.json", "golden*", (VALUES,)),
    ("waiting.json", "*", ("rtl:specimen",)),
    ("waves.json", "*", ("rtl:specimen",)),
    ("wired.json", "named_*", (CYCLES, PLAN)),
    ("wired.json", "*", ("unit:wired",)),
)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def verilog(text):
    """Digest of a machine's Verilog, without comments: they name files, which may move while the machine stays."""
    return digest(_COMMENT.sub("", text))


def units(text):
    """{unit: digest of its modules} of a machine's Verilog."""
    modules = {match["name"]: (match["source"], _COMMENT.sub("", match["text"])) for match in _MODULE.finditer(text)}

    def inside(name, found):
        """A module, and the shared parts in it."""
        found[name] = modules[name][1]
        for child in set(re.findall(r"\w+", modules[name][1])) & modules.keys() - found.keys():
            if not modules[child][0].startswith(("hwgen/units/", "hwgen/top/")):
                inside(child, found)
        return found

    tops = {}
    for name, (source, _) in modules.items():
        if source.startswith("hwgen/units/"):
            inside(name, tops.setdefault(Path(source).stem, {}))
    return {unit: digest("".join(found[name] for name in sorted(found))) for unit, found in tops.items()}


def _specimen():
    """Committed; a test of its own compares it with what the generator writes."""
    return (ROOT / "rtl_out" / "specimen" / "specimen.v").read_text(encoding="utf-8")


def _board():
    """Half-batches, multipliers, error correction; weights over the UART into a memory on AXI4."""
    from hwgen.lib.verilog import emit_design
    from hwgen.params.axi import AxiShape
    from hwgen.top.board import BoardMachine, memory_buses
    from sim.designs import small_design
    design = small_design(**SMALL, columns=4, entries=4, slots=4, halves=2, dsp_columns=1, dsp_pairs=1, kv_ecc=True,
                          formats="scales=row", source="stream")
    return emit_design(BoardMachine(design, divisor=4, axi=memory_buses(AxiShape())), "board")


def _wired():
    """Matrices as logic."""
    from hwgen.lib.verilog import emit_design
    from hwgen.models import quantize, random_checkpoint
    from hwgen.models.wires import fixed_matrices
    from hwgen.top.decoder import Decoder
    from sim.designs import small_design
    design = small_design(**SMALL, columns=2, entries=1, slots=1, source="wired")
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    return emit_design(Decoder(design, wires=fixed_matrices(quantized, design)), "wired")


#: Machine -> its Verilog.
MACHINES = {"specimen": _specimen, "board": functools.cache(_board), "wired": functools.cache(_wired)}


def _cycles(designs=GOLDEN, **more):
    from hwgen.golden.sequencer import pass_timeline
    from sim.designs import small_design

    def of(design):
        found = pass_timeline(design, [3, 9], [True, True], **more)
        return found.phases, found.outcomes, sorted(found.counters.items())
    return repr([of(small_design(**fields)) for fields in designs])


def _adapters():
    return _cycles([dict(adapters=1)], adapters=[1, 1])


def _values():
    from hwgen.host.links.golden_link import GoldenLink
    from hwgen.host.links.link import Entry
    from hwgen.models import quantize, random_checkpoint
    from sim.designs import small_design

    def of(design):
        link = GoldenLink(design, quantize(random_checkpoint(design.model), design.recipe))
        passes = [link.run_pass([Entry(0, 2 * i, 3 + i), Entry(0, 2 * i + 1, 5, True)]) for i in range(3)]
        return [(sorted(done.tokens.items()), done.signatures) for done in passes]
    return repr([of(small_design(**fields)) for fields in GOLDEN])


def _plan():
    from hwgen.params.design import Design
    from hwgen.params.hardware import Recipe
    from hwgen.params.model import DEMO
    from hwgen.params.presets import hw_shape
    from hwgen.plan.fit import fit
    room = dict(LUT=100_000, FF=100_000, BRAM=300, DSP=300)

    def of(shape, family):
        found = fit(Design(model=DEMO, hw=hw_shape(shape, DEMO), recipe=Recipe()), family, room)
        return sorted(found.used.items()), found.mhz, found.cycles(1)
    return repr([of(shape, family) for family in ("ecp5", "gowin5", "xilinx7") for shape in ("tiny", "demo")])


PREDICTED = {CYCLES: _cycles, VALUES: _values, ADAPTERS: _adapters, PLAN: _plan}


def meaning(text):
    """A module's syntax tree as text, without docstrings; the text itself if it is none."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text
    for node in ast.walk(tree):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if documented and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)


def _of_board(name):
    from hwgen.fpga.boards import board
    from hwgen.fpga.build import sources_digest
    from hwgen.models import load, quantize
    from hwgen.params.design import Design
    from hwgen.params.hardware import HwShape
    from hwgen.params.presets import recipe
    report = json.loads((ROOT / "fpga" / name / "report.json").read_text())
    chosen, checkpoint = board(name), load(report["model"])
    design = Design(model=checkpoint.shape, hw=HwShape(**report["shape"]), recipe=recipe(chosen.formats))
    return sources_digest(chosen, design, quantize(checkpoint, design.recipe))[:8]


@functools.cache
def now(name):
    """Digest of this checkout: of ``rtl:specimen``, ``unit:rope`` and so on."""
    kind, _, of = name.partition(":")
    if kind == "rtl":
        return verilog(MACHINES[of]())
    if kind == "unit":
        return next(found[of] for found in map(_units, MACHINES) if of in found)
    if kind == "golden":
        return digest(PREDICTED[name]())
    if kind == "board":
        return _of_board(of)
    text = (ROOT / of).read_text(encoding="utf-8")
    return digest(meaning(text) if kind == "code" else text)


@functools.cache
def _units(machine):
    return units(MACHINES[machine]())


def quick():
    """All digests of this checkout but those of boards, {name: digest}: seconds."""
    known = {f"unit:{unit}" for machine in MACHINES for unit in _units(machine)}
    return {name: now(name) for name in sorted({*RTL, *PREDICTED, *known, *(
        name for *_, names in RULES for name in names if name.startswith(("file:", "code:")))})}


@functools.cache
def committed():
    """{name: digest} of tools/digests.json."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def depends(file, name, command=""):
    """Names of the digests that an entry of a file of the ledger depends on; none if no rule is about it."""
    for of, pattern, needed in RULES:
        found = fnmatchcase(file, of) and re.fullmatch(
            re.escape(pattern).replace(r"\*", ".*").replace(r"\{part\}", "(?P<part>[^/]+)").replace(
                r"\{board\}", r"(?P<board>[\w-]+)"), command if "{board}" in pattern else name)
        if found:
            part, board = (found.groupdict().get(key) for key in ("part", "board"))
            names = tuple(text.format(part=PARTS.get(part, part), board=board) for text in needed)
            return names if all(name in committed() for name in names) else RTL[:2] if board else RTL
    return ()


def spelled(names, of=now):
    """As an entry has them: ``rtl:specimen=0123abcd golden:cycles=4567cdef``."""
    return " ".join(f"{name}={of(name)}" for name in names)


def boards_of():
    """Of the machines and of the boards: theirs are made again only if one of these has changed, for they take a
    minute."""
    from hwgen.fpga.boards import BOARDS
    return digest(spelled(RTL) + repr(BOARDS))


def main():
    from hwgen.fpga.tools import ToolError
    found, machines = quick(), boards_of()
    before = committed() if FILE.exists() else {}
    for report in sorted(ROOT.glob("fpga/*/report.json")):
        name = f"board:{report.parent.name}"
        if before.get("boards of") == machines and name in before:
            found[name] = before[name]
            continue
        try:
            found[name] = now(name)
        except ToolError as error:      # its numbers then depend on the machines
            print(f"{name} is left out: {error}", file=sys.stderr)
    FILE.write_text(json.dumps(found | {"boards of": machines}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)}: {len(found)} digests, "
          f"{sum(before.get(name) != value for name, value in found.items())} new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
