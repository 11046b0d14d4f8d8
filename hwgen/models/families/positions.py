"""Families with a table of positions, most of them learned, and without RoPE."""
from dataclasses import replace

import numpy as np

from .family import Family
from .layers import embedding_scale
from .parallel import inner
from .rope import Rope
from .tensors import POSITIONS as TABLE
from .tensors import Recipe, by_kv_head, centred, factors, fused, no_final_bias, no_gains, norm_biases

__all__ = ["POSITIONS"]


def _no_rope(given, head_dim, context):
    given.about.notes["positions"] = f"a table of {context}"
    return {None: Rope(10000.0)}, 0


def _fields(given):
    """Scores are not scaled where ``scale_attn_weights`` is false."""
    scale = {} if given("scale_attn_weights", bool) else {"score_scale": 1.0}
    return inner("n_inner")(given) | {"learned_positions": True} | scale


GPT2 = Family(
    model_type="gpt2", architecture="GPT2LMHeadModel",
    features="learned positions, LayerNorm with bias, no gate, GELU, biases, fused transposed matrices",
    biases=((None, "q k v o up down"),), norm_biases=True, untied=True, transposed=True, block={"gated": False},
    fields=_fields,
    options={"hidden_act": "activation_function", "rms_norm_eps": "layer_norm_epsilon", "intermediate_size": "n_inner"},
    aliases={"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers",
             "n_positions": "max_position_embeddings"},
    prefix="transformer.",
    names=(("model.layers.", "transformer.h."), ("model.embed_tokens", "transformer.wte"),
           ("model.embed_positions", "transformer.wpe"), ("model.norm", "transformer.ln_f"),
           ("input_layernorm", "ln_1"), ("post_attention_layernorm", "ln_2"),
           ("self_attn.o_proj", "attn.c_proj"), ("mlp.up_proj", "mlp.c_fc"), ("mlp.down_proj", "mlp.c_proj")),
    folds=(fused("attn.c_attn", "q", "k", "v"), norm_biases, centred), leftover=(".attn.bias", ".attn.masked_bias"),
    ropes=_no_rope,
    ignored=("attn_pdrop", "n_ctx", "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
             "summary_first_dropout"),
    defaults={"max_position_embeddings": 1024, "n_inner": None, "activation_function": "gelu_new",
              "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "bos_token_id": 50256, "eos_token_id": 50256,
              "scale_attn_weights": True},
    neutral={"scale_attn_by_inverse_layer_idx": ((False,), "this hardware scales the scores of all layers alike"),
             "reorder_and_upcast_attn": ((False,), "this hardware has no attention of another precision"),
             "add_cross_attention": ((False,), "this hardware has no cross-attention")})

GPT_BIGCODE = replace(
    GPT2, model_type="gpt_bigcode", architecture="GPTBigCodeForCausalLM", transposed=False,
    features="learned positions, LayerNorm with bias, no gate, GELU, biases, fused matrices, one KV head",
    fields=lambda given: _fields(given) | ({"num_key_value_heads": 1} if given("multi_query", bool) else {}),
    folds=(fused("attn.c_attn", "q", "k", "v", order=by_kv_head), norm_biases, centred),
    # the number of KV heads is that which multi_query says, whatever the option is; precisions change no meaning
    ignored=(*GPT2.ignored, "num_key_value_heads", "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32",
             "inference_runner", "max_batch_size", "pad_key_length", "pre_allocate_kv_cache", "validate_runner_input"),
    defaults=GPT2.defaults | {"activation_function": "gelu_pytorch_tanh", "multi_query": True},
    neutral={"add_cross_attention": GPT2.neutral["add_cross_attention"]})


def _neo_layers(given, ropes, window):
    """Global and local attention as ``attention_types`` repeats them: [[kinds, times], ...]."""
    repeated = given.options.take("attention_types", list, None, of=list) or [[["global", "local"], 12]]
    for item in repeated:
        if not (len(item) == 2 and isinstance(item[0], list) and all(kind in ("global", "local") for kind in item[0])
                and type(item[1]) is int and item[1] > 0):
            raise ValueError("Option attention_types must be pairs of a list of global and local and of a number, "
                             f"not {item!r}")
    if sum(len(item[0]) * item[1] for item in repeated) != given.layers:
        raise ValueError(f"Option attention_types must be of {given.layers} layers, not "
                         f"{sum(len(item[0]) * item[1] for item in repeated)}")
    kinds = [{"global": "full_attention", "local": "sliding_attention"}[kind] for kinds, times in repeated
             for kind in kinds * times]
    return given.spread(kinds, ropes, given("window_size", int, low=1))


