"""Tiny models of each architecture of GGUF, converted as llama.cpp's `conversion/` does it, with the logits that
llama.cpp has for them.

A model is a set of tensors under Hugging Face's names, of SHAKE-128's noise. Names come from the gguf package's own
table; what else a converter does to a tensor is in `converted`. `python -m tools.record_gguf` writes
`gguf_families.json`.
"""
import base64
import dataclasses
import hashlib
import json
import re
from pathlib import Path

import numpy as np

from differential_cases import noise, write_gguf

__all__ = ["CASES", "Case", "POSITIONS", "converted", "read_records", "write_records"]

RECORDS = Path(__file__).with_name("gguf_families.json")
POSITIONS = (3, 8, 19)
VOCAB, HIDDEN, HEADS, KV_HEADS, FF = 40, 32, 4, 2, 48

#: Whose rotary pairs a converter puts side by side.
PERMUTED = ("llama", "granite", "smollm3", "arcee", "olmo", "internlm2", "minicpm")
#: To whose gains it adds 1.
PLUS_ONE = ("gemma", "gemma2", "gemma3", "nemotron")
#: Hugging Face's names, where they are others.
RENAMED = {
    "falcon": {"model.layers.": "transformer.h.", "model.embed_tokens.": "transformer.word_embeddings.",
               "model.norm.": "transformer.ln_f."},
    "gptneox": {"model.layers.": "gpt_neox.layers.", "model.embed_tokens.": "gpt_neox.embed_in.",
                "model.norm.": "gpt_neox.final_layer_norm.", "lm_head.": "embed_out."},
    "phi2": {"model.norm.": "model.final_layernorm."},
    **dict.fromkeys(("gpt2", "starcoder"), {"model.layers.": "transformer.h.",
                                            "model.embed_tokens.": "transformer.wte.",
                                            "model.embed_positions.": "transformer.wpe.",
                                            "model.norm.": "transformer.ln_f."})}


def converted(arch, tensors, layers, head_dim, kv_heads):
    """Tensors under Hugging Face's names as a converter of llama.cpp writes them."""
    import gguf
    key = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(key, layers)
    found = {names.get_name(name, try_suffixes=(".weight", ".bias")): _converted(arch, name, values, head_dim, kv_heads)
             for name, values in tensors.items()}
    assert None not in found
    return found


