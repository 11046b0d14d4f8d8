"""Families with biases: of projections, and of LayerNorm."""
from ...params.model import LayerType
from .family import MLP, PLAIN, Family, Given
from .rope import Rope
from .tensors import centred, fused, interleaved, norm_biases

__all__ = ["BIASES", "qwen_layers"]


def qwen_layers(given: Given, ropes: dict[str | None, Rope], window: int | None) -> list[tuple[LayerType, Rope]]:
    """A window in the layers from ``max_window_layers`` on, or as ``layer_types`` says, if ``use_sliding_window``."""
    window = window if given("use_sliding_window", bool) else None
    first = given("max_window_layers", int)
    return given.spread(given.kinds(lambda i: window is not None and i >= first), ropes, window)


QWEN2 = Family(
    model_type="qwen2", architecture="Qwen2ForCausalLM", features="biases of q, k, v; window in the last layers",
    biases=((None, "q k v"),),
    defaults=PLAIN | {"max_position_embeddings": 32768, "num_key_value_heads": 32, "bos_token_id": None,
                      "eos_token_id": None, "use_sliding_window": False, "sliding_window": 4096,
                      "max_window_layers": 28},
    layers=qwen_layers)

SEED_OSS = Family(
    model_type="seed_oss", architecture="SeedOssForCausalLM", features="biases of q, k, v",
    biases=(("attention_bias", "q k v"), ("attention_out_bias", "o"), MLP), ignored=("residual_dropout",),
    defaults=PLAIN | {"max_position_embeddings": 524288, "num_key_value_heads": 8, "head_dim": 128, "bos_token_id": 0,
                      "attention_bias": True, "attention_out_bias": False, "mlp_bias": False})

GLM = Family(
    model_type="glm", architecture="GlmForCausalLM",
    features="biases of q, k, v; fused gate and up; partial interleaved RoPE", biases=(("attention_bias", "q k v"),),
    folds=(fused("mlp.gate_up_proj", "gate", "up"), interleaved),
    defaults=PLAIN | {"max_position_embeddings": 131072, "num_key_value_heads": 2, "head_dim": 128,
                      "rms_norm_eps": 1.5625e-07, "bos_token_id": None, "eos_token_id": (151329, 151336, 151338),
                      "partial_rotary_factor": 0.5, "attention_bias": True})

NO_HEAD_DIM = {key: value for key, value in PLAIN.items() if key != "head_dim"}

STABLELM = Family(
    model_type="stablelm", architecture="StableLmForCausalLM",
    features="LayerNorm with bias, partial RoPE, biases of q, k, v", biases=(("use_qkv_bias", "q k v"),),
    options={"rms_norm_eps": "layer_norm_eps"}, norm_biases=True, untied=True,
    block=lambda given: {"parallel": given("use_parallel_residual", bool)}, folds=(norm_biases, centred),
    defaults=NO_HEAD_DIM | {"max_position_embeddings": 4096, "num_key_value_heads": 32, "layer_norm_eps": 1e-5,
                            "bos_token_id": 0, "eos_token_id": 0, "partial_rotary_factor": 0.25, "use_qkv_bias": False,
                            "use_parallel_residual": False},
    neutral={"qk_layernorm": ((False,), "this hardware has no LayerNorm of queries and keys")})

STARCODER2 = Family(
    model_type="starcoder2", architecture="Starcoder2ForCausalLM",
    features="LayerNorm with bias, no gate, GELU, biases, window", biases=(("use_bias", "q k v o up down"),),
    options={"rms_norm_eps": "norm_epsilon"}, norm_biases=True, untied=True,
    block={"gated": False}, names=(("mlp.up_proj", "mlp.c_fc"), ("mlp.down_proj", "mlp.c_proj")),
    folds=(norm_biases, centred), ignored=("residual_dropout", "embedding_dropout"),
    defaults=PLAIN | {"max_position_embeddings": 4096, "num_key_value_heads": 2, "hidden_act": "gelu_pytorch_tanh",
                      "norm_epsilon": 1e-5, "bos_token_id": 50256, "eos_token_id": 50256, "sliding_window": None,
                      "use_bias": True, "tie_word_embeddings": True})

BIASES = (QWEN2, SEED_OSS, GLM, STABLELM, STARCODER2)
