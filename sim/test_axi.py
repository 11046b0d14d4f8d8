"""The decoder on buses, against golden, on simulators."""
from hwgen.host.golden_link import GoldenLink
from hwgen.models.pack import model_id, pack
from hwgen.params.axi import AxiShape
from hwgen.top.axi import AxiDecoder
from sim.designs import small_design
from sim.passes import History, Operation, random_model, run_step
from sim.runner import run, simulators

SMALLEST = dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, context=16, kv_block=1, hidden_size=4, intermediate_size=3,
                num_attention_heads=1, num_key_value_heads=1, head_dim=2, vocab_size=11)
SHAPES = {
    "stream": (dict(SMALLEST, num_hidden_layers=1, kv_ecc=True, halves=2), dict(data_width=16, burst=16, prefetch=64)),
    "queue": (dict(SMALLEST, num_hidden_layers=2, entries=3, tile_beats=1, lanes=4, sampler="gumbel", residual_fraction=22), dict(data_width=128, burst=4, host="queue", address_width=34)),
}


SAMPLING = dict(inv_temperature=300, seed=12345)


def expected(design, quantized, steps):
    """What the golden model says of the steps of a `History`."""
    golden = GoldenLink(design, quantized)
    if design.hw.sampler == "gumbel":
        golden.configure(**SAMPLING)
    for step in steps:
        result = run_step(golden, step)
        if isinstance(step, Operation):
            yield {"operation": {name: int(value) for name, value in step._asdict().items()}, "error": int(result.error)}
        elif step:      # a pass without entries cannot be given
            yield {"entries": [[e.slot, e.position, e.token, int(e.want), e.key] for e in step], "tokens": result.tokens,
                   "errors": [int(error.code) for error in result.errors.values()], "rows": len(step) - len(result.errors),
                   "mac_busy": result.counters["mac_busy"], "saturated": result.counters["saturated"], "signatures": result.signatures}


def simulate(changes, axi, tmp_path, *, seed=1, testcase=None):
    """On the simulator that builds fastest."""
    design = small_design(source="stream", **changes)
    quantized = random_model(design, seed)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(pack(quantized, design).tobytes())
    run(AxiDecoder(design, AxiShape(**axi)), "axi_decoder", "bench_axi", sim=simulators()[-1], testcase=testcase, params={
        "changes": changes, "axi": axi, "weights": str(weights), "weights_id": model_id(quantized), "sampling": SAMPLING,
        "passes": list(expected(design, quantized, History(design, seed, operations=0).steps(5))),
        "steps": list(expected(design, quantized, History(design, seed + 1, operations=0.4, wrong=0.2).steps(6)))})


def test_stream(tmp_path):
    simulate(*SHAPES["stream"], tmp_path)


def test_queue(tmp_path):
    """What goes through registers instead of streams."""
    simulate(*SHAPES["queue"], tmp_path, testcase=["passes", "kv_operations", "history", "numbers_without_bits", "reset_by_software", "not_before_it_may"])