GPT_NEO = Family(
    model_type="gpt_neo", architecture="GPTNeoForCausalLM",
    features="learned positions, window in every other layer, LayerNorm with bias, no gate, GELU, biases, "
             "scores not scaled",
    biases=((None, "o up down"),), norm_biases=True, untied=True, block={"gated": False}, layers=_neo_layers,
    ropes=_no_rope,
    fields=lambda given: inner("intermediate_size")(given) | {"learned_positions": True, "score_scale": 1.0},
    options={"hidden_act": "activation_function", "rms_norm_eps": "layer_norm_epsilon",
             "sliding_window": "window_size"},
    aliases={"num_heads": "num_attention_heads", "num_layers": "num_hidden_layers"}, prefix="transformer.",
    names=(*GPT2.names[:6], ("self_attn.o_proj", "attn.attention.out_proj"), ("self_attn.", "attn.attention."),
           ("mlp.up_proj", "mlp.c_fc"), ("mlp.down_proj", "mlp.c_proj")),
    folds=(norm_biases, centred), leftover=(".attn.attention.bias", ".attn.attention.masked_bias"),
    ignored=("attention_layers", "resid_dropout", "embed_dropout", "classifier_dropout"),
    defaults={"max_position_embeddings": 2048, "intermediate_size": None, "activation_function": "gelu_new",
              "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "bos_token_id": 50256, "eos_token_id": 50256,
              "attention_types": None, "window_size": 256})


def _from_two(plan, given):
    """The first two rows of the table are of no position."""
    rows, width = plan.sizes[TABLE]
    plan.recipes[TABLE] = plan.stored(TABLE, (rows + 2, width)).then(lambda w: w[2:])


def _affine(plan, given):
    """Norms may have neither gains nor biases."""
    if given("layer_norm_elementwise_affine", bool):
        return norm_biases(plan, given)
    no_gains(plan, given)
    return no_final_bias(plan, given)


def _opt_fields(given):
    size = given.optional("word_embed_proj_dim", low=1)
    if size not in (None, given("hidden_size", int)):
        raise ValueError(f"Option word_embed_proj_dim must be the hidden size {given('hidden_size', int)}, not {size}: "
                         "this hardware has no projection of embeddings")
    return {"learned_positions": True}


#: Names of Fairseq's layers.
_FAIRSEQ = (("input_layernorm", "self_attn_layer_norm"), ("post_attention_layernorm", "final_layer_norm"),
            ("self_attn.o_proj", "self_attn.out_proj"), ("mlp.up_proj", "fc1"), ("mlp.down_proj", "fc2"))

OPT = Family(
    model_type="opt", architecture="OPTForCausalLM",
    features="learned positions, LayerNorm with bias, no gate, ReLU, biases",
    biases=(("enable_bias", "q k v o up down"),), epsilon=1e-5, norm_biases=True, untied=True, block={"gated": False},
    fields=_opt_fields, options={"hidden_act": "activation_function", "intermediate_size": "ffn_dim"},
    ropes=_no_rope, prefix="model.",
    names=(("model.layers.", "model.decoder.layers."), ("model.embed_", "model.decoder.embed_"),
           ("model.norm", "model.decoder.final_layer_norm"), *_FAIRSEQ),
    folds=(_from_two, _affine, centred), ignored=("dropout", "init_std", "layerdrop"),
    defaults={"max_position_embeddings": 2048, "activation_function": "relu", "word_embed_proj_dim": None,
              "enable_bias": True, "layer_norm_elementwise_affine": True, "tie_word_embeddings": True,
              "bos_token_id": 2, "eos_token_id": 2},
    neutral={"do_layer_norm_before": ((True,), "this hardware has no norm that replaces the residual"),
             "_remove_final_layer_norm": ((False,), "this hardware has a final norm")})


