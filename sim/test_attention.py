import pytest

from hwgen.units.attention import Attention
from sim.designs import small_design
from sim.runner import run

SHAPES = {
    "smallest": dict(entries=1, slots=1, context=3, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=2,
                     hidden_size=8, vector_lanes=2, attention_lanes=2, kv_block=1),
    "group": dict(),
    # 3 words in a row, 13 positions, heads with a K/V head each
    "words": dict(entries=3, context=13, num_attention_heads=3, num_key_value_heads=3, head_dim=10, hidden_size=24,
                  vector_lanes=4, attention_lanes=4, kv_format="e4m3"),
    # padded heads, groups of 3
    "padded": dict(entries=2, context=20, num_attention_heads=6, num_key_value_heads=2, head_dim=12, hidden_size=24, vector_lanes=2,
                   attention_lanes=8, p_format="e3m4"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_attention(simulator, shape):
    run(Attention(small_design(**SHAPES[shape])), f"attention_{shape}", "bench_attention", params=SHAPES[shape], sim=simulator)
