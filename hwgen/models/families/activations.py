"""Families with other activations than SiLU, or without a gate."""
from .family import ATTENTION, PLAIN, Family
from .layers import embedding_scale
from .tensors import centred, factors, norm_biases, plus_one

__all__ = ["ACTIVATIONS"]

GEMMA = Family(
    model_type="gemma", architecture="GemmaForCausalLM", features="GELU, gains less 1, scaled embedding",
    biases=(ATTENTION,),
    # the first files said gelu where the approximation was meant
    block=lambda given: {"activation": "gelu_tanh"} if given.raw("hidden_act") == "gelu" else {},
    folds=(plus_one, factors(embedding=embedding_scale)),
    defaults=PLAIN | {"max_position_embeddings": 8192, "num_key_value_heads": 16, "hidden_act": "gelu_pytorch_tanh",
                      "head_dim": 256, "bos_token_id": 2, "eos_token_id": 1, "tie_word_embeddings": True,
                      "attention_bias": False},
    neutral={"use_bidirectional_attention": ((None, False), "this hardware's attention is causal")})

NEMOTRON = Family(
    model_type="nemotron", architecture="NemotronForCausalLM",
    features="LayerNorm with bias, gains less 1, ReLU², no gate, partial RoPE",
    biases=(ATTENTION, ("mlp_bias", "up down")), options={"rms_norm_eps": "norm_eps"}, norm_biases=True, untied=True,
    block={"gated": False}, folds=(norm_biases, plus_one, centred),
    defaults=PLAIN | {"max_position_embeddings": 4096, "hidden_act": "relu2", "norm_eps": 1e-5, "bos_token_id": 2,
                      "eos_token_id": 3, "partial_rotary_factor": 0.5, "attention_bias": False, "mlp_bias": False})

ARCEE = Family(
    model_type="arcee", architecture="ArceeForCausalLM", features="ReLU², no gate",
    biases=(ATTENTION, ("mlp_bias", "up down")), block={"gated": False},
    defaults=PLAIN | {"max_position_embeddings": 4096, "hidden_act": "relu2", "rms_norm_eps": 1e-5,
                      "bos_token_id": 128000, "eos_token_id": 128001, "attention_bias": False, "mlp_bias": False})

JAIS2 = Family(
    model_type="jais2", architecture="Jais2ForCausalLM", features="LayerNorm with bias, ReLU², no gate, biases",
    biases=(ATTENTION, ("mlp_bias", "up down")), options={"rms_norm_eps": "layer_norm_eps"}, norm_biases=True,
    untied=True, block={"gated": False}, folds=(norm_biases, centred),
    defaults=PLAIN | {"max_position_embeddings": 8192, "hidden_act": "relu2", "layer_norm_eps": 1e-5, "bos_token_id": 0,
                      "eos_token_id": 150024, "attention_bias": True, "mlp_bias": True})

ACTIVATIONS = (GEMMA, NEMOTRON, ARCEE, JAIS2)
