"""The decoder on buses, against golden, on simulators."""
import pytest

from hwgen.models.pack import model_id, pack
from hwgen.params.axi import AxiShape
from hwgen.top.axi import AxiDecoder
from sim.designs import small_design
from sim.passes import expected_passes, random_model, random_passes
from sim.runner import run, simulators

SMALLEST = dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, context=8, kv_block=1, hidden_size=4, intermediate_size=3,
                num_attention_heads=1, num_key_value_heads=1, head_dim=2, vocab_size=11)
SHAPES = {
    "stream": (dict(SMALLEST, num_hidden_layers=2), dict(data_width=16, burst=16, prefetch=64)),
    "queue": (dict(SMALLEST, num_hidden_layers=1, entries=5, tile_beats=1, lanes=4), dict(data_width=128, burst=4, host="queue", address_width=34)),
}


def simulate(name, simulator, tmp_path):
    changes, axi = SHAPES[name]
    design = small_design(source="stream", **changes)
    quantized = random_model(design)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(pack(quantized, design).tobytes())
    run(AxiDecoder(design, AxiShape(**axi)), "axi_decoder", "bench_axi", sim=simulator, params={
        "changes": changes, "axi": axi, "weights": str(weights), "weights_id": model_id(quantized),
        "passes": list(expected_passes(design, quantized, random_passes(design, 5)))})


@pytest.mark.parametrize("name", SHAPES)
def test_axi_decoder(name, tmp_path):
    simulate(name, simulators()[-1], tmp_path)


def test_verilator(tmp_path):
    simulate("stream", "verilator", tmp_path)
