"""Tiny models of each family of transformers, with the logits that transformers has for them.

``CASES`` says what is recorded: ``tools/record_families.py`` lets transformers make a folder of each (its config.json,
and the names and shapes of its tensors), fills in weights that SHAKE-128 gives, and writes the logits to
``tests/families.json.xz``. A test makes the same folder again.
"""
import json
import lzma
from pathlib import Path

import numpy as np

from differential_cases import noise
from model_files import write_safetensors

__all__ = ["CASES", "POSITIONS", "TOKENS", "read_records", "weights", "write_folder", "write_records"]

RECORDS = Path(__file__).with_name("families.json.xz")
TOKENS = [5, 61, 17, 3, 44, 44, 9, 30, 12, 68, 7, 21, 50, 33, 8, 15, 66, 28, 4, 39, 55, 10, 47, 26]
#: Where logits are recorded: within a window of 7, at its end, and beyond.
POSITIONS = (3, 6, 13, 23)

_DIMS = {"vocab_size": 70, "hidden_size": 40, "intermediate_size": 52, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
         "pad_token_id": 0}


def _case(model_type, gain=1.0, **options):
    """``gain``: about which the gains of norms are; ``options``: of the configuration."""
    return {"model_type": model_type, "gain": gain,
            "options": {key: value for key, value in (_DIMS | options).items() if value is not ...}}


_YARN = {"rope_type": "yarn", "rope_theta": 900.0, "factor": 4.0, "original_max_position_embeddings": 48,
         "beta_fast": 2.0}

_FALCON = {"num_key_value_heads": ..., "intermediate_size": ..., "ffn_hidden_size": 52}
_GPTJ = dict.fromkeys(("hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings",
                       "num_key_value_heads",
                       "intermediate_size"), ...) | {"n_embd": 40, "n_head": 4, "n_layer": 2, "n_positions": 64,
                                                     "n_inner": 52,
                                           "rotary_dim": 6}
_GPT2 = {key: value for key, value in _GPTJ.items() if key != "rotary_dim"}
_NEO = dict.fromkeys(("num_key_value_heads", "num_attention_heads", "num_hidden_layers"), ...)
_GPT_NEO = _NEO | {"num_heads": 4, "num_layers": 3, "attention_types": [[["global", "local"], 1], [["local"], 1]],
                   "window_size": 7}
_OPT = {"num_key_value_heads": ..., "intermediate_size": ..., "ffn_dim": 52}
_XGLM = _NEO | _OPT | {"hidden_size": ..., "d_model": 40, "attention_heads": 4, "num_layers": 2, "pad_token_id": 4}

