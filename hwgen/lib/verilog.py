"""Verilog text from Amaranth components: deterministic, and each repeated module only once.

Amaranth writes one Verilog module per *instance*. A unit that repeats a large component therefore wraps each copy in
:func:`shared`, which gives the parent an ``Instance`` of a module that :func:`emit_design` writes once::

    for column in range(columns):
        mac = MacColumn(shape)
        m.submodules[f"mac{column}"] = shared(mac, f"mac_column_l{shape.lanes}")
        m.d.comb += mac.i.payload.eq(...)            # the ports are used as if it were an ordinary submodule

Every module of a design carries the name of its top as prefix, so two designs fit into one chip.
"""

from contextlib import contextmanager
from contextvars import ContextVar
import gc
import inspect
import os
import re
import textwrap
from types import MappingProxyType
from typing import NamedTuple

from amaranth.back import verilog
from amaranth.hdl import ClockSignal, Instance, ResetSignal, Value
from amaranth.lib import wiring

from .memory import give_back
from .netlist import to_rtlil
from .verilog_text import tidy


__all__ = ["PARTS", "Place", "Port", "Written", "emit_design", "emit_verilog", "hierarchy", "ports", "shared",
           "verbatim", "written"]


class Port(NamedTuple):
    """A port of an emitted module, as its Verilog says it."""

    name: str
    direction: str  # "input" or "output"
    width: int


class Written(NamedTuple):
    """What a module's text says of it: {port: bits}, {register: bits} without memories, [(module, instance)], and the
    file and the page it is from."""

    ports: dict
    registers: dict
    instances: list
    source: str
    page: str


class Place(NamedTuple):
    """An instance in a design: names from the top's instances down to it, its module, and of that the source and the
    page ("" if there is none)."""

    path: tuple
    module: str
    source: str
    page: str


class _Design:
    """What one emission has written so far, in the order of writing (parts before their users)."""

    def __init__(self, prefix, sources=False):
        self.prefix, self.sources = prefix, sources
        # module name: Verilog text, or (RTLIL, about) until all is there: Yosys takes longer to start than for most
        # parts
        self.texts = {}
        self.parts = {}  # module name: (type, signature, ports) of the component that was written for it
        # (module, its parameter, the top's parameter, the default) of parameters that are to be the top's
        self.raised = []


_design = ContextVar("design", default=None)
#: File in hwgen/units -> the unit that it is a part of: page, golden twin, bench and marks are that unit's.
PARTS = {"dispatcher": "weights", "kv_blocks": "kv_cache", "mac_column": "mac_array"}
#: Pages of what is not a unit, which has one of its own name; architecture.md for all others.
_PAGES = {"top.axi": "axi", "top.board": "boards", "lib.attention_sums": "attention",
          "lib.fp8_dot": "mac_array", "lib.norm": "rmsnorm", "lib.ram": "kv_cache",
          "lib.rom": "weights",
          "lib.secded": "kv_cache", "lib.softcap": "attention", "lib.threefry": "sampler"}


