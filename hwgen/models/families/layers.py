"""Families whose layers differ: windows, RoPE of their own, or none."""
from dataclasses import replace

from ...params.block import QkNorm
from .family import ATTENTION, MLP, PLAIN, Family, Given
from .norms import POST_NORMS
from .rope import nested_rope, read_rope
from .tensors import factors, plus_one

__all__ = ["LAYERS", "embedding_scale"]

MINISTRAL = Family(
    model_type="ministral", architecture="MinistralForCausalLM", features="window in some layers",
    layers=lambda given, ropes, window: given.spread(given.kinds(lambda i: window is not None), ropes, window),
    defaults=PLAIN | {"max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096})


CWM = Family(
    model_type="cwm", architecture="CwmForCausalLM", features="window in some layers", biases=(MLP,),
    layers=lambda given, ropes, window: given.spread(given.kinds(lambda i: i % 4 != 0), ropes, window),
    rope_default={"rope_type": "llama3", "rope_theta": 1000000.0, "factor": 16.0, "low_freq_factor": 1.0,
                  "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    defaults=PLAIN | {"max_position_embeddings": 131072, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
                      "rope_theta": 1000000.0, "head_dim": 128, "bos_token_id": 128000,
                      "eos_token_id": (128001, 128008, 128009), "sliding_window": 8192,
                      "mlp_bias": False})


def _smollm3(given, ropes, window):
    """Every fourth layer has no RoPE, or those that ``no_rope_layers`` says with 0; only such layers may have a
    window."""
    window = window if given("use_sliding_window", bool) else None
    every = given("no_rope_layer_interval", int, low=1)
    turned = given.options.take("no_rope_layers", list,
                                [int((i + 1) % every != 0) for i in range(given.layers)], of=int)
    if len(turned) != given.layers:
        raise ValueError(f"Option no_rope_layers must be one for each of {given.layers} layers, not {len(turned)}")
    return given.spread(given.kinds(lambda i: window is not None and not turned[i]), ropes, window, turned)


SMOLLM3 = Family(
    model_type="smollm3", architecture="SmolLM3ForCausalLM", features="layers without RoPE", biases=(ATTENTION, MLP),
    layers=_smollm3,
    defaults=PLAIN | {"max_position_embeddings": 32768, "num_key_value_heads": 4, "rope_theta": 2000000.0,
                      "bos_token_id": 128000, "eos_token_id": 128001, "tie_word_embeddings": True,
                      "attention_bias": False, "mlp_bias": False,
                      "use_sliding_window": False, "sliding_window": None, "no_rope_layer_interval": 4})

OLMO3 = Family(
    model_type="olmo3", architecture="Olmo3ForCausalLM",
    features="norm of q and k over the projection, post norms, window in some layers, two RoPEs",
    biases=(ATTENTION,), block={"qk_norm": QkNorm("projection"), "norms": "post"}, names=POST_NORMS,
    ropes=nested_rope(500000.0),
    layers=lambda given, ropes, window: given.spread(given.kinds(lambda i: (i + 1) % 4 != 0), ropes, window),
    defaults=PLAIN | {"rms_norm_eps": 1e-5, "rope_theta": 500000.0, "bos_token_id": None, "eos_token_id": 50279,
                      "attention_bias": False, "sliding_window": 4096})


def _exaone4(given, ropes, window):
    """Where there is a window, layers without one have no RoPE."""
    if window is None and given.raw("layer_types") is None:
        raise ValueError("Option layer_types must be there where sliding_window is null")
    every = given("sliding_window_pattern", int, low=1) if given.raw("layer_types") is None else 1
    kinds = given.kinds(lambda i: (i + 1) % every != 0)
    return given.spread(kinds, ropes, window, [window is None or kind == "sliding_attention" for kind in kinds])


EXAONE4 = Family(
    model_type="exaone4", architecture="Exaone4ForCausalLM",
    features="norm of q and k per head, post norms, window in some layers, no RoPE in the others",
    block={"qk_norm": QkNorm("head"), "norms": "post"}, names=POST_NORMS, layers=_exaone4,
    defaults=PLAIN | {"num_key_value_heads": 32, "rms_norm_eps": 1e-5, "bos_token_id": 0, "sliding_window": 4096,
                      "sliding_window_pattern": 4})


def embedding_scale(given: Given) -> float:
    """Gemma multiplies embeddings with the square root of the hidden size."""
    return given("hidden_size", int) ** 0.5


def _gemma_fields(given):
    """The scale of scores and the softcaps that the family has; null is none."""
    softcaps = {"attn_logit_softcapping", "final_logit_softcapping"} & set(given.family.defaults)
    return {"score_scale": given("query_pre_attn_scalar",
                                 low=1e-9) ** -0.5} | {name: given.optional(name, float) for name in softcaps}


def _gemma3(given, ropes, window):
    every = given("sliding_window_pattern", int, low=1)
    return given.spread(given.kinds(lambda i: (i + 1) % every != 0), ropes, window)


GEMMA3 = Family(
    model_type="gemma3_text", architecture="Gemma3ForCausalLM", biases=(ATTENTION,),
    features="norm of q and k per head, sandwich norms, window in some layers, two RoPEs, GELU, gains less 1, "
             "scaled embedding",
    options={"hidden_act": "hidden_activation"}, block={"qk_norm": QkNorm("head"), "norms": "sandwich"},
    ropes=nested_rope(10000.0, "rope_local_base_freq"),
    names=(("post_attention_layernorm", "pre_feedforward_layernorm"), *POST_NORMS), layers=_gemma3,
    fields=_gemma_fields,
    folds=(plus_one, factors(embedding=embedding_scale)), ignored=("_sliding_window_pattern",),
    defaults={key: value for key, value in PLAIN.items() if key != "hidden_act"} | {
        "max_position_embeddings": 131072, "num_key_value_heads": 4, "hidden_activation": "gelu_pytorch_tanh",
        "head_dim": 256, "rope_theta": 1000000.0, "bos_token_id": 2, "eos_token_id": 1, "tie_word_embeddings": True,
        "attention_bias": False,
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6,
        "final_logit_softcapping": None},
    neutral={"attn_logit_softcapping": ((None,), "transformers has the option in Gemma 3 and leaves the softcap out"),
             "use_bidirectional_attention": ((False, None), "this hardware's attention is causal")})

GEMMA2 = replace(
    GEMMA3, model_type="gemma2", architecture="Gemma2ForCausalLM",
    features="softcaps of scores and logits, sandwich norms, window in every second layer, GELU, gains less 1, "
             "scaled embedding",
    block={"norms": "sandwich"}, ropes=read_rope, ignored=(),
    layers=lambda given, ropes, window: given.spread(given.kinds(lambda i: i % 2 == 0), ropes, window),
    defaults={key: value for key, value in GEMMA3.defaults.items() if key != "sliding_window_pattern"} | {
        "max_position_embeddings": 8192, "rope_theta": 10000.0, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0},
    neutral={key: value for key, value in GEMMA3.neutral.items() if key != "attn_logit_softcapping"})

VAULTGEMMA = replace(
    GEMMA2, model_type="vaultgemma", architecture="VaultGemmaForCausalLM", block={}, names=GEMMA3.names[:1],
    features="softcaps of scores and logits, window in every second layer, GELU, gains less 1, scaled embedding")

LAYERS = (MINISTRAL, CWM, SMOLLM3, OLMO3, EXAONE4, GEMMA3, GEMMA2, VAULTGEMMA)
