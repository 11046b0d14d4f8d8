"""Golden twin of hwgen/units/uart.py: levels on a wire, cycle by cycle."""
from collections.abc import Iterable

__all__ = ["BITS", "received_cycle", "waveform"]

BITS = 10       # of a byte on the wire: start, 8 data, stop


def waveform(data: Iterable[int], divisor: int) -> list[int]:
    """Levels of the wire from the start bit of the first byte on, one per cycle, bytes following each other without a
    gap."""
    levels = []
    for byte in data:
        for bit in (0, *((byte >> i) & 1 for i in range(8)), 1):
            levels += [bit] * divisor
    return levels


def received_cycle(start: int, divisor: int) -> int:
    """Cycle in which the receiver has the byte whose start bit is on the wire from cycle ``start`` on: two flip-flops
    and one cycle to see it, then half a bit, nine bits, and one cycle."""
    return start + 2 + divisor // 2 + (BITS - 1) * divisor + 1
