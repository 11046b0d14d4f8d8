"""Architectures of GGUF files under llama.cpp's names: what each stores otherwise than Llama, and what it computes
otherwise.

Sources: llama.cpp, `src/llama-model.cpp`, `src/models/` and `conversion/`: names of keys and tensors, defaults, windows
that are built in, whose rotary pairs stand side by side. Gains mean what they say: where 1 is to be added, the
converter has done so. llama.cpp's logits for a tiny model of each are in `tests/gguf_families.json`. Where llama.cpp
computes otherwise than the model that was converted, the model counts: its exact GELU (llama.cpp has the tanh form for
all), its biases (OLMo-2, ERNIE), its window (Phi-3, EXAONE-4 of other sizes).
"""
import math
from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..params.block import Block, QkNorm, dense
from ..params.model import ModelShape
from .families import tensors

if TYPE_CHECKING:
    from .gguf_file import _Metadata

__all__ = ["ARCHITECTURES", "Architecture", "MISSING"]

_HEADS, _PROJECTION = QkNorm("head"), QkNorm("projection")

# Fields behind the architecture's name that change what a model computes, in llama.cpp or in what its converters write
# them for, and the values at which they do not.
_NEUTRAL = {
    "attention.causal": (True,), "use_parallel_residual": (False,),
    **dict.fromkeys((
        "attention.clamp_kqv", "attention.max_alibi_bias", "attn_logit_softcapping", "final_logit_softcapping",
        "attention.temperature_length", "expert_used_count", "expert_shared_count", "leading_dense_block_count",
        "nextn_predict_layers", "interleave_moe_layer_step", "pooling_type", "attention.q_lora_rank",
        "attention.kv_lora_rank", "attention.shared_kv_layers", "rope.scaling.yarn_log_multiplier",
        "rope.scaling.alpha", "attention.sliding_window", "attention.sliding_window_pattern", "attention.scale",
        "rope.freq_base_swa",
        "attention.key_length_swa", "attention.value_length_swa", "rope.dimension_count_swa"), (0,)),
    **dict.fromkeys(("logit_scale", "residual_scale", "embedding_scale", "attention.output_scale",
                     "attention.value_scale", "attention.temperature_scale"), (1, 0)),
    "rope.scaling.attn_factor": (1,), "hidden_activation": ("silu", "swiglu")}

_ACTIVATIONS = {"silu": ("silu", "swiglu"), "relu2": ("relu2",), "gelu_tanh": ("gelu_pytorch_tanh", "gelu_new", "gelu"),
                "gelu": ("gelu",)}

_NAMES = {"model.embed_tokens": "token_embd", "model.embed_positions": "position_embd", "model.norm": "output_norm",
          "lm_head": "output"}
