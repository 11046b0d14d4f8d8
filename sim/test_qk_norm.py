"""QkNorm on the simulators."""
import pytest

from hwgen.params.block import QkNorm as Kind
from hwgen.params.block import dense
from hwgen.top import make
from sim.designs import small_design
from sim.runner import run

CASES = {
    # heads of eight granules, wider than the array, with padding
    "wide_heads": ("head", 2, dict(entries=3, vector_lanes=2, columns=4, attention_lanes=8, head_dim=12,
                                   num_attention_heads=4,
                                   num_key_value_heads=2)),
    # a head is one granule, and several are in a row of the array
    "smallest": ("head", 1, dict(entries=1, vector_lanes=2, attention_lanes=2, head_dim=2, rms_norm_eps=1e-6)),
    # three granules per head
    "projection": ("projection", 2, dict(entries=3, vector_lanes=8, head_dim=20, attention_lanes=8,
                                         num_attention_heads=6,
                                         num_key_value_heads=2)),
    # as many keys as queries
    "alike": ("projection", 1, dict(entries=1, vector_lanes=4, columns=16, head_dim=6, num_attention_heads=3,
                                    num_key_value_heads=3)),
}


@pytest.mark.parametrize("name", CASES)
def test_qk_norm(simulator, name):
    span, banks, design = CASES[name]
    unit = make.qk_norm(small_design(**design, block=dense(qk_norm=Kind(span))), banks=banks)
    run(unit, f"qk_norm_{name}", "bench_qk_norm", params={"design": design, "span": span, "banks": banks},
        sim=simulator)