@contextmanager
def _seldom_collected():
    """Within it Python's collector of cycles leaves alone what was there before, and waits longer: a third of an
    emission's time went to it. It
    is not off: that takes half as much memory again."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _builtin_yosys():
    # Another Yosys writes other text: only the pinned one makes the output reproducible.
    before = os.environ.get("AMARANTH_USE_YOSYS")
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    try:
        yield
    finally:
        if before is None:
            del os.environ["AMARANTH_USE_YOSYS"]
        else:
            os.environ["AMARANTH_USE_YOSYS"] = before


def _convert(component, name):
    """(RTLIL, {module: `About`}) of a component and what is in it, but for :func:`shared` parts."""
    design = _design.get()
    sources, taken = (design.sources, design.parts.keys()) if design else (False, ())
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"Module name must be a plain Verilog identifier, not {name!r}")
    return to_rtlil(component, name, taken, sources)


def _verilog(converted, sources=False):
    """(The line that names the generator, [Verilog]) of what `_convert` gave for several components."""
    give_back()     # for Yosys, and for its text
    with _builtin_yosys():
        text = verilog._convert_rtlil_text("\n".join(rtlil for rtlil, _ in converted), strip_internal_attrs=not sources)
    # of no width, and only declared
    text = re.sub(r"(?:^ *\(\*.*\*\)\n)*^ *(?:wire|reg) \[-1:0\] .*;\n", "", text, flags=re.MULTILINE)
    # a module's own attributes would go with the one before
    text = re.sub(r"(?:^ *\(\*.*\*\)\n)+(?=module )", "", text, flags=re.MULTILINE)
    version, *modules = re.split(r"^(?=module )", text, flags=re.MULTILINE)
    texts = [[] for _ in converted]
    for module in modules:
        name = re.match(r"module (\S+?) ?\(", module)[1]
        into, of = next((into, about[name]) for into, (_, about) in zip(texts, converted) if name in about)
        into.append(_described(of.component) + (module if sources else tidy(module, of.ports, of.fields)))
    return version.split("\n", 1)[0], ["\n".join(parts) for parts in texts]


def _described(component):
    """The comment above a module: what it is, its source, and its page."""
    if component is None:
        return ""
    kind = type(component)
    paragraph = " ".join((inspect.getdoc(kind) or "").split("\n\n", 1)[0].split())
    sentence = re.match(r".*?(?:\.(?= )|$)", paragraph.replace("``", "").replace("`", ""))[0]
    said = textwrap.wrap(f"{kind.__name__.lstrip('_')}: {sentence}".rstrip(": "), 130)
    places = [place for place in (source(kind), page(kind)) if place]
    return "".join(f"// {line}\n" for line in [*said, f"Source: {', '.join(places)}"])


def source(kind):
    """The file of a class, from the folder on in which its package is."""
    return kind.__module__.replace(".", "/") + ".py"


def page(kind):
    """The page in docs/ on a class of this package, or None."""
    package, floor, *rest = (*kind.__module__.split("."), "", "")
    if package != __name__.split(".")[0]:
        return None
    of_unit = PARTS.get(rest[0], rest[0])
    return f"docs/{of_unit if floor == 'units' else _PAGES.get(f'{floor}.{rest[0]}', 'architecture')}.md"


def emit_verilog(component, name):
    """Verilog of ``component`` under the module name ``name``, :func:`shared` parts written in full in place.

    The same component gives the same bytes in every process. For most uses :func:`emit_design` is the one to call.
    """
    token = _design.set(None)
    try:
        with _seldom_collected():
            version, (text,) = _verilog([_convert(component, name)])
    finally:
        _design.reset(token)
    return f"{version}\n{text}"


def emit_design(top, name, sources=False):
    """Verilog of ``top`` and of all parts that it, its submodules and its parts share, each part once.

    With ``sources`` it is as Yosys writes it, where an attribute says of each cell which line of Python made it.

    Module names are ``name`` for the top and start with ``name`` for everything else. A port named ``a.b`` of a
    signature is the Verilog port ``a__b``; one of no width is left out.
    """
    design = _Design(name, sources)
    token = _design.set(design)
    try:
        with _seldom_collected():
            design.texts[name] = _convert(top, name)
            pending = {module: text for module, text in design.texts.items() if not isinstance(text, str)}
            version, texts = _verilog(pending.values(), sources)
    finally:
        _design.reset(token)
    texts = design.texts | dict(zip(pending, texts))
    text = "\n".join([version, *(t.strip("\n") + "\n" for t in texts.values())])
    for raised in design.raised:
        text = _raise(text, *raised)
    return text


def shared(component, name):
    """A submodule that stands for ``component`` but is written once per design, as module ``<top>_<name>``.

    ``name`` must say everything that tells this component from others of its type: all parameters, in most cases. The
    caller goes on using the ports of ``component``. Outside :func:`emit_design` (in Amaranth's simulator, say) the
    result is ``component`` itself.

    The clock domain is ``sync``. ``DomainRenamer`` around the parent works; ``ResetInserter`` and ``EnableInserter`` do
    not reach inside.

    Raises
    ------
    TypeError               if ``component`` is not a :class:`wiring.Component`
    ValueError              if ``name`` already stands for a component of another type or with other ports
    """
    if not isinstance(component, wiring.Component):
        raise TypeError(f"Shared module must be a wiring.Component, not {component!r}")
    design = _design.get()
    if design is None:
        return component

    module = f"{design.prefix}_{name}"
    if module not in design.parts:
        design.parts[module] = None  # seen by a component that contains itself
        design.texts[module] = _, about = _convert(component, module)
        design.parts[module] = (type(component), component.signature, {*about[module].ports})
    elif design.parts[module] is None:
        raise ValueError(f"Shared module {name!r} must not contain itself")
    kind, signature, port_names = design.parts[module]
    if kind is not type(component) or signature != component.signature:
        raise ValueError(f"Shared module {name!r} must name one component, not both {kind.__qualname__} and "
                         f"{type(component).__qualname__} with their ports")
    # The copies after the first are only bundles of signals: say that this is intended, or Amaranth warns.
    component._MustUse__used = True

    connections = []
    for path, member, value in component.signature.flatten(component):
        port = "__".join(map(str, path))
        if port in port_names:  # a port of no width is not written
            connections.append(("i" if member.flow == wiring.In else "o", port, Value.cast(value)))
    if "clk" in port_names:
        connections.append(("i", "clk", ClockSignal()))
    if "rst" in port_names:
        connections.append(("i", "rst", ResetSignal(allow_reset_less=True)))
    return Instance(module, *connections)


def verbatim(name, text, raised=MappingProxyType({})):
    """The name under which to instantiate a module that is written by hand: ``<top>_<name>``.

    For what Amaranth cannot say, such as ``$readmemh``. ``text`` is the Verilog of the module, with ``{module}`` where
    its name stands; a design has it once, however many ask for it. Outside :func:`emit_design` the name is ``name``,
    and the text is the caller's to provide. ``raised`` are parameters that the top shall have, which Amaranth cannot
    pass on: {parameter: (the top's parameter, its default in Verilog, with ``{module}``)}.

    Raises
    ------
    ValueError              if ``name`` already stands for another text or a :func:`shared` component
    """
    design = _design.get()
    if design is None:
        return name
    module = f"{design.prefix}_{name}"
    part = (str, text, None)
    if design.parts.setdefault(module, part) != part:
        raise ValueError(f"Verilog module {name!r} must have one text, not two")
    if module not in design.texts:
        design.texts[module] = text.replace("{module}", module)
        design.raised += [(module, parameter, of_top, default.replace("{module}", module))
                          for parameter, (of_top, default) in raised.items()]
    return module


def _raise(text, module, parameter, of_top, default):
    """A design's text in which a parameter of a module is one of the top, handed down by all between."""
    bodies = dict(re.findall(r"^module (\\\S+|\w+)(.*?)^endmodule", text, re.MULTILINE | re.DOTALL))
    passed, new = {}, {module: parameter}       # module: how it calls the parameter
    while new:
        passed |= new
        instance = re.compile(rf"^  (?:{'|'.join(map(re.escape, new))}) ", re.MULTILINE)
        new = {name: of_top for name, body in bodies.items() if name not in passed and instance.search(body)}
    names = "|".join(map(re.escape, passed))
    text = re.sub(rf"^  ({names}) +(#\()?",
                  lambda found: f"  {found[1]} #(.{passed[found[1]]}({of_top}){',' if found[2] else ') '}", text,
                  flags=re.MULTILINE)
    # Yosys elaborates all of them with their defaults first: these must be good.
    names = "|".join(map(re.escape, sorted(set(passed) - {module})))
    return re.sub(rf"^module ({names}) ?\(", lambda found: f"module {found[1]} #(parameter {of_top} = {default}) (",
                  text,
                  flags=re.MULTILINE)


def ports(text, name):
    """The ports of module ``name`` in Verilog, in its header's order: ours, or written by Yosys."""
    found = re.search(rf"^module {re.escape(name)}(?: #\([^)]*\))? *\((.*?)\);$(.*?)^endmodule", text,
                      re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"Verilog must contain a module named {name!r}")
    header, body = found.groups()
    header = re.sub(r"//.*", "", header)
    declared = {port: Port(port, direction, int(high or 0) - int(low or 0) + 1) for direction, high, low, port in
                re.findall(r"^\s*(input|output) +(?:wire |reg )? *(?:\[(\d+):(\d+)\] *)?(\w+)\s*[,;]?\s*$",
                           f"{header}\n{body}",
                           re.MULTILINE)}
    return [declared[port] for port in re.findall(r"\w+", header) if port in declared]


_DECLARED = re.compile(r"  (input|output|reg) +(?:wire|reg)? *(?:\[(\d+):0\] *)?(\w+) ?[,;]?(?: *//.*)?$")
_INSTANCE = re.compile(r"  (\w+) +(?:#\(.*\) )?(\w+) \($")
_WITH_PARAMETERS = re.compile(r"  (\w+) +#\((?:\.\w+\(\w+\),)?$")
_INSTANCE_ENDS = re.compile(r"  \) (\w+) \($")
_SOURCE = re.compile(r"// Source: (\S+?)(?:, (\S+))?$")


def written(text):
    """{name: `Written`} of the modules of an emitted design, in its order."""
    found, source, page, part = {}, "", "", None
    for line in text.split("\n"):
        if said := _SOURCE.match(line):
            source, page = said[1], said[2] or ""
        elif line.startswith("module "):
            module = found[line.split()[1].split("(")[0]] = Written({}, {}, [], source, page)
            source = page = ""
        elif declared := _DECLARED.match(line):
            kind, high, name = declared.groups()
            (module.registers if kind == "reg" else module.ports)[name] = int(high or 0) + 1
        elif instance := _INSTANCE.match(line):
            module.instances.append(instance.groups())
        elif begins := _WITH_PARAMETERS.match(line):
            part = begins[1]
        elif part and (ends := _INSTANCE_ENDS.match(line)):
            module.instances.append((part, ends[1]))
            part = None
    return found


def hierarchy(text, top):
    """[`Place`] of all instances of an emitted design, the top first, each before what is in it."""
    modules, places, todo = written(text), [], [((), top)]
    while todo:
        path, name = todo.pop()
        places.append(Place(path, name, modules[name].source, modules[name].page))
        todo += [((*path, instance), module) for module, instance in reversed(modules[name].instances)]
    return places
