"""The functions of hwgen.lib.arith between two registers, for their bench."""

from amaranth.hdl import Module, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.lib import arith
from hwgen.lib.pipeline import Pipeline
from hwgen.params.formats import FORMATS
from hwgen.params.tables import reciprocal_table, rsqrt_table, sigmoid_table

LANES = 16           # of the conversion to FP8, the only part with that many cases
ACC, FIXED = 40, 24  # widths of an accumulator and of a fixed-point result
TABLES = {"sigmoid": sigmoid_table(), "reciprocal": reciprocal_table(), "rsqrt": rsqrt_table(48)}

INPUT = data.StructLayout({
    "x": data.ArrayLayout(16, LANES), "exponent": signed(10), "acc": signed(ACC), "left": signed(12),
    "f": unsigned(16), "code": unsigned(8)})
OUTPUT = data.StructLayout({
    **{f"codes_{f}": data.ArrayLayout(8, LANES) for f in FORMATS}, **{f"scale_{f}": signed(10) for f in FORMATS},
    **{f"negative_{f}": unsigned(1) for f in FORMATS}, **{f"int_{f}": unsigned(18) for f in FORMATS},
    **{f"y_{t}": unsigned(16) for t in TABLES},
    "bf16": unsigned(16), "short": unsigned(16), "small": unsigned(16), "fixed": signed(FIXED), "rne3": signed(ACC),
    "rne40": signed(ACC),
    "sat9": signed(9)})


ADDENDS = data.StructLayout({"a": data.ArrayLayout(16, LANES), "b": data.ArrayLayout(16, LANES)})


class AdderUnit(wiring.Component):
    def __init__(self):
        super().__init__({"i": In(stream.Signature(ADDENDS)), "o": Out(stream.Signature(data.ArrayLayout(16, LANES)))})

    def elaborate(self, platform):
        m = Module()
        pipe = Pipeline(m, self.i, self.o, stages=arith.ADD_BF16_STAGES)
        m.d.comb += [self.o.p[k].eq(arith.add_bf16(m, pipe, self.i.p.a[k], self.i.p.b[k], name=f"lane{k}"))
                     for k in range(LANES)]
        return m


def fp8_code(m, bits, exponent, fmt, name):
    """Code of a bf16 value / ``2**exponent``."""
    places = exponent + (128 - fmt.bias) - arith.unpack_bf16(bits).exponent
    return arith.fp8_round(m, arith.fp8_align(m, bits, places, fmt, name=name), fmt, name=name)


def normalized(m, value, name):
    """(the value shifted left until its highest bit is set, by how much, whether it is 0)"""
    count, zero = arith.leading_zeros(m, value, name=name)
    return (value << count)[:len(value)], count, zero


class ArithUnit(wiring.Component):
    def __init__(self):
        super().__init__({"i": In(stream.Signature(INPUT)), "o": Out(stream.Signature(OUTPUT))})

    def elaborate(self, platform):
        m = Module()
        pipe = Pipeline(m, self.i, self.o, stages=2)
        i, o = pipe.reg(self.i.payload, name="input"), {}

        for name, fmt in FORMATS.items():
            o[f"codes_{name}"] = [fp8_code(m, i.x[k], i.exponent, fmt, f"{name}_{k}") for k in range(LANES)]
            o[f"scale_{name}"] = arith.key_exponent(m, arith.scale_key(m, i.x[0][:15], fmt, name=name), fmt, name=name)
            o[f"negative_{name}"], o[f"int_{name}"] = arith.fp8_magnitude(m, i.code, fmt, name=f"{name}_code")
        for name, table in TABLES.items():
            line = arith.pwl_lookup(m, table, i.f[table.fraction_bits:table.fraction_bits + table.index_bits],
                                    name=name)
            o[f"y_{name}"] = arith.pwl_line(m, table, *line, i.f[:table.fraction_bits], name=name)

        sign, mag = arith.magnitude(m, i.acc, name="acc")
        norm, count, zero = normalized(m, mag, "acc")
        o["bf16"] = arith.round_bf16(m, sign, norm, i.left - count + (ACC - 1 + 127), zero=zero, name="acc")
        count, zero = arith.leading_zeros(m, mag, name="short")
        top, sticky = arith.shift_up(m, mag, count, 9, name="short")
        o["short"] = arith.round_bf16(m, sign, top, i.left - count + (ACC - 1 + 127), zero=zero, sticky=sticky,
                                      name="short")
        tiny, count, zero = normalized(m, mag[:5], "tiny")
        o["small"] = arith.round_bf16(m, sign, tiny, i.left - count + (4 + 127), zero=zero, name="tiny")
        amount = arith.window_amount(m, i.left, ACC, FIXED, name="acc")
        o["fixed"] = arith.round_fixed(m, sign, *arith.shift_window(m, mag, amount, FIXED, name="acc"), name="acc")
        o["rne3"] = arith.rne_shift(m, i.acc, 3, name="rne3")
        o["rne40"] = arith.rne_shift(m, i.acc, ACC, name="rne40")
        o["sat9"] = arith.saturate(m, i.acc, 9, name="sat9")

        for name, value in o.items():
            if isinstance(value, list):
                for k, lane in enumerate(value):
                    m.d.comb += self.o.payload[name][k].eq(pipe.reg(lane, name=f"{name}_{k}"))
            else:
                m.d.comb += self.o.payload[name].eq(pipe.reg(value, name=name))
        return m
