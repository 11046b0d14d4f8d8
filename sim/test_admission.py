import pytest

from sim.admission_units import AdmissionToMemory
from sim.designs import small_design
from sim.runner import run, simulators

MODEL = dict(num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=2, vector_lanes=2,
             attention_lanes=2)
SHAPES = {
    "smallest": dict(**MODEL, entries=1, slots=1, context=8, kv_block=4),
    # numbers that their ports' bits can exceed, and fewer blocks than the slots could fill
    "odd": dict(**MODEL, entries=3, slots=3, context=11, kv_block=4, kv_blocks=5),
    # blocks behind a window are given back, and texts are longer than the memory
    "window": dict(**MODEL, entries=3, slots=3, context=22, kv_block=4, kv_blocks=4, sliding_window=2),
    # keys and adapters go along with entries
    "powers": MODEL | dict(entries=4, slots=2, context=8, kv_block=2, vocab_size=32, sampler="gumbel", adapters=3,
                           num_attention_heads=4, head_dim=4),
}
FASTEST = simulators()[-1]


@pytest.mark.parametrize("shape, sim", [*(("odd", sim) for sim in simulators()), ("smallest", FASTEST),
                                        ("powers", FASTEST),
                                        ("window", FASTEST)])
def test_admission(shape, sim):
    run(AdmissionToMemory(small_design(**SHAPES[shape])), f"admission_{shape}", "bench_admission",
        params=SHAPES[shape], sim=sim)
