"""Constants of the memory loader, which writes weights byte by byte from a line: unit, golden model and host share them."""
from enum import IntEnum

__all__ = ["BLOCK", "BURST", "LOAD_MEANINGS", "LoadError", "ROUND_TRIP", "SILENT_BITS"]

BLOCK = 1 << 16         # bytes that the host writes and checks at once, of which the memory has the right ones or not
# seconds that a USB serial port may take for a question and its answer beside the bytes' own: two frames of full-speed USB of 1 ms
# (FT231X, latency timer 1 ms)
ROUND_TRIP = 0.002
BURST = 16              # words of a burst of the loader, at most
SILENT_BITS = 1 << 16   # bit times without a byte, after which a block that is not whole is given up: 22 ms at 3 Mbaud, 66 ms at 1 Mbaud


class LoadError(IntEnum):
    """The first error while a block was written or read back. The first four are the bus's, with the numbers of the reader of
    weights."""
    NONE = 0
    SLAVE = 1
    DECODE = 2
    PROTOCOL = 3
    TIMEOUT = 4
    SILENCE = 5
    OVERRUN = 6


#: The same, in words.
LOAD_MEANINGS = {
    LoadError.NONE: "nothing",
    LoadError.SLAVE: "the memory answered SLVERR",
    LoadError.DECODE: "nothing answers at that address (DECERR)",
    LoadError.PROTOCOL: "a burst's last word came early, late or unasked",
    LoadError.TIMEOUT: "the memory gave no answer for TIMEOUT cycles",
    LoadError.SILENCE: "the line fell silent before the block was whole",
    LoadError.OVERRUN: "bytes came faster than the memory took them",
}