def _sinusoids(plan, first, steps, rows_of_zeros=()):
    """The table is of sines, then cosines, of positions from ``first`` on; frequencies would be 1 / 10000 after
    ``steps``."""
    rows, width = plan.sizes[TABLE]
    frequencies = (10000.0 ** (-np.arange((width + 1) // 2) / steps)).astype(np.float32)
    angles = np.arange(rows + first, dtype=np.float32)[:, None] * frequencies
    table = np.concatenate([np.sin(angles), np.cos(angles[:, :width // 2])], axis=1)
    table[[row for row in rows_of_zeros if row < len(table)]] = 0
    plan.recipes[TABLE] = Recipe({}, lambda read: table[first:])
    return "positions from sines"


def _xglm_positions(plan, given):
    """Those of Fairseq: that of ``pad_token_id`` is 0."""
    width, pad = plan.shape.hidden_size, given.optional("pad_token_id")
    if width < 4 or width % 2:
        raise ValueError(f"Hidden size must be even and at least 4 in an xglm model, not {width}")
    return _sinusoids(plan, 2, width // 2 - 1, [] if pad is None else [pad])


def _scale(given):
    """Of the embeddings."""
    return embedding_scale(given) if given("scale_embedding", bool) else 1.0


XGLM = Family(
    model_type="xglm", architecture="XGLMForCausalLM",
    features="sinusoidal positions, scaled embedding, LayerNorm with bias, no gate, GELU, biases",
    biases=((None, "q k v o up down"),), epsilon=1e-5, norm_biases=True, untied=True, block={"gated": False},
    fields=lambda given: {"learned_positions": True}, options=OPT.options, ropes=_no_rope,
    aliases={"attention_heads": "num_attention_heads", "d_model": "hidden_size", "num_layers": "num_hidden_layers"},
    names=(("model.norm", "model.layer_norm"), *_FAIRSEQ), leftover=("embed_positions.weights",),
    folds=(_xglm_positions, factors(embedding=_scale), norm_biases, centred),
    ignored=("dropout", "activation_dropout", "init_std", "layerdrop", "decoder_start_token_id"),
    defaults={"max_position_embeddings": 2048, "activation_function": "gelu", "scale_embedding": True,
              "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    neutral={"add_cross_attention": GPT2.neutral["add_cross_attention"]})

BIOGPT = Family(
    model_type="biogpt", architecture="BioGptForCausalLM",
    features="learned positions, scaled embedding, LayerNorm with bias, no gate, GELU, biases",
    biases=XGLM.biases, epsilon=1e-5, norm_biases=True, untied=True, block={"gated": False}, fields=XGLM.fields,
    ropes=_no_rope, prefix="biogpt.",
    names=(("model.layers.", "biogpt.layers."), ("model.embed_", "biogpt.embed_"), ("model.norm", "biogpt.layer_norm"),
                             ("lm_head", "output_projection"), *_FAIRSEQ),
    folds=(_from_two, factors(embedding=_scale), norm_biases, centred),
    # the class leaves layer_norm_eps out
    ignored=("layer_norm_eps", "hidden_dropout_prob", "attention_probs_dropout_prob", "activation_dropout",
             "layerdrop"),
    defaults={"max_position_embeddings": 1024, "hidden_act": "gelu", "scale_embedding": True,
              "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 2})

CTRL = Family(
    model_type="ctrl", architecture="CTRLLMHeadModel",
    features="sinusoidal positions, scaled embedding, LayerNorm with bias, no gate, ReLU, biases, that of the head too",
    biases=XGLM.biases, epsilon=1e-6, norm_biases=True, head_bias=True, untied=True,
    block={"gated": False, "activation": "relu"}, fields=XGLM.fields, ropes=_no_rope,
    options={"intermediate_size": "dff"},
    aliases={"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers",
             "n_positions": "max_position_embeddings"},
    prefix="transformer.",
    names=(("model.layers.", "transformer.h."), ("model.embed_tokens", "transformer.w"),
           ("model.norm", "transformer.layernorm"), ("input_layernorm", "layernorm1"),
           ("post_attention_layernorm", "layernorm2"), ("self_attn.q_proj", "multi_head_attention.Wq"),
           ("self_attn.k_proj", "multi_head_attention.Wk"), ("self_attn.v_proj", "multi_head_attention.Wv"),
           ("self_attn.o_proj", "multi_head_attention.dense"), ("mlp.up_proj", "ffn.0"), ("mlp.down_proj", "ffn.2")),
    folds=(lambda plan, given: _sinusoids(plan, 0, plan.shape.hidden_size / 2), factors(embedding=embedding_scale),
           norm_biases, centred),
    defaults={"max_position_embeddings": 256, "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None},
    neutral={"layer_norm_epsilon": ((1e-6,), "the layers' is 1e-06, and this hardware has one for all norms")})

POSITIONS = (GPT2, GPT_BIGCODE, GPT_NEO, OPT, XGLM, BIOGPT, CTRL)
