"""Adapters of a machine on buses: words from a register to their memory, and which of them may be named."""
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal

__all__ = ["AxiAdapters"]


class AxiAdapters:
    """What stands between the registers ADAPTER_... and a `Decoder`'s port ``adapter``, in a module's domain "sync": software's reset
    leaves it alone, as it does the memory.

    Parameters
    ----------
    m : Module
    design : Design
    regs : AxiRegisters
    port : stream           the decoder's
    """

    def __init__(self, m: Module, design, regs, port):
        hw = design.hw
        self._m, self._design, self._regs = m, design, regs
        self._used = Signal(hw.adapters, name="adapters_used")          # by entries that wait or run
        self._loaded = loaded = Signal(hw.adapters, name="adapters_loaded")
        words, per_beat = design.adapter_map.beats * hw.beat_bytes // 4, hw.beat_bytes // 4
        left, number = Signal(24, name="adapter_left"), Signal(range(hw.adapters), name="adapter_number")
        first, at = Signal(name="adapter_first"), Signal(range(per_beat), name="adapter_at")
        before = Signal(32 * (per_beat - 1), name="adapter_before", reset_less=True)       # words of the beat that are there
        asked, word = regs.adapter_load_number, Cat(before, regs.adapter_data_value)
        m.d.comb += [regs.adapter_load_refuse.eq((asked == 0) | (asked > hw.adapters) | self._bit(self._used, asked)),
                     regs.adapter_data_refuse.eq(left == 0), regs.adapter_status_loaded.eq(loaded),
                     regs.adapter_status_missing.eq(left), port.valid.eq(regs.adapter_data_write & (at == per_beat - 1)),
                     port.p.adapter.eq(number), port.p.first.eq(first), port.p.data.eq(word)]
        with m.If(regs.adapter_data_write):
            m.d.sync += [left.eq(left - 1), before.eq(word[32:]), at.eq(Mux(port.valid, 0, at + 1)),
                         first.eq(first & ~port.valid)]
            with m.If(left == 1):
                m.d.sync += loaded.bit_select(number, 1).eq(1)
        with m.If(regs.adapter_load_write):
            m.d.sync += [left.eq(words), number.eq(asked - 1), at.eq(0), first.eq(1),
                         loaded.bit_select((asked - 1)[:3], 1).eq(0)]

    @staticmethod
    def _bit(bits, number):
        """A bit of a number of an adapter; of 0, and of what is too large, it is 0."""
        values = [Const(0), *bits]
        return Array(values + [Const(0)] * ((1 << len(number)) - len(values)))[number]

    def missing(self, number):
        """Whether an entry names one that is not there."""
        return (number != 0) & ~self._bit(self._loaded, number)

    def follow(self, taken, number, moves):
        """Entries that are ``taken`` name a ``number``, which is in use until nothing ``moves`` any more."""
        m, still = self._m, Signal(4, name="adapters_still")
        m.d.sync += still.eq(Mux(moves, 0, still + ~still.all()))
        with m.If(taken & (number != 0)):
            m.d.sync += self._used.bit_select((number - 1)[:3], 1).eq(1)
        with m.Elif(still.all()):       # the loop's next pass would have begun
            m.d.sync += self._used.eq(0)

    def forget(self):
        """Other weights come: all adapters are gone, for they were the others'."""
        self._m.d.sync += self._loaded.eq(0)
