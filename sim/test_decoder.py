"""The decoder, against golden: under cocotb on every simulator, and as the Verilator C++ model at many shapes."""
import random

import pytest

from hwgen.host.links.link import PassResult
from hwgen.models.pack import model_id, pack
from hwgen.params.block import ACTIVATIONS
from hwgen.top.decoder import Decoder
from sim.decoders import BLOCKS, SHAPES, checked
from sim.designs import small_design, with_formats
from sim.passes import SAMPLING, History, bus_steps, corners, expected_steps, random_model, run_step
from sim.runner import run
from sim.weights_units import image

COCOTB = {
    "two_entries": dict(),
    # few columns are used: padding outlasts the last head; norms outlast the matrices above them, so that records wait;
    # and slots share few blocks, which they give back behind a window
    "halves": dict(entries=4, halves=2, hidden_size=8, intermediate_size=8, vocab_size=11, head_dim=2,
                   num_attention_heads=1, lanes=4,
                   columns=32, vector_lanes=2, attention_lanes=2, residual_fraction=22, slots=3, context=8, kv_block=2,
                   kv_blocks=8,
                   sliding_window=3),
    "smallest": dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, entries=1, slots=1, context=4, kv_block=1,
                     hidden_size=2,
                     intermediate_size=1, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=2,
                     vocab_size=2),
}

# offsets of rows and blocks, and matrices in E2M1; E2M5
FORMATS = {
    "five_bits": dict(formats="weights=e2m5,kv=e2m5,layers.1.down=e2m1,head=pair", entries=2, dsp_pairs=1, tile_beats=2,
                      hidden_size=40,
                      activation_format="e4m3"),
    "narrow": dict(formats="weights=e2m1", sampler="gumbel", entries=4, halves=2,
                   tile_beats=2, hidden_size=40,
                   vocab_size=90),
    "one_beat": dict(formats="weights=e2m1,head=e4m3,layers.1.down=e4m3", tile_beats=1, hidden_size=72,
                     intermediate_size=80,
                     block=dict(biased=["q", "o"], norms="sandwich"), lanes=16),
    "layers": dict(formats="layers.0=e2m1,layers.1.o=e2m1,scales=matrix", lanes=4, columns=16, tile_beats=4,
                   entries=4, halves=2,
                   attention_lanes=4, hidden_size=40),
    "rows": dict(formats="scales=row", sampler="gumbel", entries=4, halves=2, tile_beats=2, columns=16, vocab_size=100,
                 tie_word_embeddings=False),
}


@pytest.mark.parametrize("name", COCOTB)
def test_decoder(simulator, name):
    changes = COCOTB[name]
    design = small_design(source="rom", **changes)
    quantized = random_model(design)
    steps = list(expected_steps(design, quantized, History(design).steps(6)))
    assert any(step["counters"]["saturated"] for step in steps
               if "entries" in step) == (design.hw.residual_fraction > 20)
    run(Decoder(design, rom_file=str(image(pack(quantized, design)))), "decoder", "bench_decoder",
        params={"changes": {"source": "rom", **changes}, "steps": steps, "weights_id": model_id(quantized),
                "refused": list(bus_steps(design, quantized,
                                          [*(corners(design) if design.hw.context < 10
                                             else ()), *History(design, 3, operations=0.5, wrong=0.25).steps(14)],
                                          SAMPLING))}, sim=simulator)


def random_block(rng):
    """A block of everything that is accepted, and layers of different types."""
    gated, norms = rng.random() < 0.5, rng.choice(["pre", "post", "sandwich"])
    norm = rng.choice([None, dict(span=rng.choice(["head", "projection"]), after_rotary=rng.random() < 0.5)])
    names = [name for name in ("q", "k", "v", "o", *(["gate"] if gated else []), "up", "down") if rng.random() < 0.4]
    return dict(biased=names, qk_norm=norm, norms=norms, gated=gated, activation=rng.choice(ACTIVATIONS),
                parallel=norms == "pre" and "down" not in names and rng.random() < 0.5, final_bias=rng.random() < 0.6)


def random_layers(rng, count):
    return [dict(window=rng.choice([None, 1, 3, 8]), rotary=rng.random() < 0.7, rope_theta=rng.choice([None, 100.0]))
            for _ in range(count)]


