"""Llama, and families whose differences from it are folded into tensors, tables and factors."""
from .family import ATTENTION, MLP, PLAIN, Family
from .tensors import centred, factors, fused, interleaved, no_gains

__all__ = ["FOLDED"]

LLAMA = Family(
    model_type="llama", architecture="LlamaForCausalLM", other_names=("LLaMAForCausalLM",), biases=(ATTENTION, MLP),
    defaults=PLAIN | {"attention_bias": False, "mlp_bias": False})

# Three that transformers runs with Llama's classes.

INTERNLM3 = Family(
    model_type="internlm3", architecture="InternLM3ForCausalLM", other_names=("LlamaForCausalLM",),
    biases=(ATTENTION, MLP), aliases={"qkv_bias": "attention_bias", "bias": "mlp_bias"},
    defaults=PLAIN | {"max_position_embeddings": 32768, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "head_dim": 128,
                      "attention_bias": False, "mlp_bias": False})

IQUESTCODER = Family(
    model_type="iquestcoder", architecture="IQuestCoderForCausalLM", other_names=("LlamaForCausalLM",),
    biases=(ATTENTION, MLP),
    defaults=PLAIN | {"max_position_embeddings": 131072, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
                      "head_dim": 128, "attention_bias": False, "mlp_bias": False},
    neutral={"clip_qkv": ((None,), "this hardware does not clip queries, keys and values")})

EXAONE = Family(
    model_type="exaone", architecture="ExaoneForCausalLM", other_names=("LlamaForCausalLM",), biases=(ATTENTION, MLP),
    aliases={"num_layers": "num_hidden_layers", "layer_norm_epsilon": "rms_norm_eps",
             "activation_function": "hidden_act"},
    names=(("model.embed_tokens", "transformer.wte"), ("model.layers.", "transformer.h."),
           ("model.norm", "transformer.ln_f"), ("self_attn.o_proj", "self_attn.out_proj"),
           ("self_attn", "attn.attention"), ("input_layernorm", "ln_1"),
           ("post_attention_layernorm", "ln_2"), ("mlp.gate_proj", "mlp.c_fc_0"), ("mlp.up_proj", "mlp.c_fc_1"),
           ("mlp.down_proj", "mlp.c_proj")),
    defaults=PLAIN | {"max_position_embeddings": 4096, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
                      "rope_theta": 500000.0, "eos_token_id": 361, "attention_bias": False, "mlp_bias": False})

MISTRAL = Family(
    model_type="mistral", architecture="MistralForCausalLM", features="window",
    defaults=PLAIN | {"max_position_embeddings": 4096 * 32, "num_key_value_heads": 8, "sliding_window": 4096})


PHI3 = Family(
    model_type="phi3", architecture="Phi3ForCausalLM", features="fused matrices, partial RoPE, longrope, window",
    defaults=PLAIN | {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
                      "sliding_window": None, "eos_token_id": 32000, "partial_rotary_factor": 1.0},
    rope_types={"": ("default", "longrope"), "su": "longrope", "yarn": "longrope"},
    folds=(fused("self_attn.qkv_proj", "q", "k", "v"), fused("mlp.gate_up_proj", "gate", "up")))


ERNIE = Family(
    model_type="ernie4_5", architecture="Ernie4_5ForCausalLM", features="interleaved RoPE",
    biases=(("use_bias", "q k v o gate up down"),),
    defaults=PLAIN | {"max_position_embeddings": 131072, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
                      "head_dim": 128, "rope_theta": 500000.0, "tie_word_embeddings": True, "use_bias": False},
    folds=(interleaved,))

HELIUM = Family(
    model_type="helium", architecture="HeliumForCausalLM", features="interleaved RoPE",
    biases=(("attention_bias", "q k v"), MLP),
    defaults=PLAIN | {"max_position_embeddings": 4096, "num_key_value_heads": 20, "rms_norm_eps": 1e-8, "head_dim": 128,
                      "rope_theta": 100000.0, "attention_bias": False, "mlp_bias": False},
    folds=(interleaved,))


GRANITE = Family(
    model_type="granite", architecture="GraniteForCausalLM", features="multipliers",
    defaults=PLAIN | {"embedding_multiplier": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 1.0,
                      "logits_scaling": 1.0, "attention_bias": False, "mlp_bias": False},
    biases=(ATTENTION, MLP),
    fields=lambda given: {"score_scale": given("attention_multiplier")}, folds=(factors(
        embedding=lambda given: given("embedding_multiplier", low=1e-9),
        residual=lambda given: given("residual_multiplier"),
        logits=lambda given: 1 / given("logits_scaling", low=1e-9)),))


OLMO = Family(
    model_type="olmo", architecture="OlmoForCausalLM", features="LayerNorm without gain", biases=(ATTENTION,),
    defaults=PLAIN | {"bos_token_id": None, "eos_token_id": 50279, "attention_bias": False},
    epsilon=1e-5, folds=(no_gains, centred),
    neutral={"clip_qkv": ((None,), "this hardware does not clip queries, keys and values")})

FOLDED = (LLAMA, INTERNLM3, IQUESTCODER, EXAONE, MISTRAL, PHI3, ERNIE, HELIUM, GRANITE, OLMO)
