import pytest

from hwgen.top import make
from sim.designs import random_changes, small_design
from sim.runner import run, simulators

SHAPES = {
    "smallest": dict(entries=1, slots=1, context=3, num_hidden_layers=1, num_attention_heads=1,
                     num_key_value_heads=1, head_dim=2,
                     hidden_size=8, vector_lanes=2, attention_lanes=2, kv_block=1),
    # 3 words in a row, 13 positions, a K/V head for each head
    "words": dict(entries=3, context=13, num_attention_heads=3, num_key_value_heads=3, head_dim=10, hidden_size=24,
                  vector_lanes=4, attention_lanes=4, kv_format="e4m3"),
    # groups of 3, padded heads of one word
    "groups": dict(entries=2, context=20, num_attention_heads=6, num_key_value_heads=2, head_dim=6, hidden_size=24,
                   vector_lanes=2,
                   attention_lanes=8, p_format="e3m4"),
    # two windows of which one is a single position, one of the whole context, and none
    "windows": dict(entries=3, context=20, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=2,
                    head_dim=6, hidden_size=16,
                    vector_lanes=2, attention_lanes=2,
                    layer_types=[{"window": 7}, {}, {"window": 1}, {"window": 7}, {"window": 20}]),
    # softcaps: a tight one beside windows, and one of which hardly a score is beyond the middle
    "capped": dict(entries=2, context=21, num_attention_heads=4, num_key_value_heads=2, head_dim=6, vector_lanes=2,
                   attention_lanes=4,
                   layer_types=[{"window": 6}, {}], attn_logit_softcapping=1.5),
    "capped_wide": dict(entries=3, context=13, head_dim=10, vector_lanes=4, attention_lanes=4, kv_format="e4m3",
                        attn_logit_softcapping=3000.0),
    # fewer rows than positions in all layers: memories and sums are smaller
    "sliding": dict(entries=1, context=19, sliding_window=5, head_dim=8, vector_lanes=8, attention_lanes=8,
                    kv_format="e4m3"),
    # sums that are divided where they are: words of several granules, and of one; and beside windows
    "in_place": dict(entries=3, context=13, num_attention_heads=6, num_key_value_heads=2, head_dim=8, hidden_size=24,
                     vector_lanes=2, attention_lanes=4, attention_hold=False),
    "in_place_wide": dict(entries=2, context=9, num_attention_heads=2, num_key_value_heads=2, head_dim=10,
                          vector_lanes=4, attention_lanes=4, attention_hold=False,
                          layer_types=[{"window": 4}, {}]),
    "in_place_small": dict(entries=1, slots=1, context=3, num_hidden_layers=1, num_attention_heads=1,
                           num_key_value_heads=1, head_dim=2, hidden_size=8, vector_lanes=2, attention_lanes=2,
                           kv_block=1, attention_hold=False),
    # several rows at once: two, of a context that is no multiple; four, beside windows that begin and end anywhere,
    # sums in place and a softcap; eight of three rows at most
    "rows": dict(entries=3, context=13, num_attention_heads=4, num_key_value_heads=2, head_dim=6, vector_lanes=2,
                 attention_lanes=8, kv_block=4, attention_rows=2),
    "rows_windows": dict(entries=3, context=21, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=2,
                         head_dim=4, hidden_size=24, vector_lanes=2, attention_lanes=4, kv_block=8, attention_rows=4,
                         layer_types=[{"window": 7}, {}, {"window": 1}, {"window": 9}], attention_hold=False,
                         attn_logit_softcapping=1.5),
    "rows_few": dict(entries=1, slots=1, context=3, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
                     head_dim=2, hidden_size=8, vector_lanes=2, attention_lanes=2, kv_block=8, attention_rows=8),
}


# One shape on all simulators; the others, to save time, on the one that builds fastest.
CASES = [*(("words", sim) for sim in simulators()), *((shape, simulators()[-1])
                                                      for shape in ("smallest", "groups", "windows", "capped",
                                                                    "capped_wide", "sliding", "in_place",
                                                                    "in_place_wide", "in_place_small", "rows",
                                                                    "rows_windows", "rows_few"))]


@pytest.mark.parametrize("shape, sim", CASES)
def test_attention(shape, sim):
    run(make.attention(small_design(**SHAPES[shape])), f"attention_{shape}", "bench_attention",
        params=SHAPES[shape], sim=sim)


@pytest.mark.parametrize("seed", [3])
def test_random_shapes(seed):
    changes = random_changes(seed)
    run(make.attention(small_design(**changes)), "attention_random", "bench_attention", params=changes,
        sim=simulators()[-1], seed=seed)
