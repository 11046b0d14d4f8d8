"""tools.bench_lost: what phases lose is what the counters say."""
import dataclasses

from hwgen.golden.sequencer import pass_timeline
from tools import bench_lost

POSITION = 57


def test_phases_sum_up_to_the_counters():
    design = bench_lost.machine()
    counters = pass_timeline(design, [POSITION], [True]).counters
    phases = bench_lost.lost(design, POSITION).values()
    assert sum(cycles for cycles, _ in phases) == counters["cycles"]
    assert sum(cycles - idle for cycles, idle in phases) == counters["mac_busy"]


def test_early_attention_is_that_of_the_last_kv_head_at_least():
    design = bench_lost.machine()
    model = dataclasses.replace(design.model, num_attention_heads=design.group, num_key_value_heads=1)
    last = bench_lost.attention_cycles(dataclasses.replace(design, model=model), [POSITION])[1]
    assert bench_lost.early_attention(design, POSITION) == last
    assert bench_lost.early_attention(design, 1023) == bench_lost.attention_cycles(design, [1023])[1] - 216
