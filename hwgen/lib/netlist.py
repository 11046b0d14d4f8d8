"""An Amaranth component as a netlist in RTLIL whose names and ports are those of its source.

Amaranth's own writer lets each module have the ports that its nets happen to need, and tells signals of one name apart
by how many there are. Here a module has the ports of its component's signature, in that order; a signal keeps its name;
what a register gets next is called after the register; and intermediate results are called after their operator, with
an underscore before it. So names follow from the source, and not from the shape.
"""
import re
from typing import NamedTuple

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Fragment, Module, Shape, Signal, Value
from amaranth.hdl import _ast, _ir, _mem, _nir, _xfrm
from amaranth.lib import data, wiring

from .nets import build_netlist, prepared

__all__ = ["RESERVED", "About", "flat_ports", "to_rtlil"]

_DIRECTIONS = {wiring.In: _ir.PortDirection.Input, wiring.Out: _ir.PortDirection.Output}
_FLOWS = {wiring.In: _nir.ModuleNetFlow.Input, wiring.Out: _nir.ModuleNetFlow.Output}
_CLOCKS = ("clk", "rst")
#: Whose a signal of a module is: of its component's signature, its own (without a name in the source), of a part's
#: signature.
_PORT, _OWN, _NAMELESS, _PART = range(4)
#: What results of operators are called.
_OPERATORS = {"+": "sum", "-": "difference", "*": "product", "~": "not", "b": "any", "r|": "any", "r&": "all",
              "r^": "parity",
              "&": "and", "|": "or", "^": "xor", "==": "equal", "!=": "unequal", "<<": "left", "u>>": "right",
              "s>>": "right",
              "m": "choice",
              "u<": "less", "s<": "less", "u>": "more", "s>": "more", "u<=": "most", "s<=": "most", "u>=": "least",
              "s>=": "least"}


# Verilog-2005, and those of SystemVerilog that somebody might choose as a name: some tools read .v as either.
RESERVED = frozenset("""
always and assign automatic begin buf bufif0 bufif1 case casex casez cell cmos config deassign default defparam design
disable edge else end endcase endconfig endfunction endgenerate endmodule endprimitive endspecify endtable endtask
event for force forever fork function generate genvar highz0 highz1 if ifnone incdir include initial inout input
instance integer join large liblist library localparam macromodule medium module nand negedge nmos nor noshowcancelled
not notif0 notif1 or output parameter pmos posedge primitive pull0 pull1 pulldown pullup pulsestyle_onevent
pulsestyle_ondetect rcmos real realtime reg release repeat rnmos rpmos rtran rtranif0 rtranif1 scalared showcancelled
signed small specify specparam strong0 strong1 supply0 supply1 table task time tran tranif0 tranif1 tri tri0 tri1
triand trior trireg unsigned use uwire vectored wait wand weak0 weak1 while wire wor xnor xor alias bind bit break
byte chandle checker class clocking const constraint context continue cover covergroup cross dist do endclass
endclocking endgroup endinterface endpackage endprogram endproperty endsequence enum expect export extends extern
final foreach global import inside int interface intersect local logic longint matches modport new null package packed
priority program property protected pure rand randc ref return sequence shortint shortreal solve static string strong
struct super tagged this throughout timeprecision timeunit type typedef union unique until untyped var virtual void
weak wildcard with within
""".split())


class About(NamedTuple):
    """Of one module: its component, if it has one; the ports in order; {port: bits of its fields} where it has some."""
    component: object
    ports: list
    fields: dict


def flat_ports(component):
    """[(name, flow, signal, shape)] of a component's signature, in its order: ``a.b`` is called ``a__b``, and what has
    no width is left out."""
    found = []
    for path, member, value in component.signature.flatten(component):
        signal = Value.cast(value)
        if len(signal):     # or it would be written as [-1:0], which is two bits
            found.append(("__".join(map(str, path)), member.flow, signal, member.shape))
    return found


def _interface(component):
    """The same of any elaboratable: those of Amaranth's library have signals as attributes."""
    if isinstance(component, wiring.Component):
        return flat_ports(component)
    return [(name, None, value, value.shape()) for name, value in vars(component).items()
            if isinstance(value, Signal) and not name.startswith("_") and len(value)]


