"""An upper bound of the cycles of a stream from a board's SDRAM, after the source of LiteDRAM's controller
(docs/dram.md)."""
from ..params.dram import POSTPONED, Sdram

__all__ = ["group_cycles", "read_cycles", "row_cycles", "with_refreshes"]

#: By PHY: cycles from the address of a stream's first word to the word, beside what the chip takes, through buffers of
#: the port, the bank and the pins.
_LATENCY = {"GENSDRPHY": 14, "ECP5DDRPHY": 24, "A7DDRPHY": 24}
#: ... and those that a stream loses in another row, beside what the chip takes: a bank's queue is empty before another
#: bank may be asked. With SDR the last command of one is done in the cycle in which the first of the next would be.
#: Where a word takes two cycles (an ECP5's burst of DDR3) a bank's last burst ends before the next bank is asked.
_ROW = {"GENSDRPHY": 3, "ECP5DDRPHY": 6, "A7DDRPHY": 7}
#: To finish what is under way before refreshes, and to begin again.
_GROUP = 8


def row_cycles(memory: Sdram, clock: float) -> int:
    """Cycles that are lost where a stream continues in another row, which lies in the next bank: one row is closed and
    another opened."""
    return _ROW[memory.phy.name] + memory.cycles("rp", clock) + memory.cycles("rcd", clock)


def group_cycles(memory: Sdram, clock: float, postponed: int = POSTPONED) -> int:
    """Cycles that are lost for ``postponed`` refreshes one behind the other."""
    rp, rcd, rfc = (memory.cycles(name, clock) for name in ("rp", "rcd", "rfc"))
    return postponed * (rp + rfc + 1) + rp + rcd + _GROUP


def read_cycles(memory: Sdram, clock: float, count: int, postponed: int = POSTPONED) -> int:
    """A bound: cycles from the first address to the last word of a stream of ``count`` bytes, read by one that always
    has room, at ``clock`` MHz.

    A word (of `Sdram.cycle_bits`) comes each cycle but where a row ends, and but for refreshes.
    """
    words, rows = -(-count * 8 // memory.cycle_bits), -(-count // memory.row_bytes) + 1
    busy = words + rows * row_cycles(memory, clock) + memory.cas_latency + _LATENCY[memory.phy.name]
    return with_refreshes(memory, clock, busy, postponed)


def with_refreshes(memory: Sdram, clock: float, busy: int, postponed: int = POSTPONED) -> int:
    """A bound: cycles in which a memory is ``busy`` for so many, and refreshes."""
    group = group_cycles(memory, clock, postponed)
    between = postponed * memory.cycles("refi", clock) - group     # cycles for words between two groups
    return busy + (-(-busy // between) + 1) * group
