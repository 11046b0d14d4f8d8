import numpy as np

from hwgen.golden.counters import counts


def test_counts_are_sums_since_the_clear():
    rng = np.random.default_rng(0)
    events, clears = rng.random((50, 3)) < 0.5, np.zeros(50, bool)
    clears[20] = True
    got = counts(events, clears)
    for cycle in range(50):
        first = 0 if cycle <= 20 else 21
        assert (got[cycle] == events[first:cycle].sum(axis=0)).all()


def test_counts_wrap():
    assert counts(np.ones((20, 1), bool), np.zeros(20, bool), width=3)[:, 0].tolist() == [i % 8 for i in range(20)]
