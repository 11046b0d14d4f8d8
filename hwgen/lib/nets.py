"""Amaranth's netlist of a design, as `amaranth.hdl._ir.build_netlist` makes it, in a third of the memory.

Amaranth keeps, until all is there, what each expression has become and all statements, and remembers of each bit where
it was assigned, for its error messages. Here a statement ends when it has been taken in, what it has become ends with
it, and the places are kept as ranges.
"""
import itertools
import weakref
from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Format, Fragment, Module, Signal
from amaranth.hdl import _ast, _ir, _nir

__all__ = ["build_netlist", "prepared"]


def prepared(component: Any, ports: dict, name: str) -> _ir.Design:
    """The `Design` of a component, whose statements nothing else holds."""
    design = Fragment.get(component, None).prepare(ports=ports, hierarchy=(name,))
    for fragment in design.fragments:       # it has copies
        for origin in fragment.origins or ():
            if type(origin) is Module:
                origin._statements.clear()
    return design


def build_netlist(design: _ir.Design) -> _nir.Netlist:
    """The `Netlist` of a `prepared` design, which has no statements any more behind this."""
    netlist = _Netlist()
    emitter = _Emitter(netlist, design)
    emitter.emit_fragment(design.fragment, None)
    emitter.rhs_cache.clear()
    if netlist.is_cyclic():
        netlist.check_comb_cycles()     # which says where, with sets of all nets
    netlist.resolve_all_nets()
    netlist.connections.clear()
    _ir._compute_net_flows(netlist)
    _ir._compute_ports(netlist)
    _ir._compute_ionet_dirs(netlist)
    _ir._compute_io_ports(netlist, design.ports)
    return netlist


class _Late:
    """Of each late net, its signal and the bit of it: of the last net allocated of each signal, as they are allocated
    downwards."""

    def __init__(self) -> None:
        self._signals: list[tuple[int, Signal]] = []

    def add(self, first: int, signal: Signal) -> None:
        self._signals.append((first, signal))

    def __getitem__(self, net: int) -> tuple[Signal, int]:
        return next((signal, net - first) for first, signal in self._signals if first <= net < first + len(signal))


class _Netlist(_nir.Netlist):
    def __init__(self) -> None:
        super().__init__()
        self.late_to_signal: Any = _Late()

    def alloc_late_value(self, signal: Signal) -> _nir.Value:
        self.last_late_net -= len(signal)
        self.late_to_signal.add(self.last_late_net, signal)
        return _nir.Value(_nir.Net.from_late(self.last_late_net + bit) for bit in range(len(signal)))

    def is_cyclic(self) -> bool:
        """Whether a net depends on itself, without a register between."""
        widths = [max((net.bit + 1 for net in cell.output_nets(index)), default=0)
                  for index, cell in enumerate(self.cells)]
        starts = list(itertools.accumulate(widths, initial=-self.last_late_net))
        known = bytearray(starts[-1])       # of each late net, then of each of the cells': 1 on the path, 2 behind it

        def place(net):
            return -1 - net if net < 0 else starts[net >> 16] + (net & 0xFFFF)

        def sources(net):
            if net < 0:
                return iter((self.connections[net],))
            return (source for source, _ in self.cells[net >> 16].comb_edges_to(net & 0xFFFF))

        outputs = (cell.output_nets(index) for index, cell in enumerate(self.cells))
        for net in itertools.chain.from_iterable(itertools.chain(self.signals.values(), outputs)):
            path = [(net, sources(net))] if not known[place(net)] else []
            while path:
                at, following = path[-1]
                known[place(at)] = 1
                source = next((source for source in following if source not in (0, 1) and known[place(source)] != 2),
                              None)
                if source is None:
                    known[place(path.pop()[0])] = 2
                elif known[place(source)] == 1:
                    return True
                else:
                    path.append((source, sources(source)))
        return False


class _Results(dict):
    """What values have become, by their identity, as long as they live."""

    def __setitem__(self, key: int, made: tuple) -> None:
        result, signed, value = made
        super().__setitem__(key, (result, signed, weakref.KeyedRef(value, self._end, key)))

    def _end(self, reference: weakref.KeyedRef) -> None:
        self.pop(reference.key, None)


class _Drained(_ast.SignalDict):
    """Each item ends when the next one is asked for."""

    def items(self) -> Iterator[tuple]:     # type: ignore[override]
        while self._storage:
            key, value = self._storage.popitem(last=False)
            yield self._unmap_key(key), value
            del value


def _taken(statements: list) -> Iterator:
    statements.reverse()
    while statements:
        yield statements.pop()


class _Emitter(_ir.NetlistEmitter):
    def __init__(self, netlist: _Netlist, design: _ir.Design) -> None:
        super().__init__(netlist, design)
        self.rhs_cache, self.drivers = _Results(), _Drained()
        self.late_net_to_signal = netlist.late_to_signal
        self._connected: list[tuple] = []       # (nets, where)

    def emit_signal(self, signal: Signal) -> _nir.Value:
        if signal not in self.netlist.signals:
            self.netlist.signals[signal] = self.netlist.alloc_late_value(signal)
        return self.netlist.signals[signal]

    def connect(self, lhs: _nir.Value, rhs: _nir.Value, *, src_loc: Any) -> None:
        for net in lhs:
            if net in self.netlist.connections:
                self.connect_src_loc = {net: next(at for nets, at in self._connected if net in nets)}
                break
        else:
            self._connected.append((lhs, src_loc))
            self.netlist.connections.update(zip(lhs, rhs, strict=True))
            return
        super().connect(lhs, rhs, src_loc=src_loc)      # which refuses it

    def emit_fragment(self, fragment: Fragment, parent_module_idx: int | None, *, cell_src_loc: Any = None) -> None:
        if type(fragment) is Fragment:
            fragment.statements = {domain: _taken(statements) for domain, statements in fragment.statements.items()}
        super().emit_fragment(fragment, parent_module_idx, cell_src_loc=cell_src_loc)

    def emit_signal_fields(self) -> None:
        """Of whole signals alone, as `hwgen.lib.netlist` writes no others."""
        for signal in self.design.signal_lca:
            of, names = signal._format, {}
            if isinstance(of, Format.Enum):
                names = {"enum_name": of._name, "enum_variants": of._variants}
            self.netlist.signal_fields[signal] = {(): _nir.SignalField(self.emit_signal(signal),
                                                                       signed=signal.shape().signed, **names)}