def _converted(arch, name, values, head_dim, kv_heads):
    if ".query_key_value." in name:     # a KV head's queries, then its key and value, and so on
        groups = values.reshape(kv_heads, -1, head_dim, *values.shape[1:])
        return np.concatenate([part.reshape(-1, *values.shape[1:])
                               for part in (groups[:, :-2], groups[:, -2], groups[:, -1])])
    if arch == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return values.T
    if arch in PLUS_ONE and name.endswith("norm.weight"):
        return values + 1
    if arch in PERMUTED and re.search(r"\.[qk]_proj\.", name):
        return values.reshape(-1, 2, head_dim // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    return values


@dataclasses.dataclass(frozen=True)
class Case:
    """A model: its architecture, Hugging Face's names of what its layers have, and fields of the file behind the
    architecture's name.

    off : float     that the recorded logits may be apart: llama.cpp's GELU is a table of float16
    """
    name: str
    arch: str
    layer: tuple
    fields: dict = dataclasses.field(default_factory=dict)
    layers: int = 2
    head_dim: int = 8
    tied: bool = False
    off: float = 1e-4
    more: tuple = ()                # (GGUF's name, size) of tensors besides
    final: tuple = ("model.norm.weight",)

    def __repr__(self):
        return self.name

    def size(self, name):
        """Of a tensor by Hugging Face's name in its layer, or behind the layers."""
        if name == "lm_head.bias":
            return (VOCAB,)
        q, kv = HEADS * self.head_dim, self.fields.get("attention.head_count_kv", KV_HEADS) * self.head_dim
        if name == "model.embed_positions.weight":
            return (64, HIDDEN)
        outputs = {"c_attn": q + 2 * kv,
                   "q_proj": q, "k_proj": kv, "v_proj": kv, "qkv_proj": q + 2 * kv, "o_proj": HIDDEN, "gate_proj": FF,
                   "up_proj": FF,
                   "gate_up_proj": 2 * FF, "down_proj": HIDDEN, "dense": HIDDEN, "query_key_value": q + 2 * kv,
                   "dense_h_to_4h": FF,
                   "dense_4h_to_h": HIDDEN, "c_fc": FF, "c_proj": HIDDEN, "fc1": FF, "fc2": HIDDEN}
        inputs = {"o_proj": q, "self_attn.dense": q, "attention.dense": q, "self_attention.dense": q, "down_proj": FF,
                  "dense_4h_to_h": FF,
                  "attn.c_proj": q, "c_proj": FF, "fc2": FF}
        stem, _, kind = name.rpartition(".")
        part = stem.rpartition(".")[2]
        if part in outputs:
            found = (outputs[part],) if kind == "bias" else (outputs[part], inputs.get(stem, inputs.get(part, HIDDEN)))
            return found[::-1] if self.arch == "gpt2" else found
        if part in ("q_norm", "k_norm"):
            return ({"q_norm": q, "k_norm": kv}[part],) if self.arch == "olmo2" else (self.head_dim,)
        return (HIDDEN,)

    def tensors(self):
        """Hugging Face's name -> float32 array."""
        names = {"model.embed_tokens.weight": (VOCAB, HIDDEN), **{name: self.size(name) for name in self.final}}
        names |= {} if self.tied else {"lm_head.weight": (VOCAB, HIDDEN)}
        names |= {f"model.layers.{i}.{part}": self.size(part) for i in range(self.layers) for part in self.layer}
        return {name: self._weight(name, size) for name, size in names.items()}

    def _weight(self, name, size):
        values = noise("gguf", self.arch, name, size=size)
        if name.endswith(".bias"):
            return np.float32(0 if name in self.final else 0.4) * values
        if len(size) == 1:
            return (0 if self.arch in PLUS_ONE else 1) + np.float32(0.3) * values
        if "embed_" in name:
            return np.float32(0.3 if "gemma" in self.arch else 1.5) * values
        return values * np.float32((3.5 if re.search("q_proj|k_proj|qkv|key|c_attn", name) else 1.7) / size[1] ** 0.5)

    def tokens(self):
        return [3 + int(x) for x in (noise(self.name, size=(20,)) + 1) * 18]

    def converted(self):
        """GGUF's name -> array."""
        kv_heads = self.fields.get("attention.head_count_kv", KV_HEADS)
        tensors = {self._spelled(name): values for name, values in self.tensors().items()}
        return converted(self.arch, tensors, self.layers, self.head_dim, kv_heads) | {
            name: 2 + noise(self.arch, name, size=size) for name, size in self.more}

    def _spelled(self, name):
        for ours, theirs in RENAMED.get(self.arch, {}).items():
            name = name.replace(ours, theirs)
        return name

    def metadata(self):
        fields = {"vocab_size": VOCAB, "context_length": 64, "embedding_length": HIDDEN, "feed_forward_length": FF,
                  "block_count": self.layers, "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS,
                  "attention.key_length": self.head_dim,
                  "attention.value_length": self.head_dim, "rope.dimension_count": self.head_dim,
                  "rope.freq_base": 500.0,
                  "attention.layer_norm_rms_epsilon": 1e-3} | self.fields
        return {"general.architecture": self.arch, "tokenizer.ggml.model": "no_vocab"} | {
            f"{self.arch}.{name}": value for name, value in fields.items() if value is not None}

    def digest(self):
        state = hashlib.sha256(json.dumps([self.metadata(), self.tokens()]).encode())
        for name, values in self.converted().items():
            state.update(f"{name} {values.shape}".encode() + np.ascontiguousarray(values, "<f4").tobytes())
        return state.hexdigest()[:16]

    def write(self, folder, tensors=(), drop=()):
        """The model's file in a folder, with more tensors and without some."""
        found = {name: values for name, values in (self.converted() | dict(tensors)).items() if name not in drop}
        return write_gguf(folder / "model.gguf", self.metadata(), found)


def _weights(*names):
    return tuple(f"{name}.weight" for name in names)


def _both(*names):
    return tuple(f"{name}.{kind}" for name in names for kind in ("weight", "bias"))


_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_ATTENTION = _weights(*_QKV, "self_attn.o_proj")
_BIASES = tuple(f"{name}.bias" for name in _QKV)
_GATED = _weights("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_PRE = _weights("input_layernorm", "post_attention_layernorm")
_POST = _weights("post_attention_layernorm", "post_feedforward_layernorm")
_QK_NORMS = _weights("self_attn.q_norm", "self_attn.k_norm")
_LLAMA = (*_ATTENTION, *_GATED, *_PRE)
_PHI3 = (*_weights("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"), *_PRE)
_GEMMA3 = (*_ATTENTION, *_GATED, *_POST, *_QK_NORMS, *_weights("input_layernorm", "pre_feedforward_layernorm"))
_GEMMA2 = (*_ATTENTION, *_GATED, *_POST, *_weights("input_layernorm", "pre_feedforward_layernorm"))
_GLM4 = (*_ATTENTION, *_BIASES, *_PRE, *_weights("mlp.gate_up_proj", "mlp.down_proj", "post_self_attn_layernorm",
                                                 "post_mlp_layernorm"))
_OLMO2 = (*_ATTENTION, *_GATED, *_POST, *_QK_NORMS)
_ARCEE = (*_ATTENTION, *_PRE, *_weights("mlp.up_proj", "mlp.down_proj"))
_NORM_BIASES = ("input_layernorm.bias", "post_attention_layernorm.bias")
_FINAL = ("model.norm.weight", "model.norm.bias")
_FALCON = _weights("self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
_NEOX = _both("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h",
              "input_layernorm",
              "post_attention_layernorm")
_GPT2 = _both("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj", "ln_1", "ln_2")
_LN = {"attention.layer_norm_epsilon": 1e-3, "attention.layer_norm_rms_epsilon": None}
_TABLE = _LN | dict.fromkeys(("rope.dimension_count", "rope.freq_base", "attention.key_length",
                              "attention.value_length"))
_YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 512,
         "rope.freq_base": 100.0}
_GRANITE = {"attention.scale": 0.2, "embedding_scale": 3.0, "residual_scale": 0.4, "logit_scale": 5.0}

CASES = {case.name: case for case in (
    Case("qwen2", "qwen2", (*_LLAMA, *_BIASES), tied=True),
    Case("qwen2 yarn", "qwen2", (*_LLAMA, *_BIASES), _YARN),
    Case("qwen3", "qwen3", (*_LLAMA, *_QK_NORMS), head_dim=16),
    Case("qwen3 yarn", "qwen3", (*_LLAMA, *_QK_NORMS), _YARN, head_dim=16),
    Case("phi3", "phi3", _PHI3, {"rope.dimension_count": 6}),
    Case("phi3 longrope", "phi3", _PHI3,
         {"rope.scaling.attn_factor": 1.2, "rope.scaling.original_context_length": 512, "context_length": 1024},
         more=(("rope_factors_short.weight", (4,)), ("rope_factors_long.weight", (4,)))),
    Case("gemma", "gemma", _LLAMA, tied=True, head_dim=16, off=3e-3),
    Case("gemma2", "gemma2", _GEMMA2, {"attention.sliding_window": 4, "attn_logit_softcapping": 1.0,
                                       "final_logit_softcapping": 2.0},
         tied=True, layers=3, head_dim=16, off=3e-3),
    Case("gemma2 without fields", "gemma2", _GEMMA2, tied=True, off=1e-3),
    # rounding grows over so many layers; with the other scale the logits are 0.6 apart
    Case("gemma2 of 46 layers", "gemma2", _GEMMA2, tied=True, layers=46, head_dim=16, off=3e-2),
    Case("gemma3", "gemma3", _GEMMA3, {"attention.sliding_window": 4}, tied=True, layers=7, head_dim=16, off=3e-3),
    Case("gemma3 fields", "gemma3", _GEMMA3, {"attention.sliding_window": 3, "attention.sliding_window_pattern": 2,
                                              "rope.freq_base_swa": 50.0, "rope.scaling.type": "linear",
                                              "rope.scaling.factor": 8.0},
         head_dim=16, off=3e-3),
    Case("gemma3 without a window", "gemma3", _GEMMA3, tied=True, off=3e-3),
    Case("olmo2", "olmo2", _OLMO2),
    Case("olmo3", "olmo2", _OLMO2, {"attention.sliding_window": 5} | _YARN, layers=5),
    Case("granite", "granite", _LLAMA, _GRANITE, tied=True),
    Case("granite without RoPE", "granite", _LLAMA,
         _GRANITE | {"rope.scaling.finetuned": False, "attention.scale": 0.0}),
    Case("minicpm", "minicpm", _LLAMA, {"embedding_scale": 3.0, "residual_scale": 0.4, "logit_scale": 5.0}, tied=True),
    Case("smollm3", "smollm3", _LLAMA, layers=5, tied=True),
    Case("glm4", "glm4", _GLM4, {"rope.dimension_count": 4}),
    Case("arcee", "arcee", _ARCEE),
    Case("ernie4_5", "ernie4_5", _LLAMA, tied=True, head_dim=16),
    Case("ernie4_5 with biases", "ernie4_5", (*_LLAMA, *_BIASES)),
    Case("seed_oss", "seed_oss", (*_LLAMA, *_BIASES), head_dim=16),
    Case("exaone4", "exaone4", _OLMO2, tied=True),
    Case("exaone4 of 64 layers", "exaone4", _OLMO2, {"attention.sliding_window": 4}, layers=64),
    Case("exaone4 of 64 layers without a window", "exaone4", _OLMO2, layers=64),
    Case("olmo3 with a period", "olmo2", _OLMO2, {"attention.sliding_window": 5, "attention.sliding_window_pattern": 2}
         | _YARN, layers=5),
    Case("gemma3 of 62 layers", "gemma3", _GEMMA3, {"attention.sliding_window": 4}, layers=62, head_dim=16, off=3e-3),
    Case("qwen3 with biases", "qwen3", (*_LLAMA, *_QK_NORMS, *_BIASES)),
    Case("arcee with biases", "arcee", (*_ARCEE, *_BIASES)),
    Case("phi3 with a bias", "phi3", (*_PHI3, "self_attn.qkv_proj.bias")),
    Case("granite with biases", "granite", (*_both(*_QKV, "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
                                                   "mlp.down_proj"), *_PRE),
         _GRANITE),
    Case("arcee with divisors", "arcee", _ARCEE, more=(("rope_freqs.weight", (4,)),)),
    Case("exaone4 with divisors", "exaone4", _OLMO2, more=(("rope_freqs.weight", (4,)),)),
    Case("exaone", "exaone", _LLAMA, more=(("rope_freqs.weight", (4,)),)),
    Case("hunyuan-dense", "hunyuan-dense", (*_LLAMA, *_QK_NORMS), tied=True, head_dim=16),
    Case("internlm2", "internlm2", _LLAMA),
    Case("chatglm", "chatglm", (*_ATTENTION, *_BIASES, *_PRE, *_weights("mlp.gate_up_proj", "mlp.down_proj")),
         {"rope.dimension_count": 4}),
    Case("cohere2", "cohere2", (*_ATTENTION, *_GATED, "input_layernorm.weight"),
         _LN | {"logit_scale": 0.3, "attention.sliding_window": 4},
         tied=True, layers=5),
    Case("command-r", "command-r", (*_ATTENTION, *_GATED, "input_layernorm.weight"),
         _LN | {"logit_scale": 0.3}, tied=True),
    Case("olmo", "olmo", (*_ATTENTION, *_GATED), _LN, tied=True, final=()),
    Case("olmo untied", "olmo", (*_ATTENTION, *_GATED), _LN, final=()),
    Case("stablelm", "stablelm", (*_LLAMA, *_BIASES, *_NORM_BIASES), _LN | {"rope.dimension_count": 4}, final=_FINAL),
    Case("stablelm of one norm", "stablelm", (*_ATTENTION, *_GATED, *_both("input_layernorm")),
         _LN | {"use_parallel_residual": True},
         final=_FINAL),
    Case("starcoder2", "starcoder2", _both(*_QKV, "self_attn.o_proj", "mlp.c_fc", "mlp.c_proj") + _PRE + _NORM_BIASES,
         _LN,
         final=_FINAL, tied=True, off=3e-3),
    Case("gpt2", "gpt2", _GPT2, _TABLE | {"attention.head_count_kv": HEADS},
         final=(*_FINAL, "model.embed_positions.weight"), tied=True,
         off=3e-3),
    Case("starcoder", "starcoder", _GPT2, _TABLE | {"attention.head_count_kv": 1},
         final=(*_FINAL, "model.embed_positions.weight"),
         off=3e-3),
    Case("nemotron", "nemotron", _ARCEE + _NORM_BIASES, _LN | {"rope.dimension_count": 4}, final=_FINAL),
    Case("phi2", "phi2", (*_both(*_QKV, "mlp.fc1", "mlp.fc2", "self_attn.dense"), *_both("input_layernorm")),
         _LN | {"rope.dimension_count": 4}, final=_FINAL + ("lm_head.bias",), off=3e-3),
    Case("falcon", "falcon", _FALCON + _both("input_layernorm"), _LN, final=_FINAL, off=3e-3),
    Case("falcon two norms", "falcon", _FALCON + _both("ln_attn", "ln_mlp"), _LN, final=_FINAL, off=3e-3),
    Case("gptneox", "gptneox", _NEOX, _LN | {"use_parallel_residual": True, "rope.dimension_count": 4,
                                             "attention.head_count_kv": HEADS},
         final=_FINAL, off=3e-3),
    Case("gptneox one after the other", "gptneox", _NEOX,
         _LN | {"use_parallel_residual": False, "attention.head_count_kv": HEADS},
         final=_FINAL, off=3e-3),
)}


def read_records():
    """Name -> {"digest", "logits" float32 [positions, vocabulary] or "failed"}."""
    records = json.loads(RECORDS.read_text())
    for record in records.values():
        if "logits" in record:
            record["logits"] = np.frombuffer(base64.b64decode(record["logits"]), "<f4").reshape(len(POSITIONS), -1)
    return records


def write_records(records):
    lines = [f"{json.dumps(name)}: " + json.dumps(record | (
        {"logits": base64.b64encode(np.ascontiguousarray(record["logits"], "<f4").tobytes()).decode()}
        if "logits" in record else {}))
        for name, record in records.items()]
    RECORDS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
