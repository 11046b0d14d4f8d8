"""The code corrects every single flip and finds every double flip."""
import random
from itertools import combinations

import pytest

from hwgen.golden.secded import load, store, stored_bits
from hwgen.params.secded import check_bits, columns

WIDTHS = (1, 4, 8, 10, 16, 32, 64, 128)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_flip(width):
    data = random.Random(width).getrandbits(width)
    word = store(data, width)
    assert load(word, width) == (data, False, False)
    for bit in range(stored_bits(width)):
        assert load(word ^ 1 << bit, width) == (data, True, False)


@pytest.mark.parametrize("width", [w for w in WIDTHS if w <= 64])
def test_every_double_flip(width):
    word = store(random.Random(width).getrandbits(width), width)
    for a, b in combinations(range(stored_bits(width)), 2):
        assert load(word ^ 1 << a ^ 1 << b, width)[2]


def test_pieces_are_corrected_at_once():
    data = random.Random(0).getrandbits(128)
    word = store(data, 128)
    assert load(word ^ 1 << 5 ^ 1 << 70, 128) == (data, True, False)
    assert load(word ^ 1 << 5 ^ 1 << 6 ^ 1 << 70, 128)[1:] == (True, True)


@pytest.mark.parametrize("width, r", [(1, 3), (4, 4), (8, 5), (10, 5), (11, 5), (12, 6), (26, 6), (32, 7), (64, 8)])
def test_columns(width, r):
    """Known sizes of SECDED codes; columns differ, are odd, and load the check bits evenly."""
    table = columns(width)
    assert check_bits(width) == r and len(set(table)) == width
    assert all(c.bit_count() % 2 == 1 and c.bit_count() >= 3 and c < 1 << r for c in table)
    loads = [sum(c >> i & 1 for c in table) for i in range(r)]
    assert max(loads) - min(loads) <= 1
