"""Decoders as Verilator C++ models: shapes that several tests build, so that one build serves all, and a link that
compares with golden."""
from hwgen.host.driver import CheckedLink
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.verilated import VerilatedLink, build_model
from hwgen.lib.verilog import emit_design
from hwgen.models.pack import pack
from hwgen.top.decoder import Decoder
from sim.passes import random_model

# slots that must share the KV memory; numbers that their ports' bits can exceed
SHARED_BLOCKS = dict(entries=3, slots=5, context=20, kv_block=4, kv_blocks=13, kv_ecc=True)

# shapes for the C++ model: each covers what the others do not (a residual_fraction above 20 clips numbers)
SHAPES = {
    "issue": dict(num_attention_heads=3, num_key_value_heads=1, head_dim=24, num_hidden_layers=5, vocab_size=777,
                  hidden_size=72,
                  intermediate_size=200, lanes=16, columns=8, entries=3, slots=2, context=40, vector_lanes=4,
                  attention_lanes=8,
                  dsp_pairs=2),
    "narrow_stream": dict(tile_beats=8, columns=16, dsp_columns=3, dsp_pairs=5, entries=5, slots=3,
                          num_attention_heads=4,
                          num_key_value_heads=2, hidden_size=40, tie_word_embeddings=False),
    "pair_e4m3": dict(head="pair", residual_fraction=24, weight_format="e4m3", kv_format="e4m3", entries=1, slots=1,
                      tile_beats=2, lanes=4,
                      columns=16),
    "mixed_formats": dict(weight_format="e4m3", activation_format="e3m4", kv_format="e3m4", p_format="e3m4",
                          num_attention_heads=4,
                          num_key_value_heads=4, attention_lanes=4, head_dim=6, residual_fraction=12, dsp_pairs=4,
                          **SHARED_BLOCKS),
    "gumbel": dict(sampler="gumbel", entries=4, halves=2, vocab_size=300, num_hidden_layers=1, columns=4,
                   vector_lanes=4, attention_rows=4,
                   residual_fraction=21),
}

# blocks that are not Llama's: together they have everything that a block may have (all families: `python -m
# tools.check_families`); and one whose slots give back KV blocks behind its window, with texts longer than its KV
# memory
BLOCKS = {
    "norms": dict(block=dict(norms="sandwich", qk_norm=dict(span="head"), activation="gelu_tanh", biased=["q", "o"]),
                  entries=4, halves=2,
                  num_hidden_layers=3, layer_types=[dict(window=5, rope_theta=100.0), dict(rotary=False),
                                                    dict(window=3)],
                  slots=3, context=20,
                  kv_block=4, vector_lanes=2, columns=16, head_dim=6, intermediate_size=28),
    "parallel": dict(block=dict(parallel=True, gated=False, activation="relu2",
                                biased=["q", "k", "v", "o", "up", "down"], final_bias=True),
                     entries=3, slots=3, sliding_window=6, kv_block=2, kv_blocks=12, rotary_dim=4, hidden_size=36,
                     vocab_size=50,
                     tie_word_embeddings=False, head_bias=True),
    "plain_norms": dict(block=dict(norms="post", qk_norm=dict(span="projection", after_rotary=True),
                                   biased=["gate", "down"]),
                        entries=2, halves=2,
                        num_key_value_heads=2, num_attention_heads=4, residual_fraction=22),
}


def checked(design, tmp_path, *, stall=0.0, seed=1):
    """A link to the design's C++ model, compared with golden in each pass."""
    quantized = random_model(design, seed)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(pack(quantized, design).tobytes())
    model = build_model(emit_design(Decoder(design), "decoder"), "decoder", design, opt="-O0")
    return CheckedLink(VerilatedLink(design, model, weights=weights, stall=stall, seed=seed),
                       GoldenLink(design, quantized),
                       values_only=stall > 0)
