"""Families whose attention and MLP read the same residual."""
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .biases import NO_HEAD_DIM
from .family import ATTENTION, PLAIN, Family, Given
from .rope import Rope
from .tensors import by_kv_head, centred, factors, fused, interleaved, norm_biases, two_norms

__all__ = ["PARALLEL", "inner"]


def _cohere(**more):
    return Family(
        biases=(ATTENTION,), options={"rms_norm_eps": "layer_norm_eps"}, untied=True, block={"parallel": True},
        folds=(centred, interleaved, factors(logits=lambda given: given("logit_scale"))), **more)


COHERE_DEFAULTS = PLAIN | {"max_position_embeddings": 8192, "layer_norm_eps": 1e-5, "bos_token_id": 5,
                           "eos_token_id": 255001, "tie_word_embeddings": True, "attention_bias": False,
                           "logit_scale": 0.0625}

COHERE = _cohere(
    model_type="cohere", architecture="CohereForCausalLM",
    features="parallel block, LayerNorm, interleaved RoPE, scaled logits",
    defaults=COHERE_DEFAULTS | {"rope_theta": 500000.0},
    neutral={"use_qk_norm": ((False,), "this hardware has no LayerNorm of queries and keys")})


def _cohere2(given, ropes, window):
    """Layers without a window have no RoPE."""
    every = given("sliding_window_pattern", int, low=1)
    kinds = given.kinds(lambda i: (i + 1) % every != 0)
    return given.spread(kinds, ropes, window, [kind == "sliding_attention" for kind in kinds])


COHERE2 = _cohere(
    model_type="cohere2", architecture="Cohere2ForCausalLM", layers=_cohere2,
    features="parallel block, LayerNorm, interleaved RoPE, scaled logits, window in some layers, no RoPE in the others",
    defaults=COHERE_DEFAULTS | {"sliding_window": 4096, "sliding_window_pattern": 4})


def _neox_norms(plan, given):
    parallel = given("use_parallel_residual", bool)
    return (two_norms("input_layernorm.weight", "post_attention_layernorm.weight") if parallel
            else norm_biases)(plan, given)


NO_KV_HEADS = {key: value for key, value in NO_HEAD_DIM.items() if key != "num_key_value_heads"}

GPT_NEOX = Family(
    model_type="gpt_neox", architecture="GPTNeoXForCausalLM",
    features="parallel block with two norms, LayerNorm with bias, no gate, GELU, biases, fused matrices, partial RoPE",
    biases=(("attention_bias", "q k v o"), (None, "up down")), options={"rms_norm_eps": "layer_norm_eps"},
    norm_biases=True, untied=True,
    block=lambda given: {"gated": False, "parallel": given("use_parallel_residual", bool)},
    names=(("model.layers.", "gpt_neox.layers."), ("model.embed_tokens", "gpt_neox.embed_in"),
           ("model.norm", "gpt_neox.final_layer_norm"), ("lm_head", "embed_out"),
           ("self_attn.o_proj", "attention.dense"), ("mlp.up_proj", "mlp.dense_h_to_4h"),
           ("mlp.down_proj", "mlp.dense_4h_to_h")),
    folds=(fused("attention.query_key_value", "q", "k", "v", order=by_kv_head), _neox_norms, centred),
    leftover=("attention.bias", "attention.masked_bias"), theta_name="rotary_emb_base", partial_name="rotary_pct",
    defaults=NO_KV_HEADS | {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "bos_token_id": 0, "rotary_pct": 0.25,
                            "use_parallel_residual": True, "attention_bias": True})

PHI = Family(
    model_type="phi", architecture="PhiForCausalLM",
    features="parallel block, LayerNorm with bias, no gate, GELU, biases, that of the head too, partial RoPE",
    biases=((None, "q k v o up down"),), options={"rms_norm_eps": "layer_norm_eps"}, norm_biases=True, head_bias=True,
    untied=True, block={"gated": False, "parallel": True}, folds=(norm_biases, centred),
    names=(("model.norm", "model.final_layernorm"), ("self_attn.o_proj", "self_attn.dense"), ("mlp.up_proj", "mlp.fc1"),
           ("mlp.down_proj", "mlp.fc2")),
    defaults=PLAIN | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5},
    neutral={"qk_layernorm": ((False,), "this hardware has no LayerNorm of queries and keys")})


def inner(option: str) -> Callable[[Given], dict[str, int]]:
    """The intermediate size, four times the hidden size where ``option`` does not say."""
    return lambda given: {"intermediate_size": given.optional(option, low=1) or 4 * given("hidden_size", int)}


def _gptj_rope(given, head_dim, context):
    turned = given.optional("rotary_dim", low=2)
    if turned is None:
        raise ValueError("Option rotary_dim must be a number of elements, not None")
    return {None: Rope(10000.0)}, turned


