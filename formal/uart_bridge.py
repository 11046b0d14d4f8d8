"""`UartBridge`: each request is executed once, whatever its sender repeats, and its AXI4-Lite master keeps the
rules."""
from amaranth.hdl import Cat, Signal

from hwgen.params.frames import FIRST
from hwgen.units.uart_bridge import UartBridge

from .axi import lite_channels, owed
from .broken import Break
from .harness import Harness
from .proofs import Proof
from .stream import gives, takes

__all__ = ["PROOFS"]


def _harness(address_width, divisor):
    """What is read from the memories of request and answer is anything (`abstract`)."""
    unit = UartBridge(address_width, divisor)
    h = Harness(unit)
    state = h.state
    rx = unit.rx_valid
    h.assume(~(h.before(rx) & rx))                      # a byte takes more than a cycle
    aw, w, b, ar, r = lite_channels(unit, "m_axi_")
    takes(h, b)
    takes(h, r)
    for sent, name in ((aw, "aw"), (w, "w"), (ar, "ar")):
        gives(h, sent, name)
    gives(h, unit.tx, "tx")
    addresses, data, reads = (owed(h, asked, answered, 1, name)
                              for asked, answered, name in ((aw, b, "aw"), (w, b, "w"), (ar, r, "ar")))
    h.assume(~b.valid | (addresses != 0) & (data != 0))         # the slave answers what it was asked
    h.assume(~r.valid | (reads != 0))
    h.never("two_at_once", (addresses + aw.valid > 1) | (data + w.valid > 1) | (reads + ar.valid > 1)
            | ((addresses != 0) | (data != 0) | aw.valid | w.valid) & ((reads != 0) | ar.valid))
    h.never("answer_refused", b.valid & ~unit.m_axi_bready | r.valid & ~unit.m_axi_rready)

    # A frame that is accepted is executed exactly if its number is new; and nothing but that touches the bus.
    inside = h.inside
    accepted = state("CHECK") & rx & (unit.rx_data == inside.crc.crc[:8])
    known, last = Signal(), Signal(8)           # what a sender knows: the number of the frame that was accepted before
    new = ~known | (inside.request.sequence != last) | (inside.request.sequence == FIRST)
    with h.m.If(accepted):
        h.m.d.sync += [known.eq(1), last.eq(inside.request.sequence)]
    receiving = Cat(state(name) for name in ("HUNT", "SEQUENCE", "LENGTH", "BYTES", "CHECK")).any()
    executing = Cat(state(name) for name in ("OPERATION", "ADDRESS", "FIT", "MALFORMED", "WORD", "WRITE", "READ",
                                             "READING", "KEEP", "NEXT")).any()
    was = h.before(Cat(accepted & new, accepted & ~new, executing, receiving))
    h.never("repeated", was[1] & executing)
    h.never("left_out", was[0] & ~executing)
    h.never("unasked", executing & ~was[2] & ~was[0])
    h.never("bus_touched", (aw.valid | w.valid | ar.valid | (addresses != 0) | (data != 0) | (reads != 0)) & ~executing)
    h.never("forgotten", (inside.request.known != known) | known & (inside.request.last != last))
    h.never("request_lost", executing & h.before(executing)
            & (inside.request.sequence != h.before(inside.request.sequence)))

    # A word of a write is written once, and one of a read is read once: by the time that it is done with, both channels
    # were taken.
    done = state("NEXT") & h.before(state("WRITE"))
    wrote = Signal(range(4))
    with h.m.If(state("WORD")):
        h.m.d.sync += wrote.eq(0)
    with h.m.Elif((aw.valid & aw.ready) | (w.valid & w.ready)):
        h.m.d.sync += wrote.eq(wrote + (aw.valid & aw.ready) + (w.valid & w.ready))
    h.never("not_once", done & (wrote != 2))
    return h


#: The bridge takes WVALID back when ...
_W_TAKEN = "with m.If(self.m_axi_wready):\n                m.d.sync += self.m_axi_wvalid.eq(0)"
_W_LATER = "with m.If(self.m_axi_wready & self.tx.ready):\n                m.d.sync += self.m_axi_wvalid.eq(0)"
_W_LAST = "with m.If(self.m_axi_bvalid):\n                m.d.sync += self.m_axi_wvalid.eq(0)"
_BREAKS = {name: Break(UartBridge, old, new) for name, old, new in [
    ("aw_withdrawn", "with m.If(self.m_axi_awready):", "with m.If(1):"),
    ("aw_changed", "self.m_axi_awaddr.eq(address)", "self.m_axi_awaddr.eq(address ^ self.m_axi_awready)"),
    ("w_withdrawn", "with m.If(self.m_axi_wready):", "with m.If(1):"),
    ("w_changed", "self.m_axi_wdata.eq(word)", "self.m_axi_wdata.eq(word ^ self.m_axi_wready)"),
    ("ar_withdrawn", "with m.If(self.m_axi_arready):", "with m.If(1):"),
    ("ar_changed", "self.m_axi_araddr.eq(address)", "self.m_axi_araddr.eq(address ^ self.m_axi_arready)"),
    ("tx_withdrawn", "m.d.comb += [self.tx.valid.eq(1), self.tx.payload.eq(START), anew.eq(1)]",
     "m.d.comb += [self.tx.valid.eq(~self.rx_valid), self.tx.payload.eq(START), anew.eq(1)]"),
    ("tx_changed",
     "m.d.comb += [self.tx.valid.eq(1), self.tx.payload.eq(crc.crc[:8])]",
     "m.d.comb += [self.tx.valid.eq(1), self.tx.payload.eq(crc.crc[:8] ^ self.rx_valid)]"),
    ("two_at_once", _W_TAKEN, _W_LAST),
    ("answer_refused", "m.d.comb += self.m_axi_rready.eq(1)", "m.d.comb += self.m_axi_rready.eq(self.tx.ready)"),
    ("repeated", "(sequence != last)", "1"),
    ("left_out", "(sequence != last) |", "(sequence != last) &"),
    ("unasked", "with m.If(self.rx_data == crc.crc[:8]):\n                    # the memory",
     "with m.If(1):\n                    # the memory"),
    ("bus_touched", _W_TAKEN, _W_LATER),
    ("forgotten", "last.eq(sequence)", "last.eq(length)"),
    ("request_lost", "m.d.sync += [operation.code.eq(byte),",
     "m.d.sync += [request.sequence.eq(byte), operation.code.eq(byte),"),
    ("not_once", _W_TAKEN, _W_LATER),
]}

PROOFS = [Proof("UartBridge", f"addresses of {width} bits, divisor {divisor}",
                lambda width=width, divisor=divisor: _harness(width, divisor),
                breaks=_BREAKS if not k else {}, depth=60, abstract=("t:$memrd*",))
                for k, (width, divisor) in enumerate([(6, 1), (16, 3)])]
