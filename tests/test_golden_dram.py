"""The bound of a stream from SDRAM by hand; `sim/test_dram.py` compares it with runs."""
from dataclasses import replace

from hwgen.golden.dram import group_cycles, read_cycles, row_cycles, with_refreshes
from hwgen.params.dram import MT41K128M16, MT48LC16M16


def test_by_hand():
    # at 45 MHz tRP and tRCD are a cycle, tRFC is 3, and a refresh is due in 351
    assert row_cycles(MT48LC16M16, 45) == 5 and group_cycles(MT48LC16M16, 45) == 8 * 5 + 10
    # 1 KiB: 512 words, two rows, and the latency; one group of refreshes in 2758 cycles, and one that had just been due
    assert read_cycles(MT48LC16M16, 45, 1024) == 512 + 2 * 5 + 2 + 14 + 2 * 50
    assert read_cycles(MT48LC16M16, 100, 1024) == 512 + 2 * 7 + 2 + 14 + 2 * (8 * 10 + 12)


def test_by_hand_of_an_artix():
    """At 100 MHz tRP and tRCD are two cycles, tRFC is 16, and a refresh is due in 781; a cycle has 16 bytes."""
    assert row_cycles(MT41K128M16, 100) == 11 and group_cycles(MT41K128M16, 100) == 8 * 19 + 12
    assert read_cycles(MT41K128M16, 100, 4096) == 256 + 3 * 11 + 7 + 24 + 2 * 164
    assert with_refreshes(MT41K128M16, 100, 6084) == 6084 + 2 * 164
    assert with_refreshes(MT41K128M16, 100, 6085) == 6085 + 3 * 164


def test_what_a_long_stream_gets():
    words = 1 << 22
    assert 0.972 < words / read_cycles(MT48LC16M16, 45, 2 * words) < 0.973
    assert 0.947 < words / read_cycles(MT48LC16M16, 45, 2 * words, postponed=1) < 0.949
    # half the row: twice the row misses
    short = replace(MT48LC16M16, columns=256, rows=16384)
    assert read_cycles(short, 45, 2 * words) - read_cycles(MT48LC16M16, 45, 2 * words) >= 5 * words // 512
