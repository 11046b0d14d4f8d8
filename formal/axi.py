"""Rules of AXI, after Arm's AMBA AXI Protocol Specification (IHI 0022, issue H; chapters A3 and B1), of our slave and
of our masters."""
from types import SimpleNamespace

from amaranth.lib.data import View
from amaranth.hdl import Array, Cat, Mux, Signal
from amaranth.utils import exact_log2

from hwgen.lib.axi import LiteSlave
from hwgen.params.axi import PAGE, AxiShape
from hwgen.params.registers import register_map
from hwgen.top import make
from hwgen.units.axi_reader import DESCRIPTORS, AxiReader
from hwgen.units.axi_registers import AxiRegisters
from sim.designs import small_design

from .broken import Break
from .harness import Harness
from .proofs import Proof
from .stream import gives, passes, takes

__all__ = ["PROOFS", "lite_channels"]

#: Cycles in which the slave takes what is offered and answers it, if its answers are taken.
SLAVE_CYCLES = 8


def channel(unit, prefix, *names):
    """A channel as a stream, its payload all of its signals that are named."""
    return SimpleNamespace(valid=getattr(unit, f"{prefix}valid"), ready=getattr(unit, f"{prefix}ready"),
                           payload=Cat(getattr(unit, prefix + name) for name in names))


def lite_channels(unit, prefix):
    """AW, W, B, AR, R of an AXI4-Lite interface."""
    return (channel(unit, f"{prefix}aw", "addr", "prot"), channel(unit, f"{prefix}w", "data", "strb"),
            channel(unit, f"{prefix}b", "resp"),
            channel(unit, f"{prefix}ar", "addr", "prot"), channel(unit, f"{prefix}r", "data", "resp"))


def owed(h, asked, answered, most, name):
    """How many of ``asked`` have no answer yet; it counts to one more than ``most``."""
    count = Signal(range(most + 2), name=f"owed_{name}")
    h.m.d.sync += count.eq(count + (asked.valid & asked.ready) - (answered.valid & answered.ready))
    return count


def waits(h, condition, cycles, name):
    """``condition`` has held for more than that many cycles on end."""
    count = Signal(range(cycles + 2), name=f"waits_{name}")
    with h.m.If(~condition):
        h.m.d.sync += count.eq(0)
    with h.m.Elif(count <= cycles):
        h.m.d.sync += count.eq(count + 1)
    return count > cycles


def lite_slave(h, unit, prefix="s_axi_"):
    """The rules of an AXI4-Lite slave. One request at a time of each kind: that is ours, not the specification's."""
    aw, w, b, ar, r = lite_channels(unit, prefix)
    for taken in (aw, w, ar):
        takes(h, taken)
    gives(h, b, "b")        # A3.2.1: a source that has asserted VALID keeps it, and what it offers, until the handshake
    gives(h, r, "r")
    addresses, data, reads = (owed(h, asked, answered, 1, name)
                              for asked, answered, name in ((aw, b, "aw"), (w, b, "w"), (ar, r, "ar")))
    h.never("b_unasked", b.valid & ((addresses == 0) | (data == 0)))         # A3.3.1: BVALID waits for both handshakes
    h.never("r_unasked", r.valid & (reads == 0))
    h.never("two_at_once", (addresses > 1) | (data > 1) | (reads > 1))
    # B1.1.1: no EXOKAY; and DECERR is the interconnect's
    h.never("odd_answer", b.valid & b.payload[0] | r.valid & r.payload[32])
    h.never("write_hangs", waits(h, aw.valid & w.valid & b.ready & ~(aw.ready & w.ready), SLAVE_CYCLES, "write")
            | waits(h, (addresses != 0) & (data != 0) & ~b.valid, SLAVE_CYCLES, "b"))
    h.never("read_hangs", waits(h, ar.valid & ~ar.ready & r.ready, SLAVE_CYCLES, "read")
            | waits(h, (reads != 0) & ~r.valid, SLAVE_CYCLES, "r"))


