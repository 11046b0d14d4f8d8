"""The start-up of a memory by hand, and what the unit refuses."""
import pytest

from hwgen.golden.sdram_start import start
from hwgen.params.dram import StartStep
from hwgen.units.sdram_start import SdramStart

STEPS = [StartStep(0, 7, 0), StartStep(4, 8, 10)]


def test_by_hand():
    # looked up in 0, offered in 1 and done; looked up in 2, offered in 3 to 5, done; paused in 6 to 15
    assert start(STEPS, [(0, 0), (2, 0)]) == ([(1, 0, 7), (3, 4, 8)], 16, False)
    assert start(STEPS, [(1, 1), (2, 0)]) == ([(1, 0, 7)], 3, True)


@pytest.mark.parametrize("steps, complaint", [([], "at least one step, not none"),
                                              ([StartStep(6, 0, 0)], "multiple of 4, not 0x6")])
def test_refused(steps, complaint):
    with pytest.raises(ValueError, match=complaint):
        SdramStart(steps)