GPTJ = Family(
    model_type="gptj", architecture="GPTJForCausalLM",
    features="parallel block, LayerNorm with bias, no gate, GELU, bias of the head, partial interleaved RoPE",
    biases=((None, "up down"),), norm_biases=True, head_bias=True, untied=True,
    block={"gated": False, "parallel": True}, fields=inner("n_inner"),
    options={"hidden_act": "activation_function", "rms_norm_eps": "layer_norm_epsilon", "intermediate_size": "n_inner"},
    aliases={"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers",
             "n_positions": "max_position_embeddings"},
    names=(("model.layers.", "transformer.h."), ("model.embed_tokens", "transformer.wte"),
           ("model.norm", "transformer.ln_f"), ("input_layernorm", "ln_1"), ("self_attn.o_proj", "attn.out_proj"),
           ("self_attn.", "attn."), ("mlp.up_proj", "mlp.fc_in"),
           ("mlp.down_proj", "mlp.fc_out")),
    folds=(norm_biases, centred, interleaved), leftover=("attn.bias", "attn.masked_bias"), ignored=("attn_pdrop",),
    ropes=_gptj_rope,
    defaults={"max_position_embeddings": 2048, "n_inner": None, "activation_function": "gelu_new",
              "layer_norm_epsilon": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False, "bos_token_id": 50256,
              "eos_token_id": 50256, "rotary_dim": 64})


def _four_shards(shape, names):
    """A quarter of the queries, of the values and of the keys, and so on: CodeGen was trained on four machines."""
    if shape.hidden_size % 4:
        raise ValueError(f"Hidden size must be a multiple of 4 in a codegen model, not {shape.hidden_size}")
    rows = dict(zip("qvk", np.arange(3 * shape.hidden_size).reshape(4, 3, -1).swapaxes(0, 1).reshape(3, -1),
                    strict=True))
    return [rows[name] for name in names]


CODEGEN = replace(
    GPTJ, model_type="codegen", architecture="CodeGenForCausalLM", features=f"{GPTJ.features}, fused matrices",
    folds=(fused("attn.qkv_proj", "q", "k", "v", order=_four_shards), *GPTJ.folds), leftover=("attn.causal_mask",),
    ignored=(*GPTJ.ignored, "n_ctx"))


def _falcon_heads(given):
    """KV heads: of its own number in the newer architecture; else one, or as many as heads."""
    if given("new_decoder_architecture", bool):
        return given.optional("num_kv_heads", low=1) or given("num_attention_heads", int)
    return 1 if given("multi_query", bool) else given("num_attention_heads", int)


def _falcon_norms(given):
    """Norms of a layer: "one" or "two" of a parallel block, or "sequential"."""
    new, parallel, count = given("new_decoder_architecture",
                                 bool), given("parallel_attn", bool), given.optional("num_ln_in_parallel_attn")
    if count not in (None, 1, 2) or new and not parallel or count == 2 and not new:
        raise ValueError("Option num_ln_in_parallel_attn must be 1 or 2 with new_decoder_architecture and "
                         f"parallel_attn, or not be there, not {count}")
    return "two" if new and count != 1 else "one" if parallel else "sequential"


def _falcon_norm_biases(plan, given):
    return (two_norms("ln_attn.weight", "ln_mlp.weight") if _falcon_norms(given) == "two" else norm_biases)(plan, given)


FALCON = Family(
    model_type="falcon", architecture="FalconForCausalLM",
    features="parallel block, LayerNorm with bias, no gate, GELU, fused matrices",
    biases=(("bias", "q k v o up down"),), norm_biases=True, untied=True,
    options={"hidden_act": "activation", "rms_norm_eps": "layer_norm_epsilon", "intermediate_size": "ffn_hidden_size"},
    block=lambda given: {"gated": False, "parallel": _falcon_norms(given) != "sequential"},
    fields=lambda given: inner("ffn_hidden_size")(given) | {"num_key_value_heads": _falcon_heads(given)},
    names=(("model.layers.", "transformer.h."), ("model.embed_tokens", "transformer.word_embeddings"),
           ("model.norm", "transformer.ln_f"), ("self_attn.o_proj", "self_attention.dense"),
           ("mlp.up_proj", "mlp.dense_h_to_4h"), ("mlp.down_proj", "mlp.dense_4h_to_h")),
    folds=(fused("self_attention.query_key_value", "q", "k", "v", order=by_kv_head), _falcon_norm_biases, centred),
    defaults={"max_position_embeddings": 2048, "activation": "gelu", "layer_norm_epsilon": 1e-5, "rope_theta": 10000.0,
              "tie_word_embeddings": True, "bos_token_id": 11, "eos_token_id": 11, "bias": False,
              "ffn_hidden_size": None, "num_kv_heads": None, "multi_query": True, "new_decoder_architecture": False,
              "parallel_attn": True,
              "num_ln_in_parallel_attn": None},
    neutral={"alibi": ((False,), "this hardware has no ALiBi"), "n_embed": ((None,), "hidden_size says it")})

PARALLEL = (COHERE, COHERE2, GPT_NEOX, PHI, GPTJ, CODEGEN, FALCON)