CASES = {
    "llama": _case("llama", rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
    "llama, biases": _case("llama", attention_bias=True, mlp_bias=True, head_dim=12),
    "llama, yarn": _case("llama", rope_parameters=_YARN),
    "internlm3": _case("internlm3", head_dim=12, qkv_bias=True, bias=True),
    "iquestcoder": _case("iquestcoder", head_dim=12),
    "exaone": _case("exaone", attention_bias=True),
    "mistral": _case("mistral", sliding_window=7, head_dim=12),
    "phi3": _case("phi3", rope_parameters={
        "rope_type": "longrope", "rope_theta": 300.0, "partial_rotary_factor": 0.8,
        "short_factor": [1.0, 1.3, 1.9, 2.5],
        "long_factor": [1.5, 2.0, 4.0, 8.0]}, original_max_position_embeddings=32, sliding_window=7),
    "phi3, default RoPE": _case("phi3", num_key_value_heads=4),
    "ernie4_5": _case("ernie4_5", head_dim=12, use_bias=True),
    "helium": _case("helium", head_dim=10, attention_bias=True, mlp_bias=True),
    "granite": _case("granite", embedding_multiplier=7.0, residual_multiplier=0.3, attention_multiplier=0.2,
                     logits_scaling=5.0,
                     attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "granite, untied": _case("granite", embedding_multiplier=7.0, logits_scaling=5.0),
    "olmo": _case("olmo", attention_bias=True, tie_word_embeddings=True),
    "qwen2": _case("qwen2", tie_word_embeddings=True, head_dim=12),
    "qwen2, window": _case("qwen2", num_hidden_layers=3, use_sliding_window=True, sliding_window=7,
                           max_window_layers=1),
    "seed_oss": _case("seed_oss", head_dim=12, attention_out_bias=True, mlp_bias=True),
    "glm": _case("glm", head_dim=12),
    "stablelm": _case("stablelm", use_qkv_bias=True, partial_rotary_factor=0.4),
    "stablelm, parallel": _case("stablelm", use_parallel_residual=True, partial_rotary_factor=0.4),
    "starcoder2": _case("starcoder2", tie_word_embeddings=True, sliding_window=7),
    "qwen3": _case("qwen3", head_dim=12, attention_bias=True),
    "qwen3, yarn": _case("qwen3", head_dim=12, rope_parameters=_YARN),
    "olmo2": _case("olmo2", attention_bias=True),
    "hunyuan_v1_dense": _case("hunyuan_v1_dense", head_dim=12, attention_bias=True, rope_parameters={
        "rope_type": "dynamic", "rope_theta": 300.0, "alpha": 7.0, "factor": 1.0}),
    "glm4": _case("glm4", head_dim=12),
    "hyperclovax": _case("hyperclovax", embedding_multiplier=7.0, residual_multiplier=0.3, attention_multiplier=0.2,
                         logits_scaling=0.5,
                         tie_word_embeddings=True, mlp_bias=True),
    "hyperclovax, no post norm": _case("hyperclovax", residual_multiplier=0.3, use_post_norm=False),
    "nanochat": _case("nanochat", attention_bias=True, final_logit_softcapping=5.0, tie_word_embeddings=True),
    "ministral": _case("ministral", num_hidden_layers=3, head_dim=12, sliding_window=7,
                       layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "cwm": _case("cwm", head_dim=12, mlp_bias=True, num_hidden_layers=3, sliding_window=7),
    "smollm3": _case("smollm3", num_hidden_layers=4, rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
    "smollm3, window and yarn": _case("smollm3", num_hidden_layers=3, no_rope_layers=[1, 0, 1], use_sliding_window=True,
                                      sliding_window=7,
                                      rope_parameters=_YARN),
    "olmo3": _case("olmo3", num_hidden_layers=4, sliding_window=7, rope_parameters={
        "full_attention": _YARN, "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}),
    "exaone4": _case("exaone4", num_hidden_layers=3, sliding_window=7, sliding_window_pattern=3),
    "gemma3_text": _case("gemma3_text", gain=0.0, num_hidden_layers=3, head_dim=12, query_pre_attn_scalar=20,
                         sliding_window=7,
                         layer_types=["sliding_attention", "full_attention", "sliding_attention"], rope_parameters={
                             "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 900.0},
                             "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}),
    "gemma3_text, softcap": _case("gemma3_text", gain=0.0, head_dim=12, final_logit_softcapping=5.0, sliding_window=7,
                                  layer_types=["full_attention", "sliding_attention"]),
    "gemma2": _case("gemma2", gain=0.0, num_hidden_layers=3, head_dim=12, query_pre_attn_scalar=20, sliding_window=7,
                    attn_logit_softcapping=3.0, final_logit_softcapping=5.0, tie_word_embeddings=True),
    "gemma2, no softcaps": _case("gemma2", gain=0.0, head_dim=12, query_pre_attn_scalar=20, sliding_window=7,
                                 attention_bias=True,
                                 attn_logit_softcapping=None, final_logit_softcapping=None),
    "vaultgemma": _case("vaultgemma", gain=0.0, num_hidden_layers=3, head_dim=12, query_pre_attn_scalar=20,
                        sliding_window=7,
                        attn_logit_softcapping=3.0, final_logit_softcapping=5.0, attention_bias=True),
    "gemma": _case("gemma", gain=0.0, head_dim=12),
    "nemotron": _case("nemotron", gain=0.0, attention_bias=True, mlp_bias=True, head_dim=12),
    "arcee": _case("arcee", attention_bias=True, mlp_bias=True),
    "jais2": _case("jais2", head_dim=12),
    "cohere": _case("cohere", attention_bias=True, logit_scale=0.3),
    "cohere2": _case("cohere2", num_hidden_layers=3, sliding_window=7, logit_scale=0.3,
                     layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "gpt_neox": _case("gpt_neox", num_key_value_heads=..., rope_parameters={
        "rope_type": "default", "rope_theta": 300.0, "partial_rotary_factor": 0.4}),
    "gpt_neox, sequential": _case("gpt_neox", num_key_value_heads=..., use_parallel_residual=False,
                                  attention_bias=False),
    "phi": _case("phi", partial_rotary_factor=0.4),
    "gptj": _case("gptj", **_GPTJ),
    "codegen": _case("codegen", **_GPTJ),
    "falcon": _case("falcon", **_FALCON),
    "falcon, two norms": _case("falcon", new_decoder_architecture=True, num_kv_heads=2, bias=True, **_FALCON),
    "falcon, sequential": _case("falcon", multi_query=False, parallel_attn=False, bias=True, **_FALCON),
    "gpt2": _case("gpt2", **_GPT2),
    "gpt2, scores not scaled": _case("gpt2", scale_attn_weights=False, tie_word_embeddings=False,
                                     activation_function="gelu", **_GPT2),
    "gpt_neo": _case("gpt_neo", **_GPT_NEO),
    "opt": _case("opt", **_OPT),
    "opt, no biases": _case("opt", enable_bias=False, layer_norm_elementwise_affine=False, activation_function="gelu",
                            tie_word_embeddings=False, **_OPT),
    "xglm": _case("xglm", **_XGLM),
    "biogpt": _case("biogpt", num_key_value_heads=...),
    "ctrl": _case("ctrl", dff=52, **{key: value for key, value in _GPT2.items() if key != "n_inner"}),
    "gpt_bigcode": _case("gpt_bigcode", **_GPT2),
    "gpt_bigcode, all KV heads": _case("gpt_bigcode", multi_query=False, **_GPT2),
}


def weights(case, sizes):
    """Name -> float32 array of a case's tensors, whose shapes are given: norms, biases and scores are far from
    trivial."""
    made = {}
    for name, size in sizes.items():
        values = noise(case["model_type"], name, size=size)
        if len(size) == 1:
            values = np.float32(0.3) * values + np.float32(0 if name.endswith("bias") else case["gain"])
        else:
            tables, scores = ("embed", "wte", "wpe", ".w."), ("q_proj", "k_proj", "qkv", "query_key",
                                                              "c_attn", "Wq", "Wk")
            table, score = (any(part in name for part in parts) for parts in (tables, scores))
            values = values * np.float32(1.5 if table else (3.0 if score else 1.7) / size[1] ** 0.5)
        made[name] = values
    return made


def read_records():
    """Name -> {"config", "sizes", "logits" float32 [positions, vocabulary]}."""
    records = json.loads(lzma.decompress(RECORDS.read_bytes()))
    return {name: record | {"logits": np.array(record["logits"], np.float32)} for name, record in records.items()}


def write_records(records):
    """Each float32 as the shortest decimal that gives it back."""
    plain = {name: record | {"logits": [[float(str(value)) for value in row]
                                        for row in np.asarray(record["logits"], np.float32)]}
             for name, record in records.items()}
    RECORDS.write_bytes(lzma.compress(json.dumps(plain).encode(), preset=9))


def write_folder(folder, case, config, sizes):
    """The folder of a case, as transformers would have it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", weights(case, sizes))
    return folder