def _lite():
    unit = LiteSlave(6)
    h = Harness(unit)
    lite_slave(h, unit)
    aw, w, *_ = lite_channels(unit, "s_axi_")
    taken = aw.valid & aw.ready & w.valid & w.ready & unit.s_axi_wstrb.all()
    h.never("not_once", unit.write != taken)
    h.never("write_altered", unit.write & ((unit.write_address != unit.s_axi_awaddr[2:])
                                           | (unit.write_data != unit.s_axi_wdata)))
    h.never("refusal_altered", h.before(aw.valid & aw.ready)
            & (unit.s_axi_bresp[1] != h.before(~unit.s_axi_wstrb.all() | unit.write_refused)))
    h.never("read_altered", unit.read & (unit.read_address != h.before(unit.s_axi_araddr[2:])))
    h.never("read_moved", ~unit.read & (unit.read_address != h.before(unit.read_address)))
    looked = h.before(h.before(unit.read))      # two cycles ago: what is found is taken now
    h.never("found_altered", h.before(looked) & (
        ~unit.s_axi_rvalid | (unit.s_axi_rdata != h.before(unit.read_data))
        | (unit.s_axi_rresp[1] != h.before(unit.read_refused))))
    return h


def _registers(changes, axi):
    unit = AxiRegisters(register_map(small_design(source="stream", **changes), AxiShape(**axi)))
    h = Harness(unit)
    lite_slave(h, unit)
    return h


def _reader(changes, axi):
    """(harness of an `AxiReader`, the unit, its parameters, its AR channel)."""
    design, shape = small_design(source="stream", **changes), AxiShape(**axi)
    unit = make.axi_reader(design, shape)
    h = Harness(unit)
    takes(h, unit.req)
    further = unit.req.p.count - 1
    last = unit.req.p.address + Mux(unit.req.p.stride, further * design.hw.tile_beats, further)
    # all of a request is in the stream
    h.assume(~unit.req.valid | (unit.req.p.count != 0) & (last < design.stream_beats))
    h.assume(~h.before(unit.flush & ~unit.flushed) | unit.flush)        # held until ``flushed``
    return h, unit, design, shape, channel(unit, "m_axi_ar", "addr", "len", "size", "burst", "cache", "prot", "id",
                                           "lock", "qos")


def _reader_addresses(changes, axi):
    """The rules of the address channel, and of the beats of words that are not wider, whatever the memory gives."""
    h, unit, design, shape, ar = _reader(changes, axi)
    gives(h, ar, "ar")
    first, size = unit.m_axi_araddr, shape.word_bytes
    h.never("ar_crosses_page", ar.valid & ((first % PAGE) + (unit.m_axi_arlen + 1) * size > PAGE))      # A3.4.1
    h.never("ar_odd", ar.valid & ((first % size != 0) | (1 << unit.m_axi_arsize != size) | (unit.m_axi_arburst != 1)
                                  | (unit.m_axi_arid != 0)
                                  | (unit.m_axi_arlen >= shape.burst_words) | (unit.m_axi_arlock != 0)))
    # so that the proof is short: a burst has a word
    h.never("piece_empty", h.inside._ask.active & (h.inside._ask.left == 0))
    h.never("r_refused", ~unit.m_axi_rready)
    if shape.word_bytes <= design.hw.beat_bytes:
        _beats(h, unit)
    return h


def _beats(h, unit):
    held = h.before(unit.beats.valid & ~unit.beats.ready & ~unit.flush) & ~unit.flush
    h.never("beats_withdrawn", held & ~unit.beats.valid)
    h.never("beats_changed", held & ((unit.beats.payload != h.before(unit.beats.payload))
                                     | (unit.beats_bad != h.before(unit.beats_bad))))


def _queued(h, queue, depth, clear=0):
    """What is in a `SyncFIFO`, seen from outside: (how many items, [item], the oldest first).

    It is assumed that the queue is one: that is proved by itself (`formal.queues`).
    """
    level, items = Signal(range(depth + 1)), [Signal(len(queue.w_data)) for _ in range(depth)]
    came, went = queue.w_en & queue.w_rdy, queue.r_en & queue.r_rdy
    h.m.d.sync += level.eq(Mux(clear, 0, level + came - went))
    with h.m.If(went):
        h.m.d.sync += [item.eq(further) for item, further in zip(items, items[1:])]
    for i, item in enumerate(items):
        with h.m.If(came & (level - went == i)):
            h.m.d.sync += item.eq(queue.w_data)
    h.assume((level <= depth) & (queue.r_rdy == (level != 0)) & (queue.w_rdy == (level != depth))
             & (~queue.r_rdy | (queue.r_data == items[0])))
    return level, items