def to_rtlil(component, name, taken=(), sources=False):
    """(RTLIL of a component and what is in it, {module: `About`}). ``name`` is the top's; others are called
    ``name_<instance>_<instance>``, unless that is one of the names ``taken``.

    With ``sources`` it says of each cell which line of Python made it.
    """
    ports = {port: (signal, _DIRECTIONS[flow]) for port, flow, signal, _ in flat_ports(component)}
    design = prepared(component, ports, name)
    components = _name(design, component)
    netlist = build_netlist(design)
    paths = {info.name: fragment for fragment, info in design.fragments.items()}
    for index, module in enumerate(netlist.modules):
        _set_ports(netlist, module, [] if index == 0 else components.get(paths[module.name], []),
                   list(ports) if index == 0 else [])

    empty = rtlil.EmptyModuleChecker(netlist)
    written, about = [module for index, module in enumerate(netlist.modules) if not empty.is_empty(index)], {}
    names, texts = {}, []
    for module in written:      # a_b.c and a.b_c are two
        names[module.name] = _unique("_".join(module.name), {*names.values(), *taken} - {name})
    for module in written:
        builder = rtlil.Module(names[module.name], src_loc=module.src_loc, emit_src=sources)
        if module.parent is None:
            builder.attribute("top", 1)
        of = component if module.parent is None else _component(paths[module.name])
        fields = {port: _fields(shape) for port, _, _, shape in _interface(of)
                  if isinstance(shape, data.Layout)} if of is not None else {}
        about[names[module.name]] = About(of, [*module.ports], fields)
        _Emitter(builder, netlist, module, empty, names, design.fragments[paths[module.name]].aliases).emit()
        text = rtlil.Emitter()
        builder.emit(text)
        texts.append(str(text))
    return "".join(texts), about


def _fields(layout, start=0, prefix=""):
    """Bits of a layout in words: ``[5:0] position, [6] last``."""
    words = []
    for name, field in layout:
        low, name = start + field.offset, f"{prefix}{name}"
        if isinstance(field.shape, data.StructLayout):
            words.append(_fields(field.shape, low, f"{name}."))
        elif field.width:
            bits = f"[{low + field.width - 1}:{low}]" if field.width > 1 else f"[{low}]"
            elements = ""
            if isinstance(field.shape, data.ArrayLayout):
                elements = f" ({field.shape.length} x {Shape.cast(field.shape.elem_shape).width})"
            words.append(f"{bits} {name}{elements}")
    return ", ".join(filter(None, words))


# Names

def _inner(elaboratable):
    while isinstance(elaboratable, _xfrm.TransformedElaboratable):
        elaboratable = elaboratable._elaboratable_
    return elaboratable


def _component(fragment):
    """What was elaborated into a fragment, without what renames or resets its clock domains."""
    origins = [_inner(origin) for origin in fragment.origins or () if isinstance(origin, Elaboratable)]
    components = [origin for origin in origins if isinstance(origin, wiring.Component)]
    named = [origin for origin in origins if type(origin) is not Module]
    return (components or named or [None])[0]


