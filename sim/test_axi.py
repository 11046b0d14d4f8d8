"""The decoder on buses, against golden, on simulators."""
import dataclasses

import numpy as np

from hwgen.models.adapter_codes import pack_adapter, random_adapter
from hwgen.models.pack import model_id, pack
from hwgen.params.axi import AxiShape
from hwgen.top.axi import AxiDecoder
from sim.designs import small_design
from sim.passes import SAMPLING, History, bus_steps, random_model
from sim.runner import run, simulators

SMALLEST = dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, context=16, kv_block=1, hidden_size=4,
                intermediate_size=3,
                num_attention_heads=1, num_key_value_heads=1, head_dim=2, vocab_size=11)
SHAPES = {
    "stream": (dict(SMALLEST, num_hidden_layers=1, kv_ecc=True, halves=2), dict(data_width=16, burst=16, prefetch=64)),
    "queue": (dict(SMALLEST, num_hidden_layers=2, entries=3, tile_beats=1, lanes=4, sampler="gumbel",
                   residual_fraction=22),
              dict(data_width=128, burst=4, host="queue", address_width=34)),
    "outside": (dict(SMALLEST, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=4,
                     hidden_size=8, entries=3, slots=3, kv_block=4, kv_blocks=9, kv_port=32),
                dict(data_width=32, host="queue", address_width=35)),
    "adapters": (dict(SMALLEST, num_hidden_layers=1, entries=3, slots=3, lanes=4, hidden_size=8,
                      intermediate_size=6, head_dim=6,
                      adapters=3, adapter_rank=2),
                 dict(data_width=32, host="queue")),
}


def simulate(changes, axi, tmp_path, *, seed=1, testcase=None):
    """On the simulator that builds fastest."""
    design = small_design(source="stream", **changes)
    quantized = random_model(design, seed)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(pack(quantized, design).tobytes())
    counts = ["reader.silent", *(["decoder.kv_cache.corrected", "decoder.kv_cache.failed"] if design.hw.kv_ecc else [])]
    more = adapted(design, quantized) if design.hw.adapters else {}
    run(AxiDecoder(design, AxiShape(**axi)), "axi_decoder", "bench_axi", sim=simulators()[-1], testcase=testcase,
        internals=counts, params=more | {
        "changes": changes, "axi": axi, "weights": str(weights), "weights_id": model_id(quantized),
        "sampling": SAMPLING,
        "passes": list(bus_steps(design, quantized, History(design, seed, operations=0).steps(5), SAMPLING)),
        "steps": list(bus_steps(design, quantized, History(design, seed + 1, operations=0.4, wrong=0.2).steps(6),
                                SAMPLING))})


def adapted(design, quantized):
    """Parameters of a bench: adapters as words, and passes in which all rows, none, and some have one."""
    adapters = [random_adapter(design, seed) for seed in (1, 2)]
    numbers = iter([[1, 1, 1], [0, 0, 0], [2, 0, 1], [2, 2, 1], [2, 0, 2]])
    steps = [[dataclasses.replace(entry, adapter=number) for entry, number in zip(step, next(numbers))]
             for step in History(design, 5, operations=0).steps(5)]
    return {"adapters": [np.frombuffer(pack_adapter(adapter, design).tobytes(), "<u4").tolist()
                         for adapter in adapters],
            "adapted": list(bus_steps(design, quantized, steps, SAMPLING, adapters))}


def test_stream(tmp_path):
    simulate(*SHAPES["stream"], tmp_path)


def test_queue(tmp_path):
    """What goes through registers instead of streams."""
    simulate(*SHAPES["queue"], tmp_path, testcase=["passes", "kv_operations", "history", "bus_errors",
                                                   "numbers_without_bits",
                                                   "offers_stay", "reset_by_software", "not_before_it_may"])


def test_outside(tmp_path):
    """Keys and values in a memory on a bus of their own."""
    simulate(*SHAPES["outside"], tmp_path, testcase=["passes", "hesitant/timing=0/hesitate=0.6", "kv_operations",
                                                     "history", "reset_by_software", "outside"])


def test_adapters(tmp_path):
    simulate(*SHAPES["adapters"], tmp_path, testcase=["adapters"])
