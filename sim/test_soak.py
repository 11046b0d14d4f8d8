from sim.soak import soak


def test_a_short_soak(tmp_path):
    """`make soak` runs thousands of passes."""
    counts = soak(tmp_path, passes=20, seed=1, stall=0.2)
    assert counts["passes"] > 20 and counts["operations"] and counts["NO_BLOCK"]
