"""What a waveform holds and how a viewer shows it: which signals, which cycles, and files that open it with the
important ones in sight."""
import re
from pathlib import Path
from typing import Any, NamedTuple

from vcd.gtkw import GTKWSave, make_translation_filter

from ...lib.verilog import written
from ...params.design import Design
from ...params.phases import phases

__all__ = ["KINDS", "SIGNALS", "Trace", "Window", "hierarchy", "probed", "write_views"]

KINDS = (".vcd", ".fst")
SIGNALS = ("named", "all")

_DECLARATION = re.compile(r"  (?:input|output|wire|reg) +(?:wire |reg )? *(?:\[(?:\d+):(?:\d+)\] *)?"
                          r"(\w+) ?(?:\[\d+:\d+\])?[,;]?(?: *//.*)?$")
_MODULE = re.compile(r"module (\w+)")
_STREAM = re.compile(r"\w+__(valid|ready|payload)")
_WIDEST = 32        # bits of a register to see: wider ones hold data that a stream has shown
_OFF, _ON = "/*verilator tracing_off*/", "/*verilator tracing_on*/"


def _named(name, module, users):
    """What of a module is to be seen. ``users``: {module: [modules with an instance of it]}."""
    registers = {register for register, bits in module.registers.items()
                 if bits <= _WIDEST and not re.search(r"\d|_next$", register) and register not in module.ports}
    around = users.get(name)
    if around is None or len(around) == 1 and around[0] not in users:       # the machine, and its units
        return module.ports.keys() | registers
    streams = {port: _STREAM.fullmatch(port) for port in module.ports}
    while around is not None and len(around) == 1:
        around = users.get(around[0])
    if around is None:      # of what is in a unit: what it is handed, the unit around it shows
        return {port for port, member in streams.items() if member and member[1] != "payload"} | registers
    return {port for port, member in streams.items() if member}


def probed(verilog: str, top: str) -> str:
    """The Verilog with marks for Verilator that leave named signals in a waveform, line by line what it was.

    Those are the ports of the machine and its units, and registers of up to 32 bits whose name has no number: what is
    numbered belongs to a lane or a pipeline stage, the insides of arithmetic. Of what is inside a unit, streams show
    whether they are valid and ready; of parts that are written once for many places (`hwgen.lib.verilog.shared`: vector
    buffers, columns, memories), streams alone.
    """
    modules, lines, off, named, users = written(verilog), [], False, {top}, {}
    for name, module in modules.items():
        for part, _ in module.instances:
            users.setdefault(part, []).append(name)
    users |= dict.fromkeys(modules.keys() - users.keys() - {top}, ())     # never seen
    for line in verilog.split("\n"):
        if match := _MODULE.match(line):
            named = _named(match[1], modules[match[1]], users)
        declared = _DECLARATION.match(line)
        # an instance in a line that is off hides all that is in it
        hidden = declared[1] not in named if declared else not named
        if hidden != off:
            line, off = f"{_OFF if hidden else _ON}{line}", hidden
        lines.append(line)
    return "\n".join(lines)


def hierarchy(verilog: str, top: str) -> list[tuple[tuple[str, ...], dict[str, int]]]:
    """[(path, {port: bits})] of the machine and the units in it, the machine first; path () and (unit,)."""
    modules = written(verilog)
    return [((), modules[top].ports), *(((name,), modules[module].ports) for module, name in modules[top].instances)]


