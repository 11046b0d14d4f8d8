"""An upper bound of the cycles of a stream from a board's SDRAM, after the source of LiteDRAM's controller
(docs/dram.md)."""
import math

from ..params.dram import QUEUE, Sdram

__all__ = ["group_cycles", "port_cycles", "read_cycles", "row_cycles"]

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


def group_cycles(memory: Sdram, clock: float, postponed: int | None = None) -> int:
    """Cycles that are lost for ``postponed`` refreshes one behind the other, its controller's own number if that is
    None."""
    rp, rcd, rfc = (memory.cycles(name, clock) for name in ("rp", "rcd", "rfc"))
    postponed = postponed or memory.phy.postponed
    return postponed * (rp + rfc + 1) + rp + rcd + _GROUP


def read_cycles(memory: Sdram, clock: float, count: int, postponed: int | None = None) -> int:
    """A bound: cycles from the first address to the last word of a stream of ``count`` bytes, read by one that always
    has room, at ``clock`` MHz.

    A word (of `Sdram.cycle_bits`) comes each cycle but where a row ends, and but for refreshes.
    """
    words, rows = -(-count * 8 // memory.cycle_bits), -(-count // memory.row_bytes) + 1
    busy = words + rows * row_cycles(memory, clock) + memory.cas_latency + _LATENCY[memory.phy.name]
    group = group_cycles(memory, clock, postponed)
    return busy + (-(-busy // _between(memory, clock, postponed)) + 1) * group


def _between(memory: Sdram, clock: float, postponed: int | None = None) -> int:
    """Cycles for words between two groups of refreshes."""
    together = postponed or memory.phy.postponed
    return together * memory.cycles("refi", clock) - group_cycles(memory, clock, postponed)


def port_cycles(memory: Sdram, clock: float, machine: float, count: int) -> int:
    """A bound: cycles of a machine at ``machine`` MHz in which it takes ``count`` bytes, a word of the port a cycle,
    from a memory at ``clock`` MHz that is faster.

    The queue between them is full when a group of refreshes begins, as far as the memory has brought more since the
    last one than was taken; what the group takes beyond its words is lost.
    """
    words, ratio = -(-count * 8 // memory.port_width), machine / clock
    between = _between(memory, clock)
    row = memory.row_bytes * 8 / memory.cycle_bits
    brought = between * row / (row + row_cycles(memory, clock)) * memory.cycle_bits / memory.port_width
    full = min(QUEUE, max(0.0, brought - between * ratio))
    lost = max(0.0, group_cycles(memory, clock) * ratio - full)
    return math.ceil(words + (math.ceil(words / (between * ratio)) + 1) * lost)
