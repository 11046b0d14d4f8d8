"""The ports of AMBA buses, by the names that tools know, and a slave's side of AXI4-Lite."""
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LiteSlave", "read_master", "lite_slave", "stream_master", "stream_slave", "write_master"]


def read_master(axi, prefix="m_axi_"):
    """Members of the two read channels of an AXI4 master, for an `AxiShape`."""
    members = {
        "arid": Out(axi.id_width), "araddr": Out(axi.address_width), "arlen": Out(8), "arsize": Out(3),
        "arburst": Out(2),
        "arlock": Out(1), "arcache": Out(4), "arprot": Out(3), "arqos": Out(4), "arvalid": Out(1), "arready": In(1),
        "rid": In(axi.id_width), "rdata": In(axi.data_width), "rresp": In(2), "rlast": In(1), "rvalid": In(1),
        "rready": Out(1)}
    return {prefix + name: member for name, member in members.items()}


def write_master(axi, prefix="m_axi_"):
    """Members of the three write channels of an AXI4 master, for an `AxiShape`."""
    members = {
        "awid": Out(axi.id_width), "awaddr": Out(axi.address_width), "awlen": Out(8), "awsize": Out(3),
        "awburst": Out(2),
        "awlock": Out(1), "awcache": Out(4), "awprot": Out(3), "awqos": Out(4), "awvalid": Out(1), "awready": In(1),
        "wdata": Out(axi.data_width), "wstrb": Out(axi.word_bytes), "wlast": Out(1), "wvalid": Out(1), "wready": In(1),
        "bid": In(axi.id_width), "bresp": In(2), "bvalid": In(1), "bready": Out(1)}
    return {prefix + name: member for name, member in members.items()}


def lite_slave(address_width, prefix="s_axi_"):
    """Members of an AXI4-Lite slave of 32 bits."""
    members = {
        "awaddr": In(address_width), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
        "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
        "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
        "araddr": In(address_width), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
        "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1)}
    return {prefix + name: member for name, member in members.items()}


def stream_slave(width, prefix):
    """Members of an AXI4-Stream input."""
    return {f"{prefix}_tvalid": In(1), f"{prefix}_tready": Out(1), f"{prefix}_tdata": In(width),
            f"{prefix}_tlast": In(1)}


def stream_master(width, prefix):
    """Members of an AXI4-Stream output."""
    return {f"{prefix}_tvalid": Out(1), f"{prefix}_tready": In(1), f"{prefix}_tdata": Out(width),
            f"{prefix}_tlast": Out(1)}


class LiteSlave(wiring.Component):
    """AXI4-Lite's handshakes, for registers that know nothing of them.

    A read: ``read`` is high for one cycle with ``read_address`` (of 32-bit words), which stays; ``read_data`` and
    ``read_refused`` are taken two cycles later, so that a memory may be looked up between. A write: ``write`` is high
    for one cycle with ``write_address`` and ``write_data``, and ``write_refused`` is taken in that cycle. What is
    refused is answered with SLVERR; so is a write of less than a whole word, which is not passed on. One read and one
    write at a time: a read is taken every fifth cycle, a write every second. Address and data of a write are taken
    together, in the cycle after both are offered. All that leaves comes from registers: no output hangs on an input of
    the same cycle.

    Parameters
    ----------
    address_width : int     bits of a byte address
    """

    def __init__(self, address_width):
        self._address_width = address_width
        word = address_width - 2
        super().__init__({
            **lite_slave(address_width),
            "read": Out(1), "read_address": Out(word), "read_data": In(32), "read_refused": In(1),
            "write": Out(1), "write_address": Out(word), "write_data": Out(32), "write_refused": In(1)})

    def elaborate(self, platform):
        m = Module()
        # An answer that waits keeps the next write out. What is offered stays, so it may be taken a cycle later.
        take = Signal()
        whole = self.s_axi_wstrb.all()
        m.d.sync += take.eq(self.s_axi_awvalid & self.s_axi_wvalid & ~take & (~self.s_axi_bvalid | self.s_axi_bready))
        m.d.comb += [self.s_axi_awready.eq(take), self.s_axi_wready.eq(take), self.write.eq(take & whole),
                     self.write_address.eq(self.s_axi_awaddr[2:]), self.write_data.eq(self.s_axi_wdata)]
        with m.If(take):
            m.d.sync += [self.s_axi_bvalid.eq(1), self.s_axi_bresp[1].eq(~whole | self.write_refused)]
        with m.Elif(self.s_axi_bready):
            m.d.sync += self.s_axi_bvalid.eq(0)

        looked, found = Signal(name="looked"), Signal()
        m.d.comb += self.s_axi_arready.eq(~self.read & ~looked & ~found & ~self.s_axi_rvalid)
        m.d.sync += [self.read.eq(self.s_axi_arvalid & self.s_axi_arready), looked.eq(self.read), found.eq(looked)]
        with m.If(self.s_axi_arvalid & self.s_axi_arready):
            m.d.sync += self.read_address.eq(self.s_axi_araddr[2:])
        with m.If(found):
            m.d.sync += [self.s_axi_rvalid.eq(1), self.s_axi_rdata.eq(self.read_data),
                         self.s_axi_rresp[1].eq(self.read_refused)]
        with m.Elif(self.s_axi_rready):
            m.d.sync += self.s_axi_rvalid.eq(0)
        return m
