"""The reader of a card on simulators: weights of one block and of several, whole and not."""
import pytest

from hwgen.params.card import CardTiming, image_head
from sim.card_units import reader_and_card
from sim.runner import run, simulators

MACHINE, WIDE = 0x12345678, 16


def simulate(simulator, size, testcase=None, slow=3, fast=1, patience=20_000):
    head = image_head(MACHINE, size)
    text = reader_and_card("card_reader", head, size, CardTiming(slow, fast, patience), WIDE, 2 * slow, 2 * fast)
    run(text, "card_reader", "bench_card_reader", sim=simulator, testcase=testcase,
        params={"head": head.hex(), "size": size, "slow": slow, "fast": fast, "patience": patience})


def test_card_reader(simulator):
    few = ["boots/variety=0", "blocks_that_fail/fault=1/times=1", "other_cards", "other_images/place=11"]
    simulate(simulator, 530, testcase=few if simulator == simulators()[0] else few[:1])


@pytest.mark.nightly
@pytest.mark.parametrize("size, slow, fast", [(530, 3, 1), (1, 2, 2), (512, 5, 1), (513, 57, 1), (1535, 9, 3)])
def test_sizes_and_clocks(size, slow, fast):
    simulate(simulators()[-1], size, slow=slow, fast=fast, patience=8000 * slow)
