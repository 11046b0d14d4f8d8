"""Families with norms of queries and keys, or of what attention and MLP add."""
from ...params.block import QkNorm
from .biases import GLM, qwen_layers
from .family import ATTENTION, MLP, PLAIN, Family
from .rope import Rope
from .tensors import factors, fused, interleaved

__all__ = ["NORMS", "POST_NORMS"]

QWEN3 = Family(
    model_type="qwen3", architecture="Qwen3ForCausalLM", features="norm of q and k per head; window in the last layers",
    biases=(ATTENTION,), block={"qk_norm": QkNorm("head")}, layers=qwen_layers,
    defaults=PLAIN | {"max_position_embeddings": 32768, "num_key_value_heads": 32, "head_dim": 128, "bos_token_id": None,
                      "eos_token_id": None, "attention_bias": False, "use_sliding_window": False, "sliding_window": 4096,
                      "max_window_layers": 28})

#: Norms of what attention and MLP add are called so in most families that have them.
POST_NORMS = (("post_self_attn_layernorm", "post_attention_layernorm"), ("post_mlp_layernorm", "post_feedforward_layernorm"))

OLMO2 = Family(
    model_type="olmo2", architecture="Olmo2ForCausalLM", features="norm of q and k over the projection, post norms", biases=(ATTENTION,),
    block={"qk_norm": QkNorm("projection"), "norms": "post"}, names=POST_NORMS,
    defaults=PLAIN | {"rms_norm_eps": 1e-5, "bos_token_id": None, "eos_token_id": 50279, "attention_bias": False})


def _ntk_alpha(rope, theta, size, context, original):
    """Hunyuan calls it dynamic, but ``alpha`` stretches theta at any length of a text."""
    alpha, factor = rope.take("alpha", float, 0.0, low=0.0, high=1e9), rope.take("factor", float, 1.0)
    if not alpha:
        return Rope(theta), f"dynamic, factor {factor:g}, which changes nothing within {context} positions"
    if size <= 2:
        raise ValueError(f"Head dimension must be above 2 with RoPE's alpha, not {size}")
    return Rope(theta * alpha ** (size / (size - 2))), f"theta times {alpha:g}^({size}/{size - 2})"


HUNYUAN = Family(
    model_type="hunyuan_v1_dense", architecture="HunYuanDenseV1ForCausalLM", features="norm of q and k per head, after RoPE",
    biases=(ATTENTION,), block={"qk_norm": QkNorm("head", after_rotary=True)}, ignored=("eod_token_id",),
    rope_makers={"dynamic": _ntk_alpha},
    names=(("self_attn.q_norm", "self_attn.query_layernorm"), ("self_attn.k_norm", "self_attn.key_layernorm")),
    defaults=PLAIN | {"rms_norm_eps": 1e-5, "attention_bias": False})

GLM4 = Family(
    model_type="glm4", architecture="Glm4ForCausalLM",
    features="sandwich norms, biases of q, k, v; fused gate and up; partial interleaved RoPE",
    biases=(("attention_bias", "q k v"),), block={"norms": "sandwich"}, folds=(fused("mlp.gate_up_proj", "gate", "up"), interleaved),
    defaults=GLM.defaults)

HYPERCLOVAX = Family(
    model_type="hyperclovax", architecture="HyperCLOVAXForCausalLM", features="sandwich norms, multipliers", biases=(ATTENTION, MLP),
    block=lambda given: {"norms": "sandwich" if given("use_post_norm", bool) else "pre"},
    names=(("post_self_attn_layernorm", "post_norm1"), ("post_mlp_layernorm", "post_norm2")),
    fields=lambda given: {"score_scale": given.optional("attention_multiplier", float)},
    folds=(factors(embedding=lambda given: given("embedding_multiplier", low=1e-9), residual=lambda given: given("residual_multiplier"),
                   logits=lambda given: given("logits_scaling")),),
    defaults=PLAIN | {"attention_bias": False, "mlp_bias": False, "embedding_multiplier": 1.0, "residual_multiplier": 1.0,
                      "attention_multiplier": None, "logits_scaling": 1.0, "use_post_norm": True})

NORMS = (QWEN3, OLMO2, HUNYUAN, GLM4, HYPERCLOVAX)
