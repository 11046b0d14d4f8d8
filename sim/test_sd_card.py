"""The model of an SD card, which is to find what a host does wrong."""
from sim.card_units import card_alone
from sim.runner import run

SLOW, FAST = 5, 3


def test_sd_card():
    run(card_alone("sd_card_bench", SLOW, FAST), "sd_card_bench", "bench_sd_card", params={"slow": SLOW, "fast": FAST})
