"""What attention asks for: the queries of its entries, and K and V rows. A part of `hwgen.units.attention`."""
from functools import reduce
from operator import and_
from typing import NamedTuple

from amaranth.hdl import Cat, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import connect, flipped

from .layouts import kv_read_layout, place_layout
from .skid import SkidRegister

__all__ = ["Queue", "ask_queries", "ask_rows"]

JOBS = 16            # commands and jobs that the queues hold: more than can be on their way


class Queue(NamedTuple):
    """A queue of items of a layout."""
    fifo: SyncFIFO
    layout: data.StructLayout

    @property
    def item(self):
        """The oldest one; there while ``fifo.r_rdy``."""
        return data.View(self.layout, self.fifo.r_data[:self.layout.size])


def ask_queries(m, design, cmd, r):
    """Takes commands at ``cmd``, and asks at ``r`` for the queries of their jobs, a part a cycle.

    Gives the `Queue` of jobs for the K stage, that for the V stage, both {slot, layer, head, position}, with ``first``
    where a layer has a window, and that of entries for the output: {entry, last}. A job or entry is there from the
    cycle after its first request.
    """
    parts = design.padded_head_dim // design.hw.attention_lanes
    windowed = any(design.window(layer) for layer in range(design.layers))
    job_layout = data.StructLayout({field: kv_read_layout(design)[field].shape
                                    for field in ("slot", "layer", "head", "position")}
                                   | ({"first": range(design.hw.context)} if windowed else {}))
    entry_layout = data.StructLayout({"entry": range(design.hw.entries), "last": 1})
    m.submodules.k_jobs = k_jobs = SyncFIFO(width=max(1, job_layout.size), depth=JOBS)
    m.submodules.v_jobs = v_jobs = SyncFIFO(width=max(1, job_layout.size), depth=JOBS)
    m.submodules.entries = entries = SyncFIFO(width=max(1, entry_layout.size), depth=JOBS)

    busy, first, last, fire = Signal(name="busy"), Signal(name="first"), Signal(name="last"), Signal(name="fire")
    place = Signal(place_layout(design), reset_less=True)
    kv_head, query, part = (Signal(range(design.kv_heads), name="kv_head"), Signal(range(design.group), name="query"),
                            Signal(range(parts)))
    row = Signal.like(r.p.row, reset_less=True)
    last_part, last_query, last_head = part == parts - 1, query == design.group - 1, kv_head == design.kv_heads - 1
    # of a cycle ago: a place more than one
    room = Signal(name="room")
    m.d.sync += room.eq(reduce(and_, (queue.w_level < JOBS - 1 for queue in (k_jobs, v_jobs, entries))))
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
        heads = Signal(range(design.hw.entries * design.qkv_heads))     # rows are few: a constant per entry
        with m.Switch(cmd.p.entry):
            for entry in range(design.hw.entries):
                with m.Case(entry):
                    m.d.comb += heads.eq(entry * design.qkv_heads + design.heads_of(design.block.queries).start)
        m.d.sync += [busy.eq(cmd.valid), place.eq(cmd.p), row.eq(heads)]

    job = Cat(place.slot, place.layer, kv_head, place.position, *([_first_seen(m, design, place)] if windowed else []))
    m.d.comb += [k_jobs.w_data.eq(job), v_jobs.w_data.eq(job), entries.w_data.eq(Cat(place.entry, place.last)),
                 k_jobs.w_en.eq(fire & first), v_jobs.w_en.eq(fire & first),
                 entries.w_en.eq(fire & first & (kv_head == 0))]
    return Queue(k_jobs, job_layout), Queue(v_jobs, job_layout), Queue(entries, entry_layout)


def ask_rows(m, design, jobs, port, name):
    """Asks for all rows of each job of a `Queue`, a part a cycle, jobs without a cycle between.

    What is asked leaves from a register: the cache looks up much of it.
    """
    fifo, layout, parts = jobs.fifo, jobs.layout, design.padded_head_dim // design.hw.attention_lanes
    m.submodules[f"{name}_request"] = register = SkidRegister(port.payload.shape())
    connect(m, register.o, flipped(port))
    request = register.i
    job = jobs.item
    position, part = Signal.like(request.p.position, name=f"{name}_position"), Signal(range(parts), name=f"{name}_part")
    counted, begun = position, None
    if "first" in layout.members:           # there is no cycle between jobs in which the counter could be loaded
        counted, begun = Signal.like(position, name=f"{name}_counted"), Signal(name=f"{name}_begun")
        m.d.comb += position.eq(Mux(begun, counted, job.first))
    last_part, last = part == parts - 1, Signal(name=f"{name}_last")
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


def _first_seen(m, design, place):
    """The first position that an entry sees, combinational."""
    layers = {}
    for layer in range(design.layers):
        layers.setdefault(design.window(layer) or design.hw.context, []).append(layer)
    window = Signal(range(design.hw.context + 1))
    first = Signal(signed(len(place.position) + 2), name="first_signed")
    with m.Switch(place.layer):
        for size, of in layers.items():
            with m.Case(*of):
                m.d.comb += window.eq(size)
    m.d.comb += first.eq(place.position + 1 - window)
    return Mux(first[-1], 0, first[:len(place.position)])
