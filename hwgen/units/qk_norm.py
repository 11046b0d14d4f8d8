"""RMSNorm of keys and queries."""
import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.arith import constant_rom, times, unpack_bf16
from ..lib.norm import inverse_root, one, reduced, rounded_product, tree_stages
from ..lib.pipeline import Link, Pipeline
from ..lib.ram import BlockRam
from ..params.tables import floating_epsilon

__all__ = ["QkNorm"]


class QkNorm(wiring.Component):
    """Normalizes K and Q heads; V heads pass unchanged and in order, ahead of them.

    K and Q granules are stored as they come, one per cycle. With the one that has ``last`` the command is complete:
    then nothing is taken until all that was stored has left normalized, a granule per cycle: entry by entry, K heads
    before Q heads. A granule of a V head taken in cycle s is offered in s + 1. The last normalized granule of n entries
    is offered ``n * (K heads + Q heads) * padded_head_dim/V + longest vector/V + 2 * tree + 17`` cycles after the one
    with ``last`` was taken (`golden.qk_norm.cycles`), with ``last``.

    Granules are read once, and wait in a queue for the factor of their vector. The queue is as long as the longest
    vector and the way of its factor, and a granule is read when there is a place for it; so nothing on that way ever
    waits.

    Parameters
    ----------
    heads : Heads
    span : str              what is one vector: "head", each head by itself, or "projection", all heads of a kind
    rms_norm_eps : float    added to the mean of the squares, above 0
    banks : int             1 or 2 pairs of gains are held

    Members
    -------
    i : In(stream of `Heads.layout`)        granules of n entries 0 to n - 1, those of a head in order, the entries'
                                            last Q granule last
    o : Out(stream of `Heads.layout`)
    gain : In(stream {x, key, bank, part})  bf16 gains of queries, or (``key``) of keys; always ready. ``bank`` if there
                                            are 2 banks
    bank : In(1)                            if there are 2: which gains; stable from a command's first granule to the
                                            last one at ``o``

    Raises
    ------
    ValueError          if ``span`` is neither of the two, or banks are neither 1 nor 2
    """
    def __init__(self, *, heads, span, rms_norm_eps, banks=1):
        if span not in ("head", "projection"):
            raise ValueError(f"Span must be head or projection, not {span!r}")
        if banks not in (1, 2):
            raise ValueError(f"Bank count must be 1 or 2, not {banks}")
        self._heads, self._banks, self._whole = heads, banks, span == "projection"
        # granules of a vector and its elements without padding, of keys and of queries
        counts = (heads.num_key_value_heads, heads.num_attention_heads) if self._whole else (1, 1)
        self._vector_parts = [count * heads.parts for count in counts]
        self._lengths = list(dict.fromkeys(count * heads.head_dim for count in counts))
        self._epsilons = [floating_epsilon(length, rms_norm_eps) for length in self._lengths]
        gain = {"x": data.ArrayLayout(unsigned(16), heads.vector_lanes), "key": 1,
                "part": range(max(self._vector_parts))}
        members = {
            "i": In(stream.Signature(heads.layout)),
            "o": Out(stream.Signature(heads.layout)),
            "gain": In(stream.Signature(data.StructLayout(gain | ({"bank": 1} if banks == 2 else {})))),
        }
        super().__init__(members | ({"bank": In(1)} if banks == 2 else {}))

    @property
    def _stored_heads(self):
        """Of an entry: all but the V heads."""
        return self._heads.num_key_value_heads + self._heads.num_attention_heads

    def elaborate(self, platform):
        m = Module()
        i, heads = self.i.payload, self._heads
        sweeping = Signal()                          # from the cycle after the granule with `last` until all have left
        top_entry = Signal.like(i.entry, reset_less=True)
        passes, taken = Signal(name="passes"), Signal()
        out, normed = Link("out"), Link("normed")
        m.d.comb += [
            passes.eq(heads.is_value(i.head)),
            self.i.ready.eq(~sweeping & (~passes | out.ready)),
            taken.eq(self.i.valid & ~sweeping & ~passes),
            out.valid.eq(Mux(sweeping, normed.valid, self.i.valid & passes)),
            normed.ready.eq(out.ready),
        ]
        with m.If(taken & i.last):
            m.d.sync += [sweeping.eq(1), top_entry.eq(i.entry)]

        m.submodules.rows = stored = BlockRam(16 * heads.vector_lanes,
                                              heads.entries * self._stored_heads * heads.parts)
        vectors = heads.entries * (2 if self._whole else self._stored_heads)
        m.submodules.exponents = exponents = Memory(shape=unsigned(8), depth=vectors, init=[])
        start = self._store(m, taken, stored, exponents.read_port(domain="comb"), exponents.write_port())
        sweep = self._sweep(m, start, top_entry, stored, exponents.read_port(domain="comb"))
        normed_granule = self._multiply(m, *sweep, top_entry, normed)

        pipe = Pipeline(m, out, self.o, stages=1, name="out_pipe")
        granule = pipe.reg(Mux(sweeping, normed_granule.as_value(), i.as_value()), name="out_granule")
        m.d.comb += self.o.payload.as_value().eq(granule)
        with m.If(sweeping & self.o.valid & self.o.ready & self.o.payload.last):
            m.d.sync += sweeping.eq(0)
        return m

    def _store(self, m, taken, stored, before, update):
        """Stores granules and, through ``before`` and ``update``, each vector's largest exponent. Returns that the last
        one is found."""
        heads, i = self._heads, self.i.payload
        always = Link("always")
        store = Link("store")
        m.d.comb += [store.valid.eq(taken), always.ready.eq(1)]
        pipe = Pipeline(m, store, always, stages=tree_stages(heads.vector_lanes), name="store_pipe")

        query = i.head >= heads.first_query
        row = Signal(range(heads.entries * self._stored_heads))
        m.d.comb += row.eq(times(i.entry, self._stored_heads) + Mux(query, i.head - heads.num_key_value_heads, i.head))
        head = Mux(query, i.head - heads.first_query, i.head)
        fresh = (i.part == 0) & (head == 0) if self._whole else i.part == 0
        vector = Cat(query, i.entry) if self._whole else row
        vector, fresh, last = pipe.reg((vector, fresh, i.last), name="store_tag", stages=pipe.stages)

        # in the next cycle the row
        place = pipe.reg(row, name="row"), pipe.reg(i.part, name="part")
        m.d.comb += [stored.write_en.eq(pipe.valid[1]),
                     stored.write_address.eq(times(place[0], heads.parts) + place[1]),
                     stored.write_data.eq(pipe.reg(i.x, name="granule"))]
        # and when it is found the largest exponent; of a vector of small numbers that which is epsilon's
        largest = reduced(pipe, [unpack_bf16(x).exponent for x in i.x], lambda a, b: Mux(a > b, a, b), name="largest")
        least = self._of_kind([epsilon[0] for epsilon in self._epsilons], vector[0])
        so_far = Mux(fresh, least, before.data)
        m.d.comb += [before.addr.eq(vector), update.addr.eq(vector), update.en.eq(always.valid),
                     update.data.eq(Mux(largest > so_far, largest, so_far))]
        return always.valid & last

    def _of_kind(self, choices, query):
        """What belongs to keys or to queries, or the only choice."""
        return choices[0] if len(choices) == 1 else Mux(query, choices[1], choices[0])

    def _walk(self, m, step, top_entry, name):
        """Counters through the stored granules in order: (entry, head, part, granule of the vector), query, vector's
        end, all's end."""
        heads, parts = self._heads, self._heads.parts
        entry = Signal(range(heads.entries), name=f"{name}_entry")
        head, part = Signal(range(heads.count), name=f"{name}_head"), Signal(range(parts), name=f"{name}_part")
        query = Signal(name=f"{name}_query")
        keys_end, heads_end = head == heads.first_value - 1, head == heads.count - 1
        row_end = part == parts - 1
        within, vector_end = part, row_end
        if self._whole:
            within = Signal(range(max(self._vector_parts)), name=f"{name}_within")
            vector_end = row_end & (keys_end | heads_end)
            with m.If(step):
                m.d.sync += within.eq(Mux(vector_end, 0, within + 1))
        end = row_end & heads_end & (entry == top_entry)
        with m.If(step):
            m.d.sync += part.eq(Mux(row_end, 0, part + 1))
            with m.If(row_end):
                m.d.sync += head.eq(head + 1)
                with m.If(keys_end):
                    m.d.sync += [head.eq(heads.first_query), query.eq(1)]
                with m.If(heads_end):
                    m.d.sync += [head.eq(0), query.eq(0), entry.eq(Mux(end, 0, entry + 1))]
        return (entry, head, part, within), query, vector_end, end

    def _sweep(self, m, start, top_entry, stored, exponents):
        """Reads all granules once; returns `Link` and granule, `Link` and factor (r, e) of the granule's vector.

        From the read to the factor nothing waits: a read is made when the queue has a place for its granule.
        """
        lanes, tree = self._heads.vector_lanes, tree_stages(self._heads.vector_lanes)
        depth = max(self._vector_parts) + 9 + tree        # so that reads do not wait unless granules are not taken
        read, sums, found, leaves = Link("read"), Link("sums"), Link("found"), Signal(name="leaves")
        address, vector, within, query, vector_end = self._read(m, read, start, top_entry, stored, exponents,
                                                                leaves, depth)
        m.d.comb += [sums.ready.eq(1), found.ready.eq(1), stored.read_en.eq(1), stored.read_address.eq(address)]

        # Stages 1, 2: memories.
        pipe = Pipeline(m, read, sums, stages=4 + tree, name="square")
        m.d.comb += exponents.addr.eq(pipe.reg(vector, name="vector"))
        common = pipe.reg(exponents.data, name="common")
        first, vector_end, query = pipe.reg((within == 0, vector_end, query), name="flags", stages=2)
        granule = data.View(data.ArrayLayout(16, lanes), pipe.reg(stored.read_data, name="square_x"))
        term = self._squares(pipe, granule, common)
        epsilon = self._epsilon(m, pipe, common, query)
        tail = pipe.reg((first, vector_end, query, common), name="square_tail", stages=2 + tree)
        factor, scale = self._factor(m, sums, found, term, epsilon, tail, depth)
        front, held = self._queue(m, pipe.valid[2], granule, leaves, depth)
        return front, held, factor, scale

    def _read(self, m, read, start, top_entry, stored, exponents, leaves, depth):
        """Asks for granule after granule, as many as the queue has places.

        Gives the addresses of the granule and of its vector's exponent, its number in the vector, and whether it is of
        a query and the vector's last.
        """
        reading, used = Signal(name="reading"), Signal(range(depth + 1), name="used")
        address = Signal.like(stored.read_address, name="address")
        vector = Signal.like(exponents.addr, name="vector_address")
        (_, _, _, within), query, vector_end, end = self._walk(m, read.valid, top_entry, "read")
        m.d.comb += read.valid.eq(reading & (used != depth))
        m.d.sync += used.eq(used + read.valid - leaves)
        with m.If(start):
            m.d.sync += [reading.eq(1), address.eq(0), vector.eq(0)]
        with m.Elif(read.valid):
            m.d.sync += [reading.eq(~end), address.eq(address + 1), vector.eq(vector + vector_end)]
        return address, vector, within, query, vector_end

    def _squares(self, pipe, granule, common):
        """The sum of a granule's squares, in units of 4**(common - 142): stages 3 and 4, and those of the tree."""
        terms = []
        for k, x in enumerate(map(unpack_bf16, granule)):
            below = (common - x.exponent)[:8]
            far = below[4:].any()                    # 16 places leave nothing
            places = Cat(below[:4] & ~far.replicate(4), far)
            square, places = pipe.reg((x.significand * x.significand, places), name=f"square{k}")
            terms.append(pipe.reg((Cat(Const(0, 16), square) >> Cat(Const(0, 1), places))[:32], name=f"term{k}"))
        return reduced(pipe, terms, operator.add, name="tree")

    def _epsilon(self, m, pipe, common, query):
        """Epsilon in the same units, in the same stage."""
        above = pipe.reg((common - self._of_kind([least for least, _ in self._epsilons], query))[:8], name="above")
        later_query = pipe.reg(query, name="query_3")
        epsilons = [constant_rom(m, [value >> 2 * k for k in range(min(256, value.bit_length() // 2 + 1))], above,
                                 range(value + 1), name=f"epsilon{number}")
                    for number, (_, value) in enumerate(self._epsilons)]
        stages = 1 + tree_stages(self._heads.vector_lanes)
        return pipe.reg(self._of_kind(epsilons, later_query), name="epsilon", stages=stages)

    def _factor(self, m, sums, found, term, epsilon, tail, depth):
        """The sum of a vector's squares and epsilon, and its factor, which waits: (`Link`, (r, e)).

        ``tail``: of a granule, whether it is its vector's first one, the last one, and of a query; the vector's
        exponent.
        """
        first, vector_end, query, common = tail
        whole = Link("whole")
        most = max(self._lengths) * 2**32 + max(value for _, value in self._epsilons)
        total = Signal(range(most + 1), reset_less=True)
        total_query, total_common = Signal(reset_less=True, name="total_query"), Signal(8, reset_less=True)
        m.d.sync += whole.valid.eq(sums.valid & vector_end)
        with m.If(sums.valid):
            m.d.sync += [total.eq(Mux(first, epsilon, total) + term), total_common.eq(common), total_query.eq(query)]
        pipe = Pipeline(m, whole, found, stages=4, name="rsqrt")
        r, e = inverse_root(m, pipe, total, total_common, lengths=self._lengths, base=142, which=total_query,
                            unit="qk_norm")
        r = r[:15]
        pairs = -(-(depth + 2) // sum(self._vector_parts))
        m.submodules.factors = factors = SyncFIFO(width=len(r) + len(e), depth=2 * pairs + 1)
        m.d.comb += [factors.w_en.eq(found.valid), factors.w_data.eq(Cat(r, e))]
        factor = Link("factor")
        pipe = Pipeline(m, factors.r_stream, factor, stages=1, name="factor_pipe")
        bits = pipe.reg(factors.r_data, name="factor_bits")
        return factor, (bits[:len(r)], bits[len(r):].as_signed())

    def _queue(self, m, write, granule, leaves, depth):
        """Granules wait for their vector's factor: (`Link`, granule). ``leaves``: one goes, in this cycle."""
        m.submodules.queue = queue = BlockRam(16 * self._heads.vector_lanes, depth)
        waiting, front = Link("waiting"), Link("front")
        held = Signal(range(depth + 1))
        write_at, read_at = Signal(range(depth), name="write_at"), Signal(range(depth))
        written = Signal(name="write")
        fetch = Pipeline(m, waiting, front, stages=2, name="fetch")
        m.d.comb += [
            written.eq(write), queue.write_en.eq(written), queue.write_address.eq(write_at),
            queue.write_data.eq(granule.as_value()),
            waiting.valid.eq(held != 0), leaves.eq(waiting.valid & waiting.ready),
            queue.read_en.eq(fetch.advance), queue.read_address.eq(read_at),
        ]
        m.d.sync += held.eq(held + written - leaves)
        with m.If(written):
            m.d.sync += write_at.eq(Mux(write_at == depth - 1, 0, write_at + 1))
        with m.If(leaves):
            m.d.sync += read_at.eq(Mux(read_at == depth - 1, 0, read_at + 1))
        return front, fetch.reg(queue.read_data, name="front_x")

    def _multiply(self, m, front, granule, factor, scale, top_entry, normed):
        """bf16(bf16(x * r * 2**(e - 14)) * gain); returns the granule at ``normed``."""
        lanes = self._heads.vector_lanes
        r, e = scale
        joined, step = Link("joined"), Signal()
        m.d.comb += [joined.valid.eq(front.valid & factor.valid), front.ready.eq(joined.ready & factor.valid),
                     step.eq(joined.valid & joined.ready)]
        (entry, head, part, within), query, vector_end, end = self._walk(m, step, top_entry, "leave")
        m.d.comb += factor.ready.eq(step & vector_end)
        pipe = Pipeline(m, joined, normed, stages=6, name="product")

        # Gains: of queries, of keys, and of the other bank
        queries, both = self._vector_parts[1], sum(self._vector_parts)
        m.submodules.gains = gains = BlockRam(16 * lanes, self._banks * both)
        bank, into = (self.bank, self.gain.payload.bank) if self._banks == 2 else (Const(0), Const(0))

        def place(key, bank, part):
            return Mux(bank, Mux(key, both + queries, both), Mux(key, queries, 0)) + part

        m.d.comb += [
            self.gain.ready.eq(1), gains.write_en.eq(self.gain.valid),
            gains.write_data.eq(self.gain.payload.x.as_value()),
            gains.write_address.eq(place(self.gain.payload.key, into, self.gain.payload.part)),
            gains.read_en.eq(pipe.advance), gains.read_address.eq(place(~query, bank, within)),
        ]
        gain = pipe.reg(gains.read_data, name="gain", stages=2)
        out = Signal(self._heads.layout, name="normed_granule")
        tag = pipe.reg(Cat(entry, head, part, end), name="tag", stages=6)
        m.d.comb += Cat(out.entry, out.head, out.part, out.last).eq(tag)
        for k in range(lanes):
            x = unpack_bf16(granule.word_select(k, 16))
            y = unpack_bf16(rounded_product(m, pipe, x.sign, x.exponent + e, one(x) * r, x.zero, name=f"x{k}", first=1))
            g = unpack_bf16(gain.word_select(k, 16))
            exponent, value = y.exponent + g.exponent - 127, one(y) * one(g)
            y = rounded_product(m, pipe, y.sign ^ g.sign, exponent, value, y.zero | g.zero, name=f"y{k}", first=4)
            m.d.comb += out.x[k].eq(y)
        return out
