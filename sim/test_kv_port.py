import pytest

from hwgen.top.kv_port import KvBus
from sim.designs import small_design
from sim.kv_units import CACHES, SYSTEMS, HeadsToAttention
from sim.runner import run, simulators

FASTEST = simulators()[-1]

# Words of the bus that are narrower than those of rows, as wide, and wider; blocks of one and
# several positions
OUTSIDE = {
    "words": {**SYSTEMS["words"], "source": "stream", "kv_port": 64},
    "narrow": {**SYSTEMS["words"], "source": "stream", "kv_port": 8, "layer_types": [{}, {"window": 6}]},
    "equal": dict(entries=4, slots=3, context=23, num_attention_heads=6, num_key_value_heads=3, head_dim=6,
                  hidden_size=24, vector_lanes=2, attention_lanes=2, kv_block=1, kv_port=16, source="stream"),
    "wide": dict(entries=2, slots=1, context=40, num_attention_heads=2, num_key_value_heads=1, head_dim=24,
                 vector_lanes=2, attention_lanes=8, kv_block=16, kv_port=256, source="stream"),
}


# as CACHES
PORTS = {
    "odd": {**CACHES["odd"], "source": "stream", "kv_port": 64},
    "window": {**CACHES["window"], "source": "stream", "kv_port": 8},
    "exponents": {**CACHES["odd"], "slots": 2, "context": 9, "attention_lanes": 8, "head_dim": 16, "source": "stream",
                  "kv_blocks": 5, "kv_port": 32},
    "single": {**CACHES["smallest"], "context": 6, "source": "stream", "kv_port": 16},
}


@pytest.mark.parametrize("shape", PORTS)
def test_kv_port(shape):
    """One shape with all that hesitates; the others, to save time, with a memory that does not."""
    few = None if shape == "exponents" else ["every_row", "copies", "errors"]
    run(KvBus(small_design(**PORTS[shape])), f"kv_port_{shape}", "bench_kv_port", params=PORTS[shape], sim=FASTEST,
        testcase=few)


@pytest.mark.parametrize("shape", OUTSIDE)
def test_rows_outside(shape):
    few = ["full_speed", "reset_in_flight", *["stalled/pattern=0"] * (shape == "equal")]
    run(HeadsToAttention(small_design(**OUTSIDE[shape])), f"kv_outside_{shape}", "bench_kv_writer",
        params=OUTSIDE[shape], sim=FASTEST, testcase=few)
