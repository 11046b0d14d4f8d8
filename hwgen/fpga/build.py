"""From a model to a board's bitstream: emit, synthesize, place and route, pack. What is done is kept, and not done
again."""
import dataclasses
import hashlib
import json
import re
import tempfile
from pathlib import Path

from ..emit import emit
from ..emit.images import image_name
from ..plan.costs import check_pairs
from ..params.card import card_timing
from ..top.board import BoardMachine, memory_buses
from . import files
from .dram import memory_settings, memory_verilog
from .families import FAMILIES, MEMORY_NET
from .floorplan import floorplan, floorplan_svg
from .multipliers import absorb, arrange
from .tools import ToolError, run_tool, version

__all__ = ["BuildReport", "build", "sources_digest", "sources_digest_of", "write_sources", "write_text"]

MACHINE = "machine"
#: A line of comment: it names a page or a file of hwgen, which may move while the machine stays.
_COMMENT = re.compile(rb"^[ \t]*//.*\n", re.MULTILINE)
#: The part of a family's `Family.places` beyond which its placer is not asked.
FULL = 0.95


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """What came of a build (report.json).

    fmax, clock         MHz: what the routed design reaches, and what it runs at
    used, available     {resource: count}, by nextpnr's names
    memory_*            the same of the memory's controller, where it has a clock of its own
    arranged            the multipliers were (`Board.arranged`)
    seeds               {seed: MHz} of all that were routed, or [MHz, the memory's]
    cpu_seconds         {tool: seconds of CPU} of what made the bitstream, on whatever machine that was
    *_sha256            of the Verilog (but comments) with its memory image, and of the bitstream: the same tools make
                        the same of it everywhere
    """
    board: str
    model: str
    model_id: int
    shape: dict
    seed: int
    fmax: float
    clock: float
    baud: int
    used: dict
    available: dict
    seeds: dict
    cpu_seconds: dict
    tools: dict
    bitstream: str
    bitstream_sha256: str
    verilog_sha256: str
    run_on_hardware: bool = False
    memory_fmax: float | None = None
    memory_clock: float | None = None
    arranged: bool | None = None

    @property
    def missed(self):
        """What is too slow: "clock", "memory's clock", both or nothing."""
        memory = self.memory_clock is not None and self.memory_fmax < self.memory_clock
        return ["clock"] * (self.fmax < self.clock) + ["memory's clock"] * memory


def write_text(path, text):
    """Write a file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)


def _tool(stage, name, output, folder, tool, *words):
    """Run a tool unless its output is there; ``words`` may say {out}, which is renamed to ``output`` when it is
    whole."""
    if (folder / output).exists():
        return
    partial = f"partial-{output}"
    with stage(name):
        seconds = run_tool(tool, *(word.replace("{out}", partial) for word in words), folder=folder,
                           log=f"{output}.log")
    (folder / f"{output}.seconds").write_text(f"{seconds:.2f}")
    (folder / partial).rename(folder / output)


def write_sources(board, design, quantized, work):
    """Emit a board's machine, and write the top around it, into a folder, and the path to its memory. Returns the
    Verilog files' names."""
    more = {} if board.memory is None else {"axi": memory_buses(board.memory.axi(), board.card),
                                            "card": card_timing(board.clock) if board.card else None}
    emit(design, quantized, work, name=MACHINE, component=lambda d, **wires: BoardMachine(d,
                                                                                          divisor=files.divisor(board),
                                                                                          **more, **wires))
    sources = [f"{MACHINE}.v", "top.v"]
    if board.memory is not None:
        kv = design.hw.kv_port > 0
        for name, text in memory_verilog(board.memory, board.memory_mhz, kv=kv, **memory_settings(board)).items():
            write_text(work / name, text)
            sources.append(name)
    write_text(work / "top.v", files.top(board, MACHINE, design.hw.kv_port > 0))
    if files.pll(board, work):
        sources.append("pll.v")
    return sources


def sources_digest_of(work, sources, design):
    """SHA-256 of a folder's Verilog, without its lines of comment, and its memory image, if that goes into the
    bitstream."""
    image = [] if design.hw.source == "stream" else [image_name(design, MACHINE)]
    digest = hashlib.sha256()
    for source in (*sources, *image):
        digest.update(_COMMENT.sub(b"", (work / source).read_bytes()))
    return digest.hexdigest()