def _memory_row(h, memory, rows, index):
    """(what a `BlockRam` holds at ``index``, what it shows), of a copy that is written as it is; it is assumed to show
    what the copy does."""
    copy, shown = Array(Signal(len(memory.write_data), name=f"row{i}")
                        for i in range(rows)), Signal(len(memory.read_data), name="row_shown")
    with h.m.If(memory.read_en):
        h.m.d.sync += shown.eq(copy[memory.read_address])
    with h.m.If(memory.write_en):
        h.m.d.sync += copy[memory.write_address].eq(memory.write_data)
    h.assume(memory.read_data == shown)
    return copy[index], shown


def _reader_words(changes, axi):
    """What is owed and what comes, of a memory that gives no word that it does not owe, and says rightly which is the
    last of a burst.

    The properties are inductive together: each word of the FIFO's is owed, inside, or free.
    """
    h, unit, design, shape, ar = _reader(changes, axi)
    asks, came = ar.valid & ar.ready, unit.m_axi_rvalid & unit.m_axi_rready
    words, bursts = Signal(range((shape.outstanding + 1) * shape.burst_words + 1)), Signal(range(shape.outstanding + 2))
    h.m.d.sync += [words.eq(words + Mux(asks, unit.m_axi_arlen + 1, 0) - came),
                   bursts.eq(bursts + asks - (came & unit.m_axi_rlast))]
    h.assume(~unit.m_axi_rvalid | (words != 0) & (bursts != 0) & (unit.m_axi_rlast == h.inside._receive.last))
    there, shown, index = h.inside._keep.there, h.inside._keep.shown, h.inside._receive.index
    h.never("ar_too_many", (bursts > shape.outstanding) | (bursts == shape.outstanding) & ar.valid)
    h.never("r_lost", (there == shape.fifo_words) & came)

    level, owed = _queued(h, h.inside.owed, shape.outstanding)
    owed = [burst[-8:] for burst in owed]       # their lengths, less 1
    waits = Mux(ar.valid, unit.m_axi_arlen + 1, 0)
    all_owed = sum(Mux(level > i, length + 1, 0) for i, length in enumerate(owed))
    newest = Array(owed)[level - 1]
    h.never("piece_empty", h.inside._ask.active & (h.inside._ask.left == 0))
    h.never("burst_too_long", Cat((level > i) & (length >= shape.burst_words) for i, length in enumerate(owed)).any())
    h.never("burst_not_owed", ar.valid & ((level == 0) | (newest != unit.m_axi_arlen)))
    h.never("index_beyond", index > Mux(level != 0, owed[0], 0))
    h.never("bursts_miscounted", bursts + ar.valid != level)
    h.never("words_miscounted", words + waits + index != all_owed)
    h.never("places_miscounted", h.inside.free + there + all_owed != shape.fifo_words + index)

    if shape.word_bytes > design.hw.beat_bytes:
        _beats(h, unit)
        _wanted(h, shape.word_bytes // design.hw.beat_bytes, all_owed + there + shown - index)
    if shape.word_bytes == design.hw.beat_bytes:
        memory = h.inside._keep.words
        h.assume(~unit.flush & ~unit.m_axi_rresp[1])
        r = SimpleNamespace(valid=unit.m_axi_rvalid, ready=unit.m_axi_rready, payload=unit.m_axi_rdata)
        inside = passes(h, r, unit.beats, shape.fifo_words + 2, 1)
        at, shows = _memory_row(h, memory, shape.fifo_words,
                                (memory.read_address + inside.ahead - shown)[:exact_log2(shape.fifo_words)])
        h.never("inside_miscounted", (inside.count != there + shown) | inside.watching & (inside.ahead >= inside.count))
        h.never("ring_torn", (memory.write_address - memory.read_address - there)[:exact_log2(shape.fifo_words)] != 0)
        h.never("not_where_it_was_put", inside.watching
                & (Mux(shown & (inside.ahead == 0), shows, at)[:shape.data_width] != inside.watched))
    return h


def _wanted(h, beats, under_way):
    """Words hold so many beats, and the requests remember which are wanted: of the words that these want, so many are
    under way."""
    ask, out, shift = h.inside._ask, h.inside._take_apart, exact_log2(beats)
    level, items = _queued(h, out.wanted, DESCRIPTORS, clear=h.inside.clear)
    requests = [View(out.shape, item) for item in items]
    wanted = sum(Mux(level > i, Mux(r.stride, r.count, (r.first + r.count + beats - 1) >> shift), 0)
                 for i, r in enumerate(requests))
    given = Mux(level != 0, Mux(requests[0].stride, out.given, (requests[0].first + out.given) >> shift), 0)
    h.never("given_beyond", (out.given != 0) & ((level == 0) | (out.given >= requests[0].count)))
    h.never("place_lost", Mux(level == 0, out.offset != 0, ~requests[0].stride & (out.offset != out.given[:shift])))
    h.never("request_empty", Cat((level > i) & (r.count == 0) for i, r in enumerate(requests)).any())
    h.never("wanted_miscounted", wanted - given != under_way + Mux(ask.active, ask.left + ask.pieces, 0))


def _named(shape):
    shape = {field: value for field, value in shape.items() if field not in _TINY}
    return ", ".join(f"{field} {value}" for field, value in shape.items())


_LITE = {name: Break(LiteSlave, old, new) for name, old, new in [
    ("b_withdrawn", "with m.Elif(self.s_axi_bready):", "with m.Else():"),
    ("b_changed", "with m.Elif(self.s_axi_bready):",
     "with m.Elif(~self.s_axi_bready):\n            m.d.sync += self.s_axi_bresp[1].eq(0)\n        with m.Else():"),
    ("r_withdrawn", "with m.Elif(self.s_axi_rready):", "with m.Else():"),
    ("r_changed", "with m.Elif(self.s_axi_rready):",
     "with m.Elif(~self.s_axi_rready):\n            m.d.sync += self.s_axi_rdata.eq(0)\n        with m.Else():"),
    ("b_unasked", "self.s_axi_wready.eq(take)", "self.s_axi_wready.eq(take & whole)"),
    ("r_unasked", "with m.If(found):", "with m.If(found | self.s_axi_arvalid):"),
    ("two_at_once", "~self.read & ~looked & ~found & ~self.s_axi_rvalid", "~self.s_axi_rvalid"),
    ("odd_answer", "self.s_axi_bresp[1].eq(", "self.s_axi_bresp[0].eq("),
    ("write_hangs", "self.s_axi_awready.eq(take)", "self.s_axi_awready.eq(take & self.s_axi_arvalid)"),
    ("read_hangs", "with m.Elif(self.s_axi_rready):", "with m.Elif(self.s_axi_rready & self.read):"),
    ("not_once", "self.write.eq(take & whole)", "self.write.eq(take)"),
    ("write_altered", "self.write_data.eq(self.s_axi_wdata)", "self.write_data.eq(self.s_axi_wdata << 1)"),
    ("refusal_altered", "~whole | self.write_refused", "~whole & self.write_refused"),
    ("read_altered", "self.read_address.eq(self.s_axi_araddr[2:])", "self.read_address.eq(self.s_axi_araddr)"),
    ("read_moved", "with m.If(self.s_axi_arvalid & self.s_axi_arready):", "with m.If(self.s_axi_arvalid):"),
    ("found_altered", "found.eq(looked)", "found.eq(self.read)"),
]}
_READER = {name: Break(AxiReader, old, new) for name, old, new in [
    ("ar_withdrawn", "with m.Elif(self.m_axi_arready):", "with m.Else():"),
    ("ar_changed", "& (~self.m_axi_arvalid | self.m_axi_arready))", ")"),
    ("ar_crosses_page", "Mux(left < to_end, left, to_end)", "Mux(left < longest, left, longest)"),
    ("ar_odd", "self.m_axi_arburst.eq(1)", "self.m_axi_arburst.eq(2)"),
    ("ar_too_many", "room & self._owed.w_rdy", "room"),
    ("piece_empty", "begun + request.count", "request.count - 1"),
    ("r_refused", "self.m_axi_rready.eq(1)", "self.m_axi_rready.eq(self.beats.ready)"),
    ("r_lost", "free.eq(free - promised + left)", "free.eq(free + left)"),
    ("beats_withdrawn", "with m.If(step):", "with m.If(1):"),
    ("beats_changed", "words.read_en.eq(leave)", "words.read_en.eq(1)"),
    ("invented", "shown.eq(leave)", "shown.eq(1)"),
    ("altered", "words.read_address.eq(words.read_address + 1)", "words.read_address.eq(0)"),
    ("burst_too_long", "Mux(left < to_end, left, to_end)", "left"),
    ("burst_not_owed", "self.m_axi_arlen.eq(length - 1)", "self.m_axi_arlen.eq(length)"),
    ("index_beyond", "index.eq(Mux(last, 0, index + 1))", "index.eq(index + 1)"),
    ("bursts_miscounted", "owed.r_en.eq(came & last)", "owed.r_en.eq(came)"),
    ("words_miscounted", "self.m_axi_arlen.eq(length - 1)", "self.m_axi_arlen.eq(0)"),
    ("places_miscounted", "free.eq(free - promised + left)", "free.eq(free - promised)"),
    ("inside_miscounted", "shown.eq(leave)", "shown.eq(1)"),
    ("ring_torn", "words.write_address.eq(words.write_address + 1)", "words.write_address.eq(words.write_address + 2)"),
    ("not_where_it_was_put", "words.read_address.eq(words.read_address + 1)", "words.read_address.eq(0)"),
    ("given_beyond", "last.eq(given + 1 == now.count)", "last.eq(given == now.count)"),
    ("place_lost", "offset + Mux(now.stride, self._tile_beats, 1)", "offset + now.stride"),
    ("request_empty", "new.count.eq(asked.count)", "new.count.eq(asked.count - 1)"),
    ("wanted_miscounted", "last | now.stride | (place == n - 1)", "last | (place == n - 1)"),
]}
_WANTED = ("given_beyond", "place_lost", "request_empty", "wanted_miscounted")      # of words wider than beats
_WORDS = ("ar_too_many", "r_lost", "invented", "altered", "burst_too_long", "burst_not_owed", "index_beyond",
          "bursts_miscounted",
          "words_miscounted",
          "places_miscounted", "inside_miscounted", "ring_torn", "not_where_it_was_put")
_REGISTERS = [(dict(), dict(address_width=20)), (dict(sampler="gumbel"), dict(host="queue", address_width=40))]
_TINY = dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2)
#: A stream of 19 beats: their counts are added up.
_FEW_BEATS = dict(head_dim=2, hidden_size=2, intermediate_size=2, num_attention_heads=1, num_key_value_heads=1,
                  num_hidden_layers=1,
                  vocab_size=2)
