import numpy as np

from hwgen.golden.kv_cache import kv_arrays, kv_write, kv_write_cycles
from sim.designs import small_design


def test_rows_are_where_they_were_written():
    design = small_design(num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, slots=2, context=5)
    cache, rng, expected = kv_arrays(design), np.random.default_rng(0), {}
    places = [(layer, slot, position) for layer in range(3) for slot in range(2) for position in range(5)]
    for at in rng.permutation(places):
        entry = [rng.integers(0, 256, (2, 8)), rng.integers(-512, 512, 2), rng.integers(0, 256, (2, 8)), rng.integers(-512, 512, 2)]
        kv_write(cache, *at, *entry)
        expected[tuple(at)] = entry
    for layer, slot, position in places:
        rows = cache.slot(layer, slot, position + 1)
        assert all(len(part) == position + 1 and np.array_equal(part[position], want)
                   for part, want in zip(rows, expected[layer, slot, position]))


def test_several_entries_at_once():
    design = small_design(slots=2)
    one, all_at_once, rng = kv_arrays(design), kv_arrays(design), np.random.default_rng(0)
    slots, positions = [1, 0, 1], [4, 2, 5]
    entries = [rng.integers(0, 128, shape) for shape in ((3, 1, 8), (3, 1), (3, 1, 8), (3, 1))]
    kv_write(all_at_once, 1, slots, positions, *entries)
    for i, at in enumerate(zip(slots, positions)):
        kv_write(one, 1, *at, *(part[i] for part in entries))
    assert all(np.array_equal(a, b) for a, b in zip(one, all_at_once))


def test_cycles_grow_with_the_words():
    design = small_design(num_attention_heads=4, num_key_value_heads=2, head_dim=16)      # 2 K + 2 V heads of 2 words
    assert kv_write_cycles(design, 5) - kv_write_cycles(design, 4) == 8