def _unique(name, taken):
    """The name, or with a number behind it if it is taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _plain(name):
    """A plain identifier of Verilog."""
    name = re.sub(r"\W+", "_", name.strip("$")) or "signal"
    return f"{name}_" if name in RESERVED else name


def _name(design, top):
    """Give names to all signals of a design, and its instances. Returns {fragment: [(port, flow, signal, shape)]} of
    its components."""
    interfaces, owners = {}, _ast.SignalDict()
    for fragment, info in design.fragments.items():
        of = top if info.parent is None else _component(fragment) if type(fragment) is Fragment else None
        if of is not None:
            interfaces[fragment] = _interface(of)
            for port, _, signal, _ in interfaces[fragment]:
                if isinstance(signal, Signal) and signal not in owners:
                    owners[signal] = fragment, port
    for fragment in design.fragments:
        _name_memory(design, fragment, owners)
        if isinstance(fragment, _ir.Instance):      # the ports of a component that is written elsewhere
            for port, (value, _) in fragment.ports.items():
                if isinstance(value, Signal) and value.name == port and value not in owners:
                    owners[value] = fragment, port
    instances = {}
    for fragment, info in design.fragments.items():
        taken = set()
        for index, (part, part_name, _) in enumerate(fragment.subfragments):
            instances[part] = _unique(_plain(part_name or f"part{index}"), taken)
            taken.add(instances[part])
    for fragment, info in design.fragments.items():     # parents come before their parts
        if info.parent is not None:
            info.name = (*design.fragments[info.parent].name, instances[fragment])
        if type(fragment) is Fragment:
            _name_signals(design, fragment, info, owners, {instances[part] for part, _, _ in fragment.subfragments})
    return interfaces


def _name_memory(design, fragment, owners):
    """Signals of a memory's ports are called after the memory: variables of one module that hold ports have often one
    name."""
    if not isinstance(fragment, _mem.MemoryInstance):
        return
    around = design.fragments[fragment].parent
    memory = next(name for part, name, _ in around.subfragments if part is fragment) or "memory"
    for kind, ports in (("read", fragment._read_ports), ("write", fragment._write_ports)):
        for number, port in enumerate(ports):
            stem = f"{memory}_{kind}{number if len(ports) > 1 else ''}"
            for part in ("addr", "data", "en"):
                value = getattr(port, f"_{part}", None)
                if isinstance(value, Signal) and value not in owners:
                    owners[value] = around, f"{stem}__{part}"


def _name_signals(design, fragment, info, owners, taken):
    """Names in one module. Numbers behind them go to the later of those that come first: its ports, then its own
    signals, then those of its parts."""
    named = []
    for signal in info.used_signals:
        if not len(signal):     # it would be declared, and as two bits
            continue
        owner, name = owners[signal] if signal in owners else (None, signal.name)
        if owner is fragment:
            named.append((_PORT, _plain(name), signal))
        elif owner is not None and _within(design, owner, fragment):
            named.append((_PART, "__".join((*design.fragments[owner].name[len(info.name):], _plain(name))), signal))
        elif name:
            if owner is not None and not _within(design, fragment, owner):      # it passes by
                name = f"{design.fragments[owner].name[-1]}__{name}"
            named.append((_NAMELESS if name.startswith("$") else _OWN, _plain(name), signal))
    used, chosen = {*taken}, {}
    for kind, name, signal in sorted(named, key=lambda each: each[0]):
        chosen[kind, id(signal)] = _unique(name, used)
        used.add(chosen[kind, id(signal)])
    # Where several are one net, the first of them gives it its name: the module's own rather than a port.
    info.signal_names = _ast.SignalDict()
    for kind, _, signal in sorted(named, key=lambda each: (each[0] != _OWN, each[0])):
        info.signal_names[signal] = chosen[kind, id(signal)]
    info.aliases = {chosen[kind, id(signal)] for kind, _, signal in named if kind in (_NAMELESS, _PART)}


def _within(design, fragment, around):
    while fragment is not None and fragment is not around:
        fragment = design.fragments[fragment].parent
    return fragment is not None


# Ports

def _set_ports(netlist, module, interface, order):
    """Give a module the ports of its component; others, of signals that are used across its border, come behind
    them."""
    if module.parent is None:
        places = {name: place for place, name in enumerate((*(name for name in _CLOCKS if name not in order), *order))}
        module.ports = dict(sorted(module.ports.items(), key=lambda port: places.get(port[0], len(places))))
        return
    found, covered = {}, set()
    for _, flow, signal, _ in interface:
        if signal not in module.signal_names:
            continue
        value = netlist.signals[signal]
        flows = [module.net_flow.get(net) for net in value]
        wanted = _FLOWS[flow] if flow else next((way for way in reversed(_FLOWS.values()) if way in flows), None)
        # of a part without a signature, some may not cross its border at all
        if wanted is not None and wanted in flows:
            found[module.signal_names[signal]] = value, wanted
            covered |= {net for net, way in zip(value, flows) if way == wanted}
    names, rest = {*module.signal_names.values()}, {}
    for name, (value, flow) in module.ports.items():
        if not covered.issuperset(value):
            if name in found or "$" in name:
                # Without the number that Amaranth gives to one of several: a name with "$" is anew in each module's
                # text.
                name = next((its for signal, its in module.signal_names.items() if value[0] in netlist.signals[signal]),
                            "port").split("$")
                name = _unique(name[0] + "".join(part.lstrip("0123456789") for part in name[1:]) + "_part", names)
            rest[name] = value, flow
            names.add(name)
    clocks = {name: rest.pop(name) for name in _CLOCKS if name in rest}
    module.ports = clocks | found | dict(sorted(rest.items()))


class _Emitter(rtlil.ModuleEmitter):
    """Amaranth's, with names for what has none, and without aliases: of fields of structures, and of ports of parts."""

    def __init__(self, builder, netlist, module, empty_checker, names, aliases):
        super().__init__(builder, netlist, module, _ast.SignalDict(), empty_checker)
        self._names, self._aliases, self._counts, self._next, self._part_wires = names, aliases, {}, {}, {}
        self._used = {*module.signal_names.values(), *module.ports, *(netlist.modules[index].name[-1]
                                                                      for index in module.submodules),
                      *(cell.name for cell in map(netlist.cells.__getitem__, module.cells)
                        if isinstance(cell, (_nir.Memory, _nir.Instance)))}

    def emit(self):
        super().emit()
        vars(self).clear()      # functions that Amaranth has made in there hold it, and themselves

    def assign_value_names(self):
        super().assign_value_names()
        for index in self.module.cells:
            cell = self.netlist.cells[index]
            if isinstance(cell, _nir.FlipFlop):
                output = _nir.Value(_nir.Net.from_cell(index, bit) for bit in range(len(cell.data)))
                if output in self.value_names:
                    self._next.setdefault(cell.data, f"{self.value_names[output]}_next")

    def emit_driven_wire(self, value):
        if value in self.value_names or not value:
            return super().emit_driven_wire(value)
        wire = self.builder.wire(len(value), name=self._result(value), attrs=self.value_attrs.get(value, {}))
        for bit, net in enumerate(value):
            self.nets[net] = (wire, bit)
        return wire

    def _result(self, value):
        """A name for the result of a cell."""
        cell = self.netlist.cells[value[0].cell]
        if isinstance(cell, _nir.AssignmentList):
            return self._new(self._next[value], False) if value in self._next else self._new("_selected")
        if isinstance(cell, _nir.Operator):
            return self._new(f"_{_OPERATORS.get(cell.operator, 'result')}")
        if isinstance(cell, (_nir.SyncReadPort, _nir.AsyncReadPort)):
            return self._new(f"{self.netlist.cells[cell.memory].name}_data", False)
        if isinstance(cell, _nir.Instance):
            port = next((name for name, (start, width) in cell.ports_o.items() if start == value[0].bit), "output")
            return self._new(f"{cell.name}__{port}", False)
        return self._new("_part" if isinstance(cell, _nir.Part) else "_value")

    def _new(self, name, numbered=True):
        while True:
            self._counts[name] = count = self._counts.get(name, 0) + 1
            found = f"{name}{count}" if numbered else name if count == 1 else f"{name}_{count}"
            if found not in self._used:
                self._used.add(found)
                return found

    def emit_connects(self):
        for name, (wire, value) in self.sigport_wires.items():
            if name in self.driven_sigports:
                continue
            if name in self._aliases:
                del self.builder.contents[wire.name]
            else:
                wire.attributes.pop("init", None)       # the register has it
                self.builder.connect(wire.name, self.sigspec(value))

    def emit_signal_fields(self):
        pass

    def emit_submodule_wires(self):
        known = set()
        for index in self.module.submodules:
            part = self.netlist.modules[index]
            for name, (value, flow) in part.ports.items():
                if flow != _nir.ModuleNetFlow.Output:
                    continue
                # What is constant in an output, passes the part, or is in another of its outputs too, is not driven
                # here.
                own = [part.net_flow.get(net) == flow and net not in known for net in value]
                known.update(net for net, mine in zip(value, own) if mine)      # what passes a part is another one's
                if all(own):
                    wire = self.emit_driven_wire(value)
                else:
                    wire = self.builder.wire(len(value), name=self._new(f"{part.name[-1]}__{name}_whole", False))
                    for bit, net in enumerate(value):
                        if own[bit]:
                            self.nets[net] = (wire, bit)
                self._part_wires[index, name] = wire

    def emit_submodules(self):
        for index in self.module.submodules:
            part = self.netlist.modules[index]
            if not self.empty_checker.is_empty(index):
                ports = {name: self._part_wires[index, name].name if flow == _nir.ModuleNetFlow.Output
                         else self.sigspec(value)
                         for name, (value, flow) in part.ports.items()}
                self.builder.cell(f"\\{self._names[part.name]}", part.name[-1], ports=ports, src_loc=part.cell_src_loc)
