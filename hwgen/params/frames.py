"""Frames in which a host reads and writes registers over a UART: docs/uart_bridge.md.

Request and answer: START, sequence number, length, that many bytes, CRC of all but START (CRC-16/IBM-3740, high byte first).

A request's bytes are operations: one byte (WRITE, FIXED, words - 1), the byte address (low byte first), and for a write the
words (low byte first). For each there is a status byte in the answer and, for a read, behind it the words.
"""

__all__ = ["FIXED", "FIRST", "FRAME_BYTES", "MALFORMED", "MAX_BYTES", "MAX_WORDS", "MOST_WRITTEN", "SILENCE", "START", "WRITE"]

START = 0xA5
FRAME_BYTES = 5         # of a frame beside its data
MAX_BYTES = 255         # of a request's operations, and of an answer's
WRITE = 0x80            # in an operation's first byte: it writes
FIXED = 0x40            # all words have the same address; otherwise each has the next
MAX_WORDS = 64          # of an operation
MOST_WRITTEN = 62       # of a write that fits into a request
FIRST = 0               # a request with this sequence number is always executed; any other one only if the one before had another

#: Status of an operation: 0, the first AXI response that was not OKAY, or this: it is cut off by the request's end, or what it reads has no
#: room in the answer. It and those behind it are not executed.
MALFORMED = 0x80

SILENCE = 32            # so many byte times without a byte, within a frame, and the rest of it is not waited for