def sources_digest(board, design, quantized):
    """SHA-256 of all that a board's bitstream is made of, as in its report."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "machine"
        return sources_digest_of(work, write_sources(board, design, quantized, work), design)


def build(board, design, quantized, folder, *, seeds=(1,), stage):
    """Build a board's bitstream, its report and a picture of its placement; returns the `BuildReport`.

    Everything goes into a folder of its own below ``folder``, named by a digest of all that it depends on: an
    interrupted build goes on where it was, and another model, shape, clock or tool starts anew.

    Parameters
    ----------
    board : Board
    design : Design
    quantized : QuantizedModel
    folder : path
    seeds : ints            of the placement: the fastest is taken
    stage : callable        text -> context manager, around what takes long

    Raises
    ------
    ToolError               if a tool is missing or fails, with one line
    ValueError              if there are pairs of columns, and the family's multipliers are too narrow
    """
    family = FAMILIES[board.family]
    check_pairs(design.hw, board.family)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tools = {tool: version(tool) for tool in ("yosys", family.placer, family.packer)}
    work = folder / f"{board.name}-{_key(board, design, quantized, tools)}"
    digest = _prepare(board, design, quantized, work, stage)
    _tool(stage, "synthesis (minutes)", "top.json", work, "yosys", "-q", "synth.ys")
    _check_places(board, work)
    netlist = _arranged(board, work)
    reports = {seed: _place_and_route(board, netlist, work, seed, stage) for seed in seeds}
    speeds = {seed: _fmax(board, report) for seed, report in reports.items()}
    clocks = board.clock, board.memory_clock
    best = max(speeds, key=lambda seed: (min(mhz / clock for mhz, clock in zip(speeds[seed], clocks)), -seed))
    bits = f"seed-{best}{family.suffix}"
    _tool(stage, "packing", bits, work, family.packer, *family.pack(board, f"seed-{best}.routed", "{out}"))
    bitstream = folder / f"{board.name}{family.suffix}"
    bitstream.write_bytes((work / bits).read_bytes())
    if (plan := work / f"seed-{best}.plan").exists():       # not of a build that an earlier hwgen has routed
        title = f"{board.title}: {design.model.name}, {speeds[best][0]:.2f} MHz, seed {best}"
        write_text(folder / f"{board.name}.svg", floorplan_svg(title, json.loads(plan.read_text()), reports[best]))
    utilization = reports[best]["utilization"]
    result = BuildReport(
        board=board.name, model=design.model.name, model_id=quantized.digest,
        shape=dataclasses.asdict(design.hw), seed=best, fmax=round(speeds[best][0], 2), clock=board.clock,
        baud=board.baud, **({"memory_fmax": round(speeds[best][1], 2), "memory_clock": board.memory_clock}
                            if board.memory_clock else {}),
        used={name: utilization[name]["used"] for name in board.capacity},
        available={name: utilization[name]["available"] for name in board.capacity},
        seeds={str(seed): round(found[0], 2) if len(found) == 1 else [round(mhz, 2) for mhz in found]
               for seed, found in speeds.items()},
        cpu_seconds=_seconds(family, work, best, bits), tools=tools, bitstream=str(bitstream),
        bitstream_sha256=hashlib.sha256(bitstream.read_bytes()).hexdigest(), verilog_sha256=digest,
        arranged=board.arranged or None)
    kept = {name: value for name, value in dataclasses.asdict(result).items() if value is not None}
    write_text(folder / f"{board.name}.json", json.dumps(kept, indent=1) + "\n")
    return result


def _key(board, design, quantized, tools):
    """Digest of all that a build depends on, but hwgen itself."""
    family = FAMILIES[board.family]
    weights = None if design.hw.source == "stream" else quantized.digest      # they come later, or are in the bitstream
    words = family.place(board, "", "", ""), family.route and family.route(board, "", "", "")
    return hashlib.sha256(repr((board, design, weights, tools, *words)).encode()).hexdigest()[:12]


def _prepare(board, design, quantized, work, stage):
    """Write what synthesis reads; results of other Verilog are removed. Returns the digest of the Verilog."""
    family = FAMILIES[board.family]
    with stage(f"emitting Verilog into {work}"):
        sources = write_sources(board, design, quantized, work)
    write_text(work / family.constraints_file, family.constraints(board))
    digest = sources_digest_of(work, sources, design)
    if (work / "sources.sha256").exists() and (work / "sources.sha256").read_text() != digest:
        for old in (*work.glob("top.json"), *work.glob("arranged.json"), *work.glob("seed-*")):
            old.unlink()        # hwgen itself has changed
    write_text(work / "sources.sha256", digest)
    write_text(work / "synth.ys", files.synthesis_script(sources, "partial-top.json", board.family,
                                                         own=design.hw.dsp_columns > 0, pairs=design.hw.dsp_pairs > 0))
    return digest


def _check_places(board, work):
    """ToolError for a netlist that leaves the placer too few places."""
    family = FAMILIES[board.family]
    if not family.places:
        return
    there = board.capacity[family.resources["lut"]]
    taken = family.places(json.loads((work / "top.json").read_text()))
    if taken > FULL * there:
        raise ToolError(f"{board.title}: The machine takes the places of {taken:,} of {there:,} LUTs, which "
                        "leaves the placer too few: take a smaller --shape or --model")


def _arranged(board, work):
    """Name of the netlist to place. What was placed of another one is removed."""
    if not board.arranged:
        return "top.json"
    netlist = json.loads((work / "top.json").read_text())
    absorb(netlist)
    arrange(netlist, board.device)
    text, path = json.dumps(netlist), work / "arranged.json"
    if not path.exists() or path.read_text() != text:
        for old in work.glob("seed-*"):
            old.unlink()
        write_text(path, text)
    return path.name


def _place_and_route(board, netlist, work, seed, stage):
    """Place and route with a seed, in one step or two, and keep where the cells are. Returns the tool's report."""
    family = FAMILIES[board.family]
    report = work / f"seed-{seed}.json"
    placed, routed, plan = f"seed-{seed}.placed", f"seed-{seed}.routed", work / f"seed-{seed}.plan"
    asked = max(board.asked or 0, board.clock)
    words = ("--report", report.name, "--seed", str(seed), "--freq", f"{asked:g}", "--timing-allow-fail",
             "--router", "router2")
    first, made = ("placing", placed) if family.route else ("place and route", routed)
    if not (work / routed).exists():
        _tool(stage, f"{first}, seed {seed} (many minutes)", made, work,
              family.placer, *family.place(board, netlist, family.constraints_file, "{out}"), *words)
    if family.route:
        _tool(stage, f"routing, seed {seed} (many minutes)", routed, work, family.placer,
              *family.route(board, placed, family.constraints_file, "{out}"), *words)
    if not plan.exists() and (work / made).exists():
        write_text(plan, json.dumps(floorplan(json.loads((work / made).read_text()))))
    (work / placed).unlink(missing_ok=True)         # it is large
    return json.loads(report.read_text())


def _seconds(family, work, best, bits):
    """{tool: CPU seconds} of the steps that made the best seed's bitstream."""
    made = {"yosys": ["top.json"],
            family.placer: [f"seed-{best}.placed"] * bool(family.route) + [f"seed-{best}.routed"],
            family.packer: [bits]}
    return {tool: round(sum(float((work / f"{name}.seconds").read_text()) for name in names), 2)
            for tool, names in made.items()}


def _fmax(board, report):
    """(MHz of the machine's clock,): the slowest of the routed design's that is not the oscillator's pin. Of a memory
    with a clock of its own (the machine's, the memory's)."""
    found = {name: clock["achieved"] for name, clock in report["fmax"].items()}
    if not board.memory_clock:
        return (min(found.values()),)
    names = [f"$glbnet${net}" for net in ("clock", MEMORY_NET)]
    if missing := [name for name in names if name not in found]:
        raise ToolError(f"{board.title}: Report of place and route must have the clocks {' and '.join(names)}, "
                        f"not only {', '.join(found)}: {missing[0]} was not constrained")
    return tuple(found[name] for name in names)
