"""Families with norms of queries and keys, or of what attention and MLP add."""
import numpy as np

from ...params.block import QkNorm
from .biases import GLM, NO_HEAD_DIM, qwen_layers
from .family import ATTENTION, MLP, PLAIN, Family
from .rope import Rope
from .tensors import EMBEDDING, factors, fused, interleaved, no_gains

__all__ = ["NORMS", "POST_NORMS"]

QWEN3 = Family(
    model_type="qwen3", architecture="Qwen3ForCausalLM", features="norm of q and k per head; window in the last layers",
    biases=(ATTENTION,), block={"qk_norm": QkNorm("head")}, layers=qwen_layers,
    defaults=PLAIN | {"max_position_embeddings": 32768, "num_key_value_heads": 32, "head_dim": 128,
                      "bos_token_id": None, "eos_token_id": None, "attention_bias": False, "use_sliding_window": False,
                      "sliding_window": 4096,
                      "max_window_layers": 28})

#: Norms of what attention and MLP add are called so in most families that have them.
POST_NORMS = (("post_self_attn_layernorm", "post_attention_layernorm"),
              ("post_mlp_layernorm", "post_feedforward_layernorm"))

OLMO2 = Family(
    model_type="olmo2", architecture="Olmo2ForCausalLM", features="norm of q and k over the projection, post norms",
    biases=(ATTENTION,), block={"qk_norm": QkNorm("projection"), "norms": "post"}, names=POST_NORMS,
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
    model_type="hunyuan_v1_dense", architecture="HunYuanDenseV1ForCausalLM",
    features="norm of q and k per head, after RoPE", biases=(ATTENTION,),
    block={"qk_norm": QkNorm("head", after_rotary=True)}, ignored=("eod_token_id",),
    rope_makers={"dynamic": _ntk_alpha},
    names=(("self_attn.q_norm", "self_attn.query_layernorm"), ("self_attn.k_norm", "self_attn.key_layernorm")),
    defaults=PLAIN | {"rms_norm_eps": 1e-5, "attention_bias": False})

GLM4 = Family(
    model_type="glm4", architecture="Glm4ForCausalLM",
    features="sandwich norms, biases of q, k, v; fused gate and up; partial interleaved RoPE",
    biases=(("attention_bias", "q k v"),), block={"norms": "sandwich"},
    folds=(fused("mlp.gate_up_proj", "gate", "up"), interleaved), defaults=GLM.defaults)

HYPERCLOVAX = Family(
    model_type="hyperclovax", architecture="HyperCLOVAXForCausalLM", features="sandwich norms, multipliers",
    biases=(ATTENTION, MLP), block=lambda given: {"norms": "sandwich" if given("use_post_norm", bool) else "pre"},
    names=(("post_self_attn_layernorm", "post_norm1"), ("post_mlp_layernorm", "post_norm2")),
    fields=lambda given: {"score_scale": given.optional("attention_multiplier", float)},
    folds=(factors(embedding=lambda given: given("embedding_multiplier", low=1e-9),
                   residual=lambda given: given("residual_multiplier"), logits=lambda given: given("logits_scaling")),),
    defaults=PLAIN | {"attention_bias": False, "mlp_bias": False, "embedding_multiplier": 1.0,
                      "residual_multiplier": 1.0, "attention_multiplier": None, "logits_scaling": 1.0,
                      "use_post_norm": True})


def _normed_embedding(plan, given):
    """A norm of the embedding, which every layer's residual then holds."""
    plan.change(EMBEDDING, to=lambda w: w / np.sqrt(np.square(w).mean(1, keepdims=True) + plan.shape.rms_norm_eps))
    return "norm of the embedding"


def _turned_back(plan, given):
    """RoPE turns the other way: so do the halves of a head that are exchanged."""
    size = plan.shape.head_dim
    plan.change(*plan.both("q", "k"), to=lambda w: np.roll(w.reshape(-1, size, *w.shape[1:]), size // 2,
                                                           axis=1).reshape(w.shape))
    return "halves of the heads of queries and keys exchanged"


NANOCHAT = Family(
    model_type="nanochat", architecture="NanoChatForCausalLM",
    features="norms without gains, of the embedding and of q and k after RoPE too; RoPE turns back; ReLU², no gate, "
             "softcap of logits",
    biases=(ATTENTION,), block={"gated": False, "qk_norm": QkNorm("head", after_rotary=True)}, untied=True,
    names=(("mlp.up_proj", "mlp.fc1"), ("mlp.down_proj", "mlp.fc2")), folds=(no_gains, _normed_embedding, _turned_back),
    fields=lambda given: {"final_logit_softcapping": given.optional("final_logit_softcapping", float)},
    defaults=NO_HEAD_DIM | {"hidden_act": "relu2", "bos_token_id": 0, "eos_token_id": 1, "attention_bias": False,
                            "final_logit_softcapping": 15.0})

NORMS = (QWEN3, OLMO2, HUNYUAN, GLM4, HYPERCLOVAX, NANOCHAT)
