"""Keys and values outside: the unit that has them in place of the KV cache, and its bus."""
from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.axi import read_master, write_master
from ..params.kv_port import KV_PREFIX, kv_axi
from ..units.axi_reader import ReadError
from . import make

__all__ = ["KvBus", "follow_kv_bus", "kv_bus_ports", "kv_members"]


def kv_bus_ports(design, axi=None):
    """Members of the port to the memory of keys and values: an AXI4 master. ``axi``: the bus of the weights."""
    bus = kv_axi(design.hw, axi)
    return {**write_master(bus, KV_PREFIX), **read_master(bus, KV_PREFIX)}


def kv_members(design, axi=None):
    """Members of a decoder: the port, and what belongs to it."""
    width = kv_axi(design.hw, axi).address_width
    fault = StructLayout({"valid": 1, "code": ReadError, "address": width})
    return {**kv_bus_ports(design, axi), "kv_base": In(width), "kv_timeout": In(32), "kv_flush": In(1),
            "kv_flushed": Out(1), "kv_bad": Out(1), "kv_fault": Out(fault)}


def follow_kv_bus(m, decoder, regs, resetting, error):
    """What software says to the bus of keys and values of a decoder. Returns the error of either bus; of both at once,
    that of the weights, ``error``."""
    either = Signal.like(error, name="bus_error")
    high = getattr(regs, "kv_base_hi_value", Const(0, 0))
    m.d.comb += [decoder.kv_base.eq(Cat(Const(0, 12), regs.kv_base_lo_value, high)),
                 decoder.kv_timeout.eq(regs.timeout_value), decoder.kv_flush.eq(resetting),
                 either.eq(decoder.kv_fault)]
    with m.If(error.valid):
        m.d.comb += either.eq(error)
    return either


class KvBus(wiring.Component):
    """A `KvPort` on an AXI4 bus, through an `AxiReader` and an `AxiWriter`.

    Members
    -------
    ask, error, write, jobs, k_o, v_o   as those of `KvPort`
    m_axi_kv_*              AXI4 master: the memory of keys and values
    base                    address of its first byte; bits 11..0 are taken as 0
    timeout : In(32)        cycles of silence that are an error; 0: never
    flush, flushed          as those of `AxiReader`: before a reset; nothing is written any more
    bad : Out(1)            for one cycle: a beat could not be read or written
    fault : Out             {valid, code, address}: for one cycle, of the word that failed
    """

    def __init__(self, design, axi=None):
        self._port, self._reader, self._writer = make.kv_port(design), make.kv_reader(design, axi), make.axi_writer(
            design, axi)
        self._bus = kv_axi(design.hw, axi)
        port = self._port.signature.members
        super().__init__({**{name: port[name] for name in ("ask", "error", "write", "jobs", "k_o", "v_o")},
                          **{name.removeprefix("kv_"): member for name, member in kv_members(design, axi).items()}})

    def elaborate(self, platform):
        m = Module()
        m.submodules.port, m.submodules.reader, m.submodules.writer = self._port, self._reader, self._writer
        port, reader, writer = self._port, self._reader, self._writer
        for name in ("ask", "write", "jobs"):
            connect(m, flipped(getattr(self, name)), getattr(port, name))
        for name in ("k_o", "v_o"):
            connect(m, getattr(port, name), flipped(getattr(self, name)))
        connect(m, port.req, reader.req)
        connect(m, reader.beats, port.beats)
        m.d.comb += [writer.put.valid.eq(port.put.valid & ~self.flush), writer.put.payload.eq(port.put.payload),
                     port.put.ready.eq(writer.put.ready & ~self.flush), port.settled.eq(writer.settled),
                     self.error.eq(port.error), reader.flush.eq(self.flush),
                     self.flushed.eq(reader.flushed & writer.settled),
                     self.bad.eq(reader.beats.valid & reader.beats.ready & reader.beats_bad | writer.error.valid)]
        m.d.comb += [self.fault.eq(reader.error)]
        with m.If(writer.error.valid):
            m.d.comb += self.fault.eq(writer.error)
        for unit in (reader, writer):
            m.d.comb += [unit.base.eq(self.base), unit.timeout.eq(self.timeout)]
        for unit, members in ((reader, read_master(self._bus)), (writer, write_master(self._bus))):
            for name, member in members.items():
                outside, inside = getattr(self, name.replace("m_axi_", KV_PREFIX)), getattr(unit, name)
                m.d.comb += inside.eq(outside) if member.flow == In else outside.eq(inside)
        return m
