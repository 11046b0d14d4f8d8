"""Rows of bf16, written in granules and read as FP8 with a scale per row."""
from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arith import fp8_align, fp8_round, key_exponent, scale_key, times
from ..lib.layouts import slice_layout
from ..lib.pipeline import Pipeline

__all__ = ["VectorBuffer"]


class VectorBuffer(wiring.Component):
    """A memory of bf16 rows that converts a row to FP8 when it is read.

    Granules of a row are written in order, rows in any interleaving; part 0 restarts the row's largest magnitude, which
    gives the scale of all of the row's codes. A write is always ready, and is seen, data and scale both, by requests
    taken two cycles later, or after that (``golden.vector_buffer.WRITE_LATENCY``). A row that is written while it is
    read gives slices with the scale of some moment in between. Elements that were never written are 0, until a row is
    used again.

    A request taken in cycle s is answered in cycle s + 4 (``golden.vector_buffer.READ_LATENCY``), one per cycle.

    Parameters
    ----------
    rows, length : int              the memory's shape, in elements; ``length`` a multiple of ``read_lanes``
    write_lanes, read_lanes : int   elements of a granule and of a slice, powers of two
    fmt : Fp8                       format of the codes
    meta : ShapeLike                what goes along with a request
    least : bool                    rows have a least scale

    Members
    -------
    w : In(stream)    {x: bf16[write_lanes], row, part}, and with ``least`` the `scale_key` of the least scale that the
        row may have
    r : In(stream)    {row, part, meta}
    o : Out(stream)   {codes[read_lanes], exp, meta}: element = code value * 2**exp

    Raises
    ------
    ValueError        if lanes are not powers of two, or do not divide each other and the length
    """

    def __init__(self, *, rows, length, write_lanes, read_lanes, fmt, meta, least=False):
        for noun, value in (("Write", write_lanes), ("Read", read_lanes)):
            if value < 1 or value & (value - 1):
                raise ValueError(f"{noun} lane count must be a power of two, not {value}")
        if write_lanes > read_lanes:
            raise ValueError(f"Write lane count {write_lanes} must be at most the read lane count {read_lanes}")
        if rows < 1:
            raise ValueError(f"Row count must be at least 1, not {rows}")
        if length < 1 or length % read_lanes:
            raise ValueError(f"Row length {length} must be a multiple of the read lane count {read_lanes}")
        self._rows, self._slices = rows, length // read_lanes
        self._write_lanes, self._read_lanes, self._fmt = write_lanes, read_lanes, fmt
        self._meta_bits, self._least = Shape.cast(meta).width, least
        super().__init__({
            "w": In(stream.Signature(data.StructLayout({
                "x": data.ArrayLayout(unsigned(16), write_lanes), "row": range(rows),
                "part": range(length // write_lanes),
                **({"least": 9} if least else {})}))),
            "r": In(stream.Signature(data.StructLayout({"row": range(rows), "part": range(self._slices),
                                                        "meta": meta}))),
            "o": Out(stream.Signature(slice_layout(read_lanes, meta))),
        })

    @property
    def module_name(self):
        return (f"vector_buffer_{self._rows}x{self._slices * self._read_lanes}_w{self._write_lanes}"
                f"_r{self._read_lanes}_{self._fmt.name}_m{self._meta_bits}{'_least' if self._least else ''}")

    def elaborate(self, platform):
        m = Module()
        lanes, fmt = self._read_lanes, self._fmt
        ratio = lanes // self._write_lanes
        m.submodules.elements = elements = memory.Memory(shape=data.ArrayLayout(unsigned(16), lanes),
                                                         depth=self._rows * self._slices, init=[])
        m.submodules.keys = keys = memory.Memory(shape=unsigned(9), depth=self._rows, init=[])

        # Write; two cycles later, the row's largest key
        w = self.w.payload
        write = elements.write_port(granularity=None if ratio == 1 else self._write_lanes)
        within, part = w.part[:ratio.bit_length() - 1], w.part[ratio.bit_length() - 1:]
        m.d.comb += [self.w.ready.eq(1), write.addr.eq(times(w.row, self._slices) + part),
                     write.data.eq(Cat(*[w.x.as_value()] * ratio)),
                     write.en.eq(Mux(self.w.valid, 1 << within if ratio > 1 else 1, 0))]

        def larger(items, name):
            if len(items) == 1:
                return items[0]
            half = len(items) // 2
            a, b = larger(items[:half], f"{name}_0"), larger(items[half:], f"{name}_1")
            out = Signal(9, name=name)
            m.d.comb += out.eq(Mux(a > b, a, b))
            return out

        def register(value, name):
            signal = Signal.like(Value.cast(value), reset_less=True, name=name)
            m.d.sync += signal.eq(value)
            return signal

        element_keys = [register(scale_key(m, x, fmt, name=f"w{i}"), f"w{i}_key_1") for i, x in enumerate(w.x)]
        candidates = element_keys + ([register(w.least, "least_1")] if self._least else [])
        written1, first1, row1 = Signal(name="written_1"), register(w.part == 0, "first_1"), register(w.row, "row_1")
        m.d.sync += written1.eq(self.w.valid)
        written, first = Signal(name="written"), Signal(reset_less=True)
        row, key = Signal(range(self._rows), reset_less=True, name="row"), Signal(9, reset_less=True)
        m.d.sync += [written.eq(written1), first.eq(first1), row.eq(row1), key.eq(larger(candidates, "largest"))]
        before, update = keys.read_port(domain="comb"), keys.write_port()
        m.d.comb += [before.addr.eq(row), update.addr.eq(row), update.en.eq(written),
                     update.data.eq(Mux(first | (key > before.data), key, before.data))]

        # Read: memories; scale; exponents subtracted, significands shifted; rounded
        r = self.r.payload
        pipe = Pipeline(m, self.r, self.o, stages=4)
        read, scale = elements.read_port(), keys.read_port(domain="comb")
        m.d.comb += [read.addr.eq(times(r.row, self._slices) + r.part), read.en.eq(pipe.advance),
                     scale.addr.eq(pipe.reg(r.row, name="r_row"))]
        exponent = key_exponent(m, scale.data, fmt, name="row")
        above = pipe.reg(exponent + (128 - fmt.bias), name="above")
        for i in range(lanes):
            x = pipe.reg(read.data[i], name=f"x{i}")
            # `fp8_places`, in two steps. No element is above the scale, so 9 bits hold it and nothing saturates.
            places = Signal(signed(9), name=f"places{i}")
            m.d.comb += places.eq(above - x[7:15])
            aligned = pipe.reg(fp8_align(m, x, places, fmt, name=f"code{i}"), name=f"aligned{i}")
            code = fp8_round(m, aligned, fmt, saturate=False, name=f"code{i}")
            m.d.comb += self.o.payload.codes[i].eq(pipe.reg(code, name=f"o{i}"))
        m.d.comb += [self.o.payload.exp.eq(pipe.reg(exponent, name="o_exp", stages=3)),
                     self.o.payload.meta.eq(pipe.reg(r.meta, name="meta", stages=4))]
        return m
