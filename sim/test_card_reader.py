"""The reader of a card on simulators: weights of one block and of several, whole and not."""
import pytest

from hwgen.params.card import CardTiming, image_head
from hwgen.units.card_reader import CardReader
from sim.card_units import reader_and_card
from sim.runner import run, simulators

MACHINE, WIDE = 0x12345678, 16


def simulate(simulator, size, testcase=None, slow=3, fast=1, patience=20_000):
    head = image_head(MACHINE, size)
    timing = CardTiming(slow, fast, patience)
    text = reader_and_card("card_reader", head, size, timing, WIDE, 2 * slow, 2 * fast)
    run(text, "card_reader", "bench_card_reader", sim=simulator, testcase=testcase,
        component=CardReader(head, size, timing, WIDE),
        params={"head": head.hex(), "size": size, "slow": slow, "fast": fast, "patience": patience})


def test_card_reader(simulator):
    simulate(simulator, 530, testcase=None if simulator == simulators()[0] else "boots/variety=0")


@pytest.mark.nightly
@pytest.mark.parametrize("size, slow, fast", [(1, 2, 2), (512, 5, 1), (513, 57, 1), (1535, 9, 3)])
def test_sizes_and_clocks(size, slow, fast):
    simulate(simulators()[-1], size, slow=slow, fast=fast, patience=8000 * slow)
