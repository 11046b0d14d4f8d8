import pytest

from hwgen.units.attention import Attention
from sim.designs import small_design
from sim.runner import run

SHAPES = {
    "smallest": dict(entries=1, slots=1, context=3, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=2,
                     hidden_size=8, vector_lanes=2, attention_lanes=2, kv_block=1),
    # 3 words in a row, 13 positions, a K/V head for each head
    "words": dict(entries=3, context=13, num_attention_heads=3, num_key_value_heads=3, head_dim=10, hidden_size=24,
                  vector_lanes=4, attention_lanes=4, kv_format="e4m3"),
    # groups of 3, padded heads of one word
    "groups": dict(entries=2, context=20, num_attention_heads=6, num_key_value_heads=2, head_dim=6, hidden_size=24, vector_lanes=2,
                   attention_lanes=8, p_format="e3m4"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_attention(simulator, shape):
    run(Attention(small_design(**SHAPES[shape])), f"attention_{shape}", "bench_attention", params=SHAPES[shape], sim=simulator)
