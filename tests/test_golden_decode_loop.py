"""What follows a pass, case by case."""
import pytest

from hwgen.golden.decode_loop import follow
from sim.designs import small_design

DESIGN = small_design(context=16)
ENTRY = {"slot": 0, "position": 3, "token": 5, "want": 1, "last": 1}
RESULT = {"token": 6, "none": 0}


def test_it_goes_on():
    assert follow(DESIGN, 2, ENTRY, RESULT) == (1, ENTRY | {"position": 4, "token": 6})
    assert follow(DESIGN, 2, ENTRY | {"key": 2**32 - 1}, RESULT)[1]["key"] == 0
    assert follow(DESIGN, 1, ENTRY, RESULT, stop=5) == (0, ENTRY | {"position": 4, "token": 6})


@pytest.mark.parametrize("left, entry, result, stop, expected", [
    (0, {}, {}, None, 0),
    (3, {"position": 15}, {}, None, 0),
    (3, {}, {}, 6, 0),
    (3, {}, {"error": 2}, None, 0),
    (3, {"want": 0}, {}, None, 0),
    (3, {"want": 0}, {"none": 1}, None, 3),     # a part of a prompt
])
def test_it_ends(left, entry, result, stop, expected):
    assert follow(DESIGN, left, ENTRY | entry, RESULT | result, stop) == (expected, None)