_LAYER_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "post_self_attn_layernorm": "post_attention_norm", "post_mlp_layernorm": "post_ffw_norm"}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What its files have otherwise than Llama's, which are the defaults.

    Parameters
    ----------
    name : str
    block : dict            what `dense` is told
    partial : bool          ``rope.dimension_count`` may be less than the head
    names : dict            our name of a tensor -> GGUF's, where it is another
    layer_norm : bool       its norms take the mean away
    untied : bool           a head that is the embedding table in the file is one of its own in the machine
    head_bias : bool        its LM head may have a bias
    norm_biases : bool      its norms have biases, which become biases of the matrices that read them; the final one's
                            stays
    positions : bool        a table of positions is added to the embedding, and there is no RoPE
    divisors : str          the tensor with a divisor of each frequency, or ""
    taken : tuple           fields that are read, of those that change what a model computes
    window : callable       layers -> sliding window where no field says it, or 0
    layers : callable       (metadata, layers) -> for each layer whether it has the sliding window
    local_theta : float or None     RoPE theta of layers with a window, where no field says it; None: as the others
    local_scaling : bool    they have the model's RoPE scaling, too
    longrope : bool         ``divisors`` are those of longrope
    ignored : tuple         tensors that change nothing
    rotary : callable       (metadata, windowed: tuple of bool) -> for each layer whether it has RoPE
    softcaps : dict         field of a softcap -> what it is where it is missing
    scale : callable        (metadata, shape's fields) -> score scale, or None
    folds : tuple           each (plan, metadata) -> words or None, as in `tensors`; a tensor ``attn_qkv`` is taken
                            apart before
    """
    name: str
    block: dict = field(default_factory=dict)
    partial: bool = False
    names: dict = field(default_factory=dict)
    layer_norm: bool = False
    untied: bool = False
    head_bias: bool = False
    norm_biases: bool = False
    positions: bool = False
    divisors: str = ""
    taken: tuple = ()
    window: Callable[[int], int] = lambda layers: 0
    layers: Callable[["_Metadata", int], tuple[bool, ...]] | None = None
    local_theta: float | None = None
    local_scaling: bool = True
    longrope: bool = False
    ignored: tuple = ()
    rotary: Callable[["_Metadata", tuple[bool, ...]], tuple[bool, ...]] = lambda meta, windowed: (True,) * len(windowed)
    softcaps: dict = field(default_factory=dict)
    scale: Callable[["_Metadata", dict[str, Any]], float | None] = lambda meta, made: None
    folds: tuple = ()

    def spelled(self, name: str) -> str:
        """GGUF's name of one of our tensors."""
        stem, dot, kind = name.rpartition(".")
        if not stem.startswith("model.layers."):
            return _NAMES.get(stem, stem) + dot + kind
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{(_LAYER_NAMES | self.names).get(part, part)}{dot}{kind}"

    @property
    def neutral(self) -> dict[str, tuple]:
        """Field -> values at which it changes nothing: those that the file may have."""
        own: dict[str, tuple] = {"hidden_activation": _ACTIVATIONS[self.block.get("activation", "silu")]}
        own |= {"use_parallel_residual": (True,)} if self.block.get("parallel") else {}
        return {name: values for name, values in (_NEUTRAL | own).items() if name not in (*self.taken, *self.softcaps)}

    def own_biases(self, found: Container[str]) -> set[str]:
        """Matrices that have a bias in a file with these tensors."""
        def there(matrix):
            return (self.spelled(f"model.layers.0.{matrix.bias}") in found or matrix.name in "qkv"
                    and "blk.0.attn_qkv.bias" in found)

        return {matrix.name for matrix in dense(**self.block).matrices if there(matrix)}

    def of(self, meta: "_Metadata", found: Container[str]) -> "Architecture":
        """The architecture of one file, whose fields and tensors may decide."""
        return self

    def make_block(self, own: set[str], head_bias: bool) -> Block:
        """The `Block`, with the biases of the file and those that come of norms; and where the head has one, one of the
        final norm."""
        more = {"q", "k", "v", "up", *(["gate"] if self.block.get("gated", True)
                                       else [])} if self.norm_biases else set()
        return dense(biased=own | more, final_bias=self.norm_biases or head_bias, **self.block)

    def plan(self, shape: ModelShape, sizes: dict[str, tuple[int, ...]], own: set[str], found: Container[str],
             meta: "_Metadata") -> tuple[tensors.Plan, list[str]]:
        """(The `Plan` of the tensors, what it folds in words.)"""
        tied = "output.weight" not in found
        plan = tensors.Plan(shape, sizes, self.spelled, own, tied)
        folds = [tensors.fused("attn_qkv", "q", "k", "v")] * ("blk.0.attn_qkv.weight" in found) + list(self.folds)
        folds += [tensors.no_final_bias] * (shape.head_bias and not self.norm_biases)
        said = [fold(plan, meta) for fold in folds]
        if tied and not shape.tie_word_embeddings:
            said.append("the head is a table of its own")
        return plan, [words for words in said if words]

    def like(self, **changes: Any) -> "Architecture":
        return replace(self, **changes)


def _every(period):
    """All layers but the last of each ``period`` have a window; a file may say another period, or each layer."""
    def layers(meta, count):
        name = "attention.sliding_window_pattern"
        if isinstance(meta.raw(meta.key(name)), list):
            kinds = meta.of_model(name, list, of=bool)
            if len(kinds) != count:
                raise ValueError(f"Metadata {meta.key(name)} must be one for each of {count} layers, not {len(kinds)}")
            return tuple(kinds)
        pattern = meta.of_model(name, int, period, low=2)
        return tuple(i % pattern < pattern - 1 for i in range(count))
    return layers


def _all(meta, count):
    return (True,) * count


_WINDOW = ("attention.sliding_window",)
_PATTERN = (*_WINDOW, "attention.sliding_window_pattern")

_INTERLEAVED = (tensors.interleaved,)      # llama.cpp's RoPE "norm", not "neox"
_GATE_UP = tensors.fused("ffn_up", "gate", "up")

LLAMA = Architecture(name="llama", divisors="rope_freqs.weight", taken=_WINDOW, folds=_INTERLEAVED)
QWEN2 = Architecture(name="qwen2", head_bias=True)
QWEN3 = Architecture(name="qwen3", block={"qk_norm": _HEADS})
PHI3 = Architecture(name="phi3", partial=True, divisors="rope_factors_short.weight", longrope=True,
                    ignored=("rope_factors_long.weight",), taken=(*_WINDOW, "rope.scaling.attn_factor"),
                    layers=_all, folds=(_GATE_UP,))


def _root(meta):
    return math.sqrt(meta.of_model("embedding_length", int))


def _scale_of_27b(layers):
    """The one of 27 billion weights has another scale, and is known by its layers."""
    def scale(meta, made):
        return ((made["hidden_size"] / made["num_attention_heads"]) ** -0.5 if made["num_hidden_layers"] == layers
                else None)
    return scale


GEMMA = Architecture(name="gemma", block={"activation": "gelu_tanh"}, folds=(tensors.factors(embedding=_root),))
GEMMA3 = GEMMA.like(name="gemma3", block={"activation": "gelu_tanh", "qk_norm": _HEADS, "norms": "sandwich"},
                    taken=(*_PATTERN, "rope.freq_base_swa"), layers=_every(6), local_theta=10000.0, local_scaling=False,
                    scale=_scale_of_27b(62))
GEMMA2 = GEMMA.like(name="gemma2", block={"activation": "gelu_tanh", "norms": "sandwich"},
                    taken=(*_PATTERN, "rope.freq_base_swa"), window=lambda layers: 4096, layers=_every(2),
                    scale=_scale_of_27b(46),
                    softcaps={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0})
OLMO2 = Architecture(name="olmo2", block={"qk_norm": _PROJECTION, "norms": "post"}, taken=_PATTERN, layers=_every(4),
                     local_scaling=False)


def _factor(name, *default):
    """Of a field; 0 is not given."""
    return lambda meta: meta.of_model(name, float, *default) or 1.0


GRANITE = LLAMA.like(
    name="granite", taken=("embedding_scale", "residual_scale", "logit_scale", "attention.scale"),
    rotary=lambda meta, windowed: (meta.of_model("rope.scaling.finetuned", bool, True),) * len(windowed),
    scale=lambda meta, made: meta.of_model("attention.scale", float) or None,
    folds=(tensors.interleaved, tensors.factors(_factor("embedding_scale"), _factor("residual_scale"),
                                                lambda meta: 1 / _factor("logit_scale")(meta))))
MINICPM = Architecture(name="minicpm", taken=("embedding_scale", "residual_scale", "logit_scale"), folds=GRANITE.folds)
SMOLLM3 = Architecture(name="smollm3", rotary=lambda meta, windowed: tuple(i % 4 != 3 for i in range(len(windowed))),
                       folds=_INTERLEAVED)
GLM4 = Architecture(name="glm4", block={"norms": "sandwich"}, partial=True, folds=(_GATE_UP, tensors.interleaved))
ARCEE = Architecture(name="arcee", block={"activation": "relu2", "gated": False}, divisors="rope_freqs.weight",
                     folds=_INTERLEAVED)
ERNIE = Architecture(name="ernie4_5", folds=_INTERLEAVED)
SEED_OSS = Architecture(name="seed_oss", names={"post_attention_layernorm": "post_attention_norm"})
EXAONE4 = Architecture(name="exaone4", block={"qk_norm": _HEADS, "norms": "post"}, divisors="rope_freqs.weight",
                       taken=_PATTERN, window=lambda layers: 4096 if layers == 64 else 0, layers=_every(4),
                       rotary=lambda meta, windowed: windowed if any(windowed) else (True,) * len(windowed))

EXAONE = Architecture(name="exaone", divisors="rope_freqs.weight")
HUNYUAN = Architecture(name="hunyuan-dense", block={"qk_norm": QkNorm("head", after_rotary=True)})
INTERNLM2 = Architecture(name="internlm2", folds=_INTERLEAVED)
CHATGLM = Architecture(name="chatglm", partial=True, folds=(_GATE_UP, tensors.interleaved))

# With LayerNorm.
COMMAND_R = Architecture(name="command-r", block={"parallel": True}, layer_norm=True, untied=True,
                         taken=("logit_scale",),
                         folds=(tensors.interleaved, tensors.centred,
                                tensors.factors(logits=_factor("logit_scale", 0.0))))


def _only_windowed(meta, windowed):
    meta.of_model("attention.sliding_window", int, low=1)
    return windowed


COHERE2 = COMMAND_R.like(name="cohere2", taken=("logit_scale", *_PATTERN), layers=_every(4), rotary=_only_windowed)
OLMO = Architecture(name="olmo", layer_norm=True, folds=(tensors.interleaved, tensors.no_gains, tensors.centred))

# With biases of norms, and maybe of the head.
_PLAIN_MLP = {"activation": "gelu_tanh", "gated": False}
STARCODER2 = Architecture(name="starcoder2", block=_PLAIN_MLP, layer_norm=True, untied=True, norm_biases=True,
                          folds=(tensors.norm_biases, tensors.centred))
NEMOTRON = STARCODER2.like(name="nemotron", block={"activation": "relu2", "gated": False}, partial=True)
GPT2 = STARCODER2.like(name="gpt2", positions=True)
STARCODER = GPT2.like(name="starcoder")
PHI2 = STARCODER2.like(name="phi2", head_bias=True, block=_PLAIN_MLP | {"parallel": True}, partial=True)


def _two_norms(arch, attention, mlp):
    """A parallel block in which attention and MLP have a norm each."""
    folds = tensors.two_norms(f"{attention}.weight", f"{mlp}.weight"), tensors.centred
    return arch.like(block=arch.block | {"parallel": True}, folds=folds)


class _StableLm(Architecture):
    """Attention and MLP one after the other, or of the same norm: the tensors say which, as in llama.cpp."""

    def of(self, meta: "_Metadata", found: Container[str]) -> Architecture:
        meta.of_model("use_parallel_residual", bool, True)
        return self if "blk.0.ffn_norm.weight" in found else self.like(block={"parallel": True})


class _Falcon(Architecture):
    """One norm of the residual, or one for attention and one for the MLP."""

    def of(self, meta: "_Metadata", found: Container[str]) -> Architecture:
        return _two_norms(self, "attn_norm_2", "attn_norm") if "blk.0.attn_norm_2.weight" in found else self


class _GptNeox(Architecture):
    """Attention and MLP one after the other or, each with its own norm, of the same residual."""

    def of(self, meta: "_Metadata", found: Container[str]) -> Architecture:
        return _two_norms(self, "attn_norm", "ffn_norm") if meta.of_model("use_parallel_residual", bool) else self


_EXACT = {"activation": "gelu", "gated": False}
_LIKE_STARCODER2: dict[str, Any] = {"layer_norm": True, "untied": True, "norm_biases": True, "folds": STARCODER2.folds}
STABLELM = _StableLm(name="stablelm", partial=True, taken=("use_parallel_residual",), **_LIKE_STARCODER2)
FALCON = _Falcon(name="falcon", block=_EXACT | {"parallel": True}, **_LIKE_STARCODER2)
GPTNEOX = _GptNeox(name="gptneox", block=_EXACT, partial=True, taken=("use_parallel_residual",), **_LIKE_STARCODER2)

ARCHITECTURES = {arch.name: arch for arch in (
    LLAMA, QWEN2, QWEN3, PHI3, GEMMA, GEMMA2, GEMMA3, OLMO2, GRANITE, SMOLLM3, GLM4, ARCEE, ERNIE, SEED_OSS, EXAONE4,
    EXAONE, HUNYUAN, INTERNLM2, MINICPM, CHATGLM, COMMAND_R, COHERE2, OLMO, STABLELM,
    STARCODER2, GPT2, STARCODER, NEMOTRON, PHI2, FALCON, GPTNEOX)}

#: Architectures that are known, and what this hardware lacks for them.
MISSING = {
    "deepseek2": "latent attention", "minicpm3": "latent attention",
    **dict.fromkeys(("bloom", "mpt", "refact", "jais"), "ALiBi"),
    **dict.fromkeys(("bert", "modern-bert", "nomic-bert", "jina-bert-v2", "t5encoder"), "encoders"),
    **dict.fromkeys(("mamba", "mamba2", "rwkv6", "rwkv7"), "recurrent layers"),
    **dict.fromkeys(("llama4", "qwen2moe", "qwen3moe", "gpt-oss", "olmoe", "granitemoe", "phimoe", "dbrx", "deepseek",
                     "grok", "glm4moe", "ernie4_5-moe", "hunyuan-moe", "bailingmoe", "exaone-moe"), "experts")}