class Window(NamedTuple):
    """The cycles that a waveform holds: those that are in all of its ranges. Each is (lowest, highest), or None for
    all.

    cycles   of the simulation, whose reset begins in cycle 0
    passes   0 is the first; a pass begins when the one before has ended
    layers   of the machine's port `layer`
    phases   numbers of phases, a set
    """

    cycles: tuple | None = None
    passes: tuple | None = None
    layers: tuple | None = None
    phases: frozenset | None = None

    @classmethod
    def parse(cls, text: str, design: Design) -> "Window":
        """The window of a text like ``passes=1:2,phases=scores+output``. ValueError says what is right."""
        names = [phase.name.lower() for phase in phases(design.block)]
        given: dict[str, Any] = {}
        for part in text.split(","):
            key, equals, value = part.partition("=")
            if key not in cls._fields or not equals or key in given:
                raise ValueError("Window must be cycles=LOW:HIGH, passes=LOW:HIGH, layers=LOW:HIGH and "
                                 f"phases=NAME+NAME, each at most once, not {part!r}")
            if key == "phases":
                wanted = value.split("+")
                if not set(wanted) <= set(names):
                    raise ValueError(f"Phases must be of {', '.join(names)}, not {value!r}")
                given[key] = frozenset(map(names.index, wanted))
            else:
                match = re.fullmatch(r"([0-9]{1,18})(?::([0-9]{1,18}))?", value)
                low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
                if low > high:
                    raise ValueError(f"Window's {key} must be LOW:HIGH or a number, not {value!r}")
                if key == "layers" and high >= design.layers:
                    raise ValueError(f"Window's layers must be below {design.layers}, not {value!r}")
                given[key] = low, high
        return cls(**given)

    def command(self) -> str:
        """The words of it for sim_main.cpp."""
        everything = 0, (1 << 64) - 1
        mask = sum(1 << phase for phase in self.phases) if self.phases else everything[1]
        pairs = (pair or everything for pair in (self.cycles, self.passes, self.layers))
        return " ".join(str(n) for pair in pairs for n in pair) + f" {mask}"


class Trace(NamedTuple):
    """A waveform to write: its file, FST if it ends like that and else VCD, which signals (of `SIGNALS`), and which
    cycles."""

    path: Path
    signals: str = "named"
    window: Window = Window()


def _important(scope, units):
    """[(title, [(signal, bits)])] of what a viewer is to show, in its order."""
    machine = units[0][1]
    first = [port for port in ("clk", "rst", "busy", "layer") if port in machine]
    groups = [("machine", [(f"{scope}.{port}", machine[port]) for port in first])]
    for path, ports in units:
        streams = [port for port in ports if _STREAM.fullmatch(port)]
        streams.sort(key=lambda port: (port.split("__")[0],
                                       "valid ready payload".split().index(_STREAM.findall(port)[0])))
        if streams:
            groups.append((".".join(path) or "streams of the machine",
                           [(".".join((scope, *path, port)), ports[port]) for port in streams]))
    return groups


def write_views(trace: str | Path, verilog: str, top: str, design: Design) -> list[Path]:
    """Write what opens a waveform with the important signals in sight. Returns the paths, the first for GTKWave, the
    second for Surfer.

    Beside ``FILE.vcd``: FILE.gtkw with FILE.phases.txt for GTKWave; FILE.sucl for Surfer, and
    .surfer/mappings/FILE.phases, where Surfer looks for names of values if it is started in that folder.
    """
    trace = Path(trace).absolute()
    units, scope, stem = hierarchy(verilog, top), f"TOP.{top}", trace.stem
    groups, names = _important(scope, units), [(phase.value, phase.name.lower()) for phase in phases(design.block)]
    phase, bits = f"{scope}.phase", units[0][1]["phase"]
    save, filtered, commands = (trace.with_name(stem + end) for end in (".gtkw", ".phases.txt", ".sucl"))
    mapping = trace.parent / ".surfer" / "mappings" / f"{stem}.phases"

    filtered.write_text(make_translation_filter(names, datafmt="dec"))
    with open(save, "w") as file:
        file.write("[*] Written anew with each waveform of this name: save a view of your own under another name.\n")
        view = GTKWSave(file)
        view.dumpfile(str(trace))
        view.savefile(str(save))
        view.treeopen(f"{scope}.")
        view.trace(_bits(phase, bits), alias="phase", datafmt="dec", translate_filter_file=str(filtered))
        for title, signals in groups:
            with view.group(title):
                for signal, width in signals:
                    view.trace(_bits(signal, width), alias=signal.removeprefix(f"{scope}."),
                               datafmt="hex" if width > 1 else "bin")
    mapping.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"Name = {mapping.name}", f"Bits = {bits}", *(f"{value} {name}" for value, name in names)]
    mapping.write_text("\n".join(lines) + "\n")
    # the phase is the only item, so `a`, when its format is set
    lines = [f"variable_add {phase}", f"item_focus a_{phase}", f"item_set_format {mapping.name}", "item_unfocus"]
    for title, signals in groups:
        lines += [f"divider_add {title}", *(f"variable_add {signal}" for signal, _ in signals)]
    commands.write_text("\n".join([*lines, "zoom_fit"]) + "\n")
    return [save, commands, filtered, mapping]


def _bits(signal, width):
    """GTKWave's word for a signal."""
    return signal if width == 1 else f"{signal}[{width - 1}:0]"