_READERS = [(_TINY, dict(data_width=32, burst=2, outstanding=2, prefetch=1, address_width=13)),
            (_TINY, dict(data_width=64, burst=2, outstanding=1, prefetch=1)),
            (dict(tile_beats=8), dict(data_width=32, burst=4, outstanding=3, prefetch=3))]

PROOFS = [
    Proof("LiteSlave", "", _lite, breaks=_LITE),
    *(Proof("AxiRegisters", _named(changes | axi), lambda changes=changes, axi=axi: _registers(changes, axi),
            breaks={name: change for name, change in _LITE.items()
                    if name not in ("not_once", "write_altered", "read_altered")}
            if not k else {})
      for k, (changes, axi) in enumerate(_REGISTERS)),
    *(Proof("AxiReader's addresses", _named(changes | axi),
            lambda changes=changes, axi=axi: _reader_addresses(changes, axi), "induction 2",
            breaks={name: change for name, change in _READER.items() if name not in _WORDS + _WANTED} if not k else {})
      for k, (changes, axi) in enumerate(_READERS)),
    *(Proof("AxiReader's words", _named(changes | axi),
            lambda changes=_FEW_BEATS | changes, axi=axi: _reader_words(changes, axi),
            "induction 1",
            breaks={name: _READER[name] for name in (_WORDS, _WANTED, ())[k]})
      for k, (changes, axi) in enumerate(_READERS)),
]
