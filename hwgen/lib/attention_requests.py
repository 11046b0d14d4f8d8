"""What attention asks for: the queries of its entries, and K and V rows. A part of `hwgen.units.attention`."""
from functools import reduce
from operator import and_
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import connect, flipped

from .layouts import kv_job_layout
from .skid import SkidRegister

__all__ = ["Queue", "ask_queries", "ask_rows", "offer_jobs"]

JOBS = 16            # commands and jobs that the queues hold: more than can be on their way


class Queue(NamedTuple):
    """A queue of items of a layout."""
    fifo: SyncFIFO
    layout: data.StructLayout

    @property
    def item(self):
        """The oldest one; there while ``fifo.r_rdy``."""
        return data.View(self.layout, self.fifo.r_data[:self.layout.size])


def ask_queries(m, cmd, r, *, sizes, entries, group, windows, outside=False):
    """Takes commands at ``cmd``, and asks at ``r`` for the queries of their jobs, a word a cycle. Sizes are as in
    `hwgen.units.attention`.

    Gives the `Queue` of jobs for the K stage, that for the V stage, both `kv_job_layout`, and that of entries for the
    output: {entry, last}. A job or entry is there from the cycle after its first request. Where rows are ``outside``,
    the K stage's jobs are for both stages, and the others None.
    """
    kv_heads, windowed = sizes.num_key_value_heads, any(windows)
    job_layout = kv_job_layout(sizes, windowed)
    entry_layout = data.StructLayout({"entry": range(entries), "last": 1})
    m.submodules.k_jobs = k_jobs = SyncFIFO(width=max(1, job_layout.size), depth=JOBS)
    jobs = [k_jobs]
    if not outside:
        m.submodules.v_jobs = v_jobs = SyncFIFO(width=max(1, job_layout.size), depth=JOBS)
        jobs.append(v_jobs)
    m.submodules.entries = entry_fifo = SyncFIFO(width=max(1, entry_layout.size), depth=JOBS)

    busy, first, last, fire = Signal(name="busy"), Signal(name="first"), Signal(name="last"), Signal(name="fire")
    place = Signal(cmd.p.shape(), reset_less=True)
    kv_head, query, part = (Signal(range(kv_heads), name="kv_head"), Signal(range(group), name="query"),
                            Signal(range(sizes.words)))
    row = Signal.like(r.p.row, reset_less=True)
    last_part, last_query, last_head = part == sizes.words - 1, query == group - 1, kv_head == kv_heads - 1
    # of a cycle ago: a place more than one
    room = Signal(name="room")
    m.d.sync += room.eq(reduce(and_, (queue.w_level < JOBS - 1 for queue in (*jobs, entry_fifo))))
    m.d.comb += [first.eq((query == 0) & (part == 0)), last.eq(last_part & last_query & last_head),
                 r.valid.eq(busy & (~first | room)), r.p.row.eq(row), r.p.part.eq(part), fire.eq(r.valid & r.ready),
                 cmd.ready.eq(~busy | fire & last)]
    with m.If(fire):
        m.d.sync += part.eq(part + 1)
        with m.If(last_part):
            m.d.sync += [part.eq(0), query.eq(query + 1), row.eq(row + 1)]
            with m.If(last_query):
                m.d.sync += [query.eq(0), kv_head.eq(Mux(last_head, 0, kv_head + 1))]
    with m.If(cmd.ready):
        # the row of its first query, behind its K and V heads; rows are few: a constant per entry
        first_query = Signal(range(entries * (2 + group) * kv_heads), name="heads")
        with m.Switch(cmd.p.entry):
            for entry in range(entries):
                with m.Case(entry):
                    m.d.comb += first_query.eq(entry * (2 + group) * kv_heads + 2 * kv_heads)
        m.d.sync += [busy.eq(cmd.valid), place.eq(cmd.p), row.eq(first_query)]

    first_seen = [_first_seen(m, place, sizes.context, windows)] if windowed else []
    job = Cat(place.slot, place.layer, kv_head, place.position, *first_seen)
    m.d.comb += [*(queue.w_data.eq(job) for queue in jobs), entry_fifo.w_data.eq(Cat(place.entry, place.last)),
                 *(queue.w_en.eq(fire & first) for queue in jobs),
                 entry_fifo.w_en.eq(fire & first & (kv_head == 0))]
    queues = [Queue(queue, job_layout) for queue in jobs]
    return queues[0], None if outside else queues[1], Queue(entry_fifo, entry_layout)


