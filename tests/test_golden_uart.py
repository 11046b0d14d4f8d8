"""The golden UART against the definition of its wire, and what the unit refuses."""
import pytest

from hwgen.golden.uart import received_cycle, waveform
from hwgen.units.uart import UartReceiver, UartTransmitter


def test_a_byte_on_the_wire():
    assert waveform([0b11001010], 1) == [0, 0, 1, 0, 1, 0, 0, 1, 1, 1]      # start, least significant first, stop
    assert waveform([1, 2], 3) == [level for bit in waveform([1], 1) + waveform([2], 1) for level in [bit] * 3]


@pytest.mark.parametrize("divisor", [4, 5, 27, 868])
def test_every_bit_is_sampled_well_inside(divisor):
    # the stop bit is sampled in the cycle before the byte is there; the synchronizer and seeing the start bit took 3
    stop = received_cycle(0, divisor) - 1 - 2
    assert 9 * divisor + divisor // 4 <= stop < 10 * divisor


@pytest.mark.parametrize("unit", [UartReceiver, UartTransmitter])
@pytest.mark.parametrize("divisor", [0, 3, 65536])
def test_refused(unit, divisor):
    with pytest.raises(ValueError, match="Cycles per bit must be 4 to 65535"):
        unit(divisor)
