"""The crossing's twin against the times of its edges, and what a queue must never do."""
import bisect
import random

import pytest

from hwgen.golden.axi_crossing import Queue, transfers

#: Periods of the giver and the taker, and when the taker's first edge is: no two edges are at the same time.
CLOCKS = [(10, 10, 5), (10, 10, 0.1), (10, 10, -0.1), (10, 30, 1), (30, 10, 1), (10, 14.142, 3), (14.142, 10, 3),
          (10, 9.99, 5), (56, 93.75, 1.01), (10, 99, 4.5)]


def _edges(period, start, count):
    return [start + period * (k + 1) for k in range(count)]


@pytest.mark.parametrize("depth", [4, 8, 16])
@pytest.mark.parametrize("clocks", CLOCKS)
def test_cycles_follow_from_the_times_of_the_edges(clocks, depth):
    """A beat is seen behind the second edge of the taker's clock that follows the edge at which it was given, and its
    place behind the second edge of the giver's that follows the one at which it was taken: computed from the times,
    beat by beat."""
    rng = random.Random(f"{clocks} {depth}")
    giver, taker, start = clocks
    ends = {True: _edges(giver, 0, 600), False: _edges(taker, start, 600)}
    last = min(ends[True][-1], ends[False][-1])
    edges = [which for time, which in sorted((time, which) for which, times in ends.items() for time in times
                                             if time < last)]
    held = {which: [rng.random() < 0.3 for _ in range(600)] for which in (True, False)}
    given, taken = transfers(depth, edges, lambda cycle: not held[True][cycle], lambda cycle: not held[False][cycle])

    def first(which, time, after):
        """The first cycle of a clock, not before ``after``, in which a beat moves that the other's edge at ``time`` let
        move: its second edge behind that has passed."""
        cycle = max(after, bisect.bisect_right(ends[which], time) + 2)
        while cycle < 600 and held[which][cycle]:
            cycle += 1
        return cycle

    gave, took = [], []
    for beat in range(len(given)):
        free = ends[False][took[beat - depth]] if beat >= depth else float("-inf")
        gave.append(first(True, free, gave[-1] + 1 if gave else 0) if beat >= depth else
                    next(cycle for cycle in range(gave[-1] + 1 if gave else 0, 600) if not held[True][cycle]))
        took.append(first(False, ends[True][gave[-1]], took[-1] + 1 if took else 0))
    assert given == gave and taken == took[:len(taken)]
    assert 40 < len(taken) <= len(given) <= len(taken) + depth


@pytest.mark.parametrize("clocks", CLOCKS)
def test_a_queue_of_eight_carries_a_beat_in_each_cycle_of_the_slower_clock(clocks):
    giver, taker, start = clocks
    edges = [which for _, which in sorted([(time, True) for time in _edges(giver, 0, 400)]
                                          + [(time, False) for time in _edges(taker, start, 400)])]
    given, taken = transfers(8, edges)
    slower = (given if giver > taker else taken)[8:30]
    assert slower == list(range(slower[0], slower[0] + 22))


def test_any_order_of_edges_keeps_the_count():
    """Edges of either side, as many in a row as they like."""
    rng = random.Random(1)
    queue = Queue(4)
    for _ in range(2000):
        before = queue.given, queue.taken
        ready, valid = queue.ready, queue.valid
        moves = rng.random() < 0.6
        (queue.give if rng.random() < 0.5 else queue.take)(moves)
        assert 0 <= queue.given - queue.taken <= 4
        assert queue.given - before[0] <= (ready and moves) and queue.taken - before[1] <= (valid and moves)
    assert queue.taken > 100
