"""Families with learned positions, without RoPE."""
from dataclasses import replace

from .family import Family
from .parallel import inner
from .rope import Rope
from .tensors import by_kv_head, centred, fused, norm_biases

__all__ = ["POSITIONS"]


def _no_rope(given, head_dim, context):
    given.about.notes["positions"] = f"learned, {context} of them"
    return {None: Rope(10000.0)}, 0


def _fields(given):
    """Scores are not scaled where ``scale_attn_weights`` is false."""
    scale = {} if given("scale_attn_weights", bool) else {"score_scale": 1.0}
    return inner("n_inner")(given) | {"learned_positions": True} | scale


GPT2 = Family(
    model_type="gpt2", architecture="GPT2LMHeadModel",
    features="learned positions, LayerNorm with bias, no gate, GELU, biases, fused transposed matrices",
    biases=((None, "q k v o up down"),), norm_biases=True, untied=True, transposed=True, block={"gated": False}, fields=_fields,
    options={"hidden_act": "activation_function", "rms_norm_eps": "layer_norm_epsilon", "intermediate_size": "n_inner"},
    aliases={"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers",
             "n_positions": "max_position_embeddings"},
    prefix="transformer.",
    names=(("model.layers.", "transformer.h."), ("model.embed_tokens", "transformer.wte"), ("model.embed_positions", "transformer.wpe"),
           ("model.norm", "transformer.ln_f"), ("input_layernorm", "ln_1"), ("post_attention_layernorm", "ln_2"),
           ("self_attn.o_proj", "attn.c_proj"), ("mlp.up_proj", "mlp.c_fc"), ("mlp.down_proj", "mlp.c_proj")),
    folds=(fused("attn.c_attn", "q", "k", "v"), norm_biases, centred), leftover=(".attn.bias", ".attn.masked_bias"), ropes=_no_rope,
    ignored=("attn_pdrop", "n_ctx", "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
             "summary_first_dropout"),
    defaults={"max_position_embeddings": 1024, "n_inner": None, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
              "tie_word_embeddings": True, "bos_token_id": 50256, "eos_token_id": 50256, "scale_attn_weights": True},
    neutral={"scale_attn_by_inverse_layer_idx": ((False,), "this hardware scales the scores of all layers alike"),
             "reorder_and_upcast_attn": ((False,), "this hardware has no attention of another precision"),
             "add_cross_attention": ((False,), "this hardware has no cross-attention")})

GPT_BIGCODE = replace(
    GPT2, model_type="gpt_bigcode", architecture="GPTBigCodeForCausalLM", transposed=False,
    features="learned positions, LayerNorm with bias, no gate, GELU, biases, fused matrices, one KV head",
    fields=lambda given: _fields(given) | ({"num_key_value_heads": 1} if given("multi_query", bool) else {}),
    folds=(fused("attn.c_attn", "q", "k", "v", order=by_kv_head), norm_biases, centred),
    # the number of KV heads is that which multi_query says, whatever the option is; precisions change no meaning
    ignored=(*GPT2.ignored, "num_key_value_heads", "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "inference_runner",
             "max_batch_size", "pad_key_length", "pre_allocate_kv_cache", "validate_runner_input"),
    defaults=GPT2.defaults | {"activation_function": "gelu_pytorch_tanh", "multi_query": True},
    neutral={"add_cross_attention": GPT2.neutral["add_cross_attention"]})

POSITIONS = (GPT2, GPT_BIGCODE)
