"""What follows a pass, case by case."""
import pytest

from hwgen.golden.decode_loop import GAP, follow
from sim.designs import small_design

DESIGN = small_design(context=16, entries=3)
ENTRY = {"slot": 0, "position": 3, "token": 5, "want": 1, "last": 1}
RESULT = {"entry": 0, "token": 6, "none": 0, "error": 0}
NEXT = ENTRY | {"position": 4, "token": 6}


def test_it_goes_on():
    assert follow(DESIGN, 2, [ENTRY], [RESULT]) == (1, [(GAP, NEXT)])
    assert follow(DESIGN, 2, [ENTRY | {"key": 2**32 - 1}], [RESULT])[1][0][1]["key"] == 0
    assert follow(DESIGN, 1, [ENTRY], [RESULT], stop=5) == (0, [(GAP, NEXT)])


def test_those_that_may_go_on():
    entries = [ENTRY | {"slot": k, "last": k == 2} for k in range(3)]
    results = [RESULT | {"entry": k, "token": 6 + k} for k in range(3)]
    followers = [NEXT | {"slot": k, "token": 6 + k, "last": 0} for k in range(3)]
    assert follow(DESIGN, 9, entries, results) == (8, [(GAP, followers[0]), (GAP + 1, followers[1]),
                                                       (GAP + 2, followers[2] | {"last": 1})])
    assert follow(DESIGN, 9, entries, results, stop=6) == (8, [(GAP + 1, followers[1]),
                                                               (GAP + 2, followers[2] | {"last": 1})])
    assert follow(DESIGN, 9, entries, [results[2] | {"error": 2}, *results[:2]],
                  stop=6) == (8, [(GAP + 1, followers[1] | {"last": 1})])
    assert follow(DESIGN, 9, entries, results[1:2]) == (8, [(GAP + 1, followers[1] | {"last": 1})])


@pytest.mark.parametrize("left, entry, result, stop, expected", [
    (0, {}, {}, None, 0),
    (3, {"position": 15}, {}, None, 0),
    (3, {}, {}, 6, 0),
    (3, {}, {"error": 2}, None, 0),
    (3, {"want": 0}, {}, None, 0),
    (3, {"want": 0}, {"none": 1}, None, 3),     # a part of a prompt
])
def test_it_ends(left, entry, result, stop, expected):
    assert follow(DESIGN, left, [ENTRY | entry], [RESULT | result], stop) == (expected, [])