def offer_jobs(m, jobs, begins, port):
    """Offers each job of a `Queue` at ``port`` from the cycle after that in which it ``begins``. The one before it has
    been taken by then: all of its K rows have come."""
    m.d.comb += jobs.fifo.r_en.eq(begins)
    with m.If(begins):
        m.d.sync += [port.valid.eq(1), port.payload.eq(jobs.item)]
    with m.Elif(port.ready):
        m.d.sync += port.valid.eq(0)


def ask_rows(m, jobs, port, sizes, name):
    """Asks for all rows of each job of a `Queue`, a word of `KvSizes` a cycle, or some rows, jobs without a cycle
    between.

    What is asked leaves from a register: the cache looks up much of it.
    """
    if sizes.rows > 1:
        _ask_groups(m, jobs, port, sizes, name)
        return
    words = sizes.words
    fifo, layout = jobs.fifo, jobs.layout
    m.submodules[f"{name}_request"] = register = SkidRegister(port.payload.shape())
    connect(m, register.o, flipped(port))
    request = register.i
    job = jobs.item
    position, part = Signal.like(request.p.position, name=f"{name}_position"), Signal(range(words), name=f"{name}_part")
    counted, begun = position, None
    if "first" in layout.members:           # there is no cycle between jobs in which the counter could be loaded
        counted, begun = Signal.like(position, name=f"{name}_counted"), Signal(name=f"{name}_begun")
        m.d.comb += position.eq(Mux(begun, counted, job.first))
    last_part, last = part == words - 1, Signal(name=f"{name}_last")
    m.d.comb += [request.valid.eq(fifo.r_rdy), request.p.position.eq(position), request.p.part.eq(part),
                 *(request.p[field].eq(job[field]) for field in ("slot", "layer", "head")),
                 last.eq(last_part & (position == job.position)), request.p.last.eq(last),
                 fifo.r_en.eq(request.ready & last)]
    with m.If(request.valid & request.ready):
        m.d.sync += part.eq(part + 1)
        with m.If(last_part):
            m.d.sync += [part.eq(0), counted.eq(Mux(last, 0, position + 1))]
            if begun is not None:
                m.d.sync += begun.eq(~last)


def _ask_groups(m, jobs, port, sizes, name):
    """`ask_rows` of several rows at once: from the group of the first one to that of the last."""
    fifo, job, bits, rows = jobs.fifo, jobs.item, sizes.row_bits, sizes.rows
    m.submodules[f"{name}_request"] = register = SkidRegister(port.payload.shape())
    connect(m, register.o, flipped(port))
    request = register.i
    groups = range(-(-sizes.context // rows))
    group, counted, begun = (Signal(shape, name=f"{name}_{what}") for shape, what in (
        (groups, "group"), (groups, "counted"), (1, "begun")))
    last, seen = Signal(name=f"{name}_last"), Signal(rows, name=f"{name}_seen")
    first = job.first if "first" in jobs.layout.members else Const(0, bits)
    m.d.comb += [group.eq(Mux(begun, counted, first[bits:])), last.eq(group == job.position[bits:]),
                 *(seen[row].eq((begun | (first[:bits] <= row)) & (~last | (job.position[:bits] >= row)))
                   for row in range(rows)),
                 request.valid.eq(fifo.r_rdy), request.p.position.eq(Cat(Const(0, bits), group)),
                 *(request.p[field].eq(job[field]) for field in ("slot", "layer", "head")),
                 request.p.last.eq(last), request.p.seen.eq(seen), fifo.r_en.eq(request.ready & last)]
    with m.If(request.valid & request.ready):
        m.d.sync += [counted.eq(group + 1), begun.eq(~last)]


def _first_seen(m, place, context, windows):
    """The first position that an entry sees, combinational."""
    layers = {}
    for layer, size in enumerate(windows):
        layers.setdefault(size or context, []).append(layer)
    window = Signal(range(context + 1))
    first = Signal(signed(len(place.position) + 2), name="first_signed")
    with m.Switch(place.layer):
        for size, of in layers.items():
            with m.Case(*of):
                m.d.comb += window.eq(size)
    m.d.comb += first.eq(place.position + 1 - window)
    return Mux(first[-1], 0, first[:len(place.position)])
