"""The AXI4 reader on simulators: words as wide as beats, narrower and wider; short and long bursts; few and many of
them."""
import pytest

from hwgen.params.axi import AxiShape
from hwgen.top import make
from sim.designs import small_design
from sim.runner import run, simulators

SHAPES = {      # design, buses
    "narrow": (dict(tile_beats=2), dict(data_width=64, burst=16, outstanding=3, prefetch=40)),
    "wide": (dict(tile_beats=4, columns=4, vector_lanes=2), dict(data_width=256, burst=4, outstanding=2, prefetch=9)),
}
MORE = {
    "equal": (dict(tile_beats=4), dict(data_width=128, burst=256, outstanding=1, prefetch=1, address_width=64,
                                       id_width=4)),
    "bytes": (dict(tile_beats=8), dict(data_width=8, burst=256, outstanding=256, prefetch=300)),
    "kilobit": (dict(tile_beats=8, vector_lanes=2, entries=5), dict(data_width=1024, burst=256, prefetch=1)),
    "singles": (dict(tile_beats=1), dict(data_width=32, burst=1, outstanding=5, prefetch=1, address_width=20)),
    "one_word": (dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, hidden_size=1,
                      intermediate_size=1, head_dim=2,
                      num_attention_heads=1, num_hidden_layers=1, vocab_size=1, entries=1), dict(data_width=1024)),
}


def simulate(shape, simulator, **params):
    changes, axi = shape
    run(make.axi_reader(small_design(source="stream", **changes), AxiShape(**axi)), "axi_reader", "bench_axi_reader",
        params={"changes": changes, "axi": axi, **params}, sim=simulator, internals=["silent"])


def test_narrow(simulator):
    simulate(SHAPES["narrow"], simulator, brief=simulator != simulators()[-1])


def test_wide():
    simulate(SHAPES["wide"], simulators()[-1])


@pytest.mark.parametrize("name", MORE)
def test_widths(name):
    """On the simulator that builds fastest."""
    simulate(MORE[name], simulators()[-1], brief=True)