def random_changes(seed):
    """A shape that nobody would choose, from everything that is accepted."""
    rng = random.Random(seed)
    vector = rng.choice([2, 4, 8])
    lanes, columns, attention = (max(vector, rng.choice([2, 4, 8, 16])) for _ in range(3))
    beats = [b for b in (1, 2, 4, 8) if b <= columns and lanes * columns // b >= 2 * vector]
    kv_heads = rng.randint(1, 3)
    entries, layers = rng.randint(1, 6), rng.randint(1, 3)
    other = random.Random(f"block {seed}")
    block = random_block(other) if seed % 3 else {}
    own = dict(block=block, layer_types=random_layers(other, layers)) if block else {}
    changes = dict(
        lanes=lanes, columns=columns, vector_lanes=vector, attention_lanes=attention, tile_beats=rng.choice(beats),
        entries=entries, halves=2 - entries % 2, slots=rng.randint(1, 3), context=rng.randint(5, 40),
        kv_block=rng.choice([1, 4, 16]),
        kv_ecc=rng.random() < 0.3,
        num_key_value_heads=kv_heads, num_attention_heads=kv_heads * rng.randint(1, 4), head_dim=2 * rng.randint(1, 14),
        hidden_size=rng.randint(3, 60), intermediate_size=rng.randint(2, 70), vocab_size=rng.randint(2, 200),
        num_hidden_layers=layers, tie_word_embeddings=rng.random() < 0.5, head=rng.choice(["single", "pair"]),
        weight_format=rng.choice(["e3m4", "e4m3"]), activation_format=rng.choice(["e3m4", "e4m3"]),
        kv_format=rng.choice(["e3m4", "e4m3"]), p_format=rng.choice(["e3m4", "e4m3"])) | own | (
            dict(tie_word_embeddings=False, head_bias=True) if block.get("final_bias") else {})
    return with_formats(seed, changes) if seed % 2 and changes["tile_beats"] <= 2 * lanes else changes


def some_nightly(names, nightly):
    """Parameters of which some are for `make nightly`: each takes most of a minute."""
    return [pytest.param(name, marks=[pytest.mark.nightly] if name in nightly else []) for name in names]


@pytest.mark.parametrize("name", some_nightly(SHAPES, ("narrow_stream", "pair_e4m3")))
def test_shape(name, tmp_path):
    design = small_design(source="stream", **SHAPES[name])
    with checked(design, tmp_path) as link:
        if design.hw.sampler == "gumbel":
            link.configure(300, 12345)
        results = [run_step(link, step) for step in History(design, wrong=0.1).steps(16)]
    saturated = [result.counters["saturated"] for result in results if isinstance(result, PassResult)]
    assert any(saturated) == (design.hw.residual_fraction > 20)
    with checked(design, tmp_path, stall=0.4) as link:
        for step in History(design, seed=2, wrong=0.1).steps(6):
            run_step(link, step)


@pytest.mark.parametrize("name", some_nightly(BLOCKS, ("plain_norms",)))
def test_block(name, tmp_path):
    design = small_design(source="stream", **BLOCKS[name])
    with checked(design, tmp_path) as link:
        results = [run_step(link, step) for step in History(design, wrong=0.1).steps(16)]
    saturated = [result.counters["saturated"] for result in results if isinstance(result, PassResult)]
    assert any(saturated) == (design.hw.residual_fraction > 20)


@pytest.mark.parametrize("name", some_nightly(FORMATS, FORMATS))
def test_formats(name, tmp_path):
    design = small_design(source="stream", **FORMATS[name])
    with checked(design, tmp_path) as link:
        if design.hw.sampler == "gumbel":
            link.configure(300, 12345)
        for step in History(design, wrong=0.1).steps(12):
            run_step(link, step)
    with checked(design, tmp_path, stall=0.4) as link:
        for step in History(design, seed=2, wrong=0.1).steps(4):
            run_step(link, step)


@pytest.mark.parametrize("seed", some_nightly(range(6), (2, 3, 4, 5)))
def test_random_shape(seed, tmp_path):
    design = small_design(source="stream", **random_changes(seed))
    with checked(design, tmp_path) as link:
        for step in History(design, seed, wrong=0.1).steps(16):
            run_step(link, step)
