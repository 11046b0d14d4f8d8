"""The bound of a stream from SDRAM by hand; `sim/test_dram.py` compares it with runs."""
from dataclasses import replace

from hwgen.golden.dram import group_cycles, port_cycles, read_cycles, row_cycles
from hwgen.params.dram import MT41K128M16, MT48LC16M16


def test_by_hand():
    # at 45 MHz tRP and tRCD are a cycle, tRFC is 3, and a refresh is due in 351
    assert row_cycles(MT48LC16M16, 45) == 5 and group_cycles(MT48LC16M16, 45) == 8 * 5 + 10
    # 1 KiB: 512 words, two rows, and the latency; one group of refreshes in 2758 cycles, and one that had just been due
    assert read_cycles(MT48LC16M16, 45, 1024) == 512 + 2 * 5 + 2 + 14 + 2 * 50
    assert read_cycles(MT48LC16M16, 100, 1024) == 512 + 2 * 7 + 2 + 14 + 2 * (8 * 10 + 12)


def test_by_hand_of_an_artix():
    """At 100 MHz tRP and tRCD are two cycles, tRFC is 16, and a refresh is due in 781; a cycle has 16 bytes."""
    assert row_cycles(MT41K128M16, 100) == 11 and group_cycles(MT41K128M16, 100) == 19 + 12
    assert group_cycles(MT41K128M16, 100, 8) == 8 * 19 + 12
    assert read_cycles(MT41K128M16, 100, 4096) == 256 + 3 * 11 + 7 + 24 + 2 * 31


def test_a_port_that_is_slower_than_the_memory():
    """A machine of 64 MHz takes 480 words between two refreshes, for which the memory has brought 690: the queue of 16
    is full. A refresh takes 19.84 cycles of the machine. At 90 MHz the queue stays empty, and a refresh takes 27.9."""
    assert port_cycles(MT41K128M16, 100, 64, 16 * 480) == 488       # 480 and two times 3.84
    assert port_cycles(MT41K128M16, 100, 64, 16 * 481) == 493
    assert port_cycles(MT41K128M16, 100, 95, 16 * 712) == 712 + 59


def test_what_a_long_stream_gets():
    words = 1 << 22
    assert 0.972 < words / read_cycles(MT48LC16M16, 45, 2 * words) < 0.973
    assert 0.947 < words / read_cycles(MT48LC16M16, 45, 2 * words, postponed=1) < 0.949
    # half the row: twice the row misses
    short = replace(MT48LC16M16, columns=256, rows=16384)
    assert read_cycles(short, 45, 2 * words) - read_cycles(MT48LC16M16, 45, 2 * words) >= 5 * words // 512
