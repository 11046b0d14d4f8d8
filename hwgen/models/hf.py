"""Hugging Face folders: config.json, safetensors (one file or shards), tokenizer.json.

Where versions of transformers disagree, 5.24 is followed.
"""
import dataclasses
from pathlib import Path

import numpy as np

from ..params.checks import shown
from ..params.model import LinearRopeScaling, Llama3RopeScaling, ModelShape
from .checkpoint import Checkpoint, ModelError, check_tensors
from .json_file import read_json, take
from .options import About, Options
from .safetensors_file import SafetensorsFile
from .tokenizer import Tokenizer

__all__ = ["folder_shape", "load_folder", "shape_from_config"]

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

_ARCHITECTURES = ("LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM")
#: Both are SiLU in transformers' table of activations.
_SILU = ("silu", "swish")

# Configurations of a model's parts. transformers does not load a Llama model that has one.
_PARTS = ("text_config", "vision_config", "audio_config", "encoder", "decoder")

# The quantization methods whose scales are read below.
_FP8_METHODS = ("fp8", "fbgemm_fp8", "compressed-tensors", "modelopt")
# What a weight's scale is called: both multiply, whatever the second one's name says.
_SCALES = ("_scale", "_scale_inv")
# Scales of numbers that the machine rounds in its own way. (Any other, such as pre_quant_scale, changes the model.)
_FOUND_SCALES = frozenset(("input_scale", "input_scale_ub", "activation_scale", "output_scale", "q_scale", "k_scale", "v_scale", "kv_scale",
                           "prob_scale"))

# Options of config.json that change nothing of what a Llama model computes: any value (...), or these.
_HARMLESS = dict.fromkeys((
    "_name_or_path", "_commit_hash", "_attn_implementation_autoset", "_flash_attn_2_enabled", "attn_implementation",
    "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "classifier_dropout", "dtype", "torch_dtype",
    "initializer_range", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params",
    "is_llama_config", "max_sequence_length", "name_or_path", "output_attentions", "output_hidden_states", "pad_token_id",
    "pretraining_tp", "return_dict", "sep_token_id", "tokenizer_class", "torchscript", "transformers_version",
    "transformers.js_config", "unk_token_id", "unsloth_fixed", "unsloth_version", "use_bfloat16", "use_cache",
    "gradient_checkpointing", "tf_legacy_loss"), ...) | {
    "is_decoder": (False, True), "add_cross_attention": (False,), "chunk_size_feed_forward": (0,),
    "cross_attention_hidden_size": (None,), "is_encoder_decoder": (False,), "pruned_heads": ({},), "prefix": (None,),
    "rope_interleaved": (False,), "tie_encoder_decoder": (False,), "decoder_start_token_id": (None,), "layer_types": (None,),
    "auto_map": (None,), "sliding_window": (None,), "use_sliding_window": (False,)}

# Options that transformers follows in any model's config.json: the values at which they change nothing, and what to do about others.
_OF_ANY_MODEL = {
    "is_causal": ((True,), "this hardware's attention is causal"),
    "per_layer_config": ((None, {}), "this hardware's layers are all alike"),
    "configuration_files": (([], ["config.json"]), "leave the configuration that is meant, as config.json"),
    "transformers_weights": ((None, "model.safetensors"), "call the file of weights that is meant model.safetensors")}

# Options of generation, and the values at which they leave the likeliest token as it is. config.json may have them too.
_GENERATION = {
    "min_length": (0, None), "min_new_tokens": (0, None), "num_beams": (1, None), "num_beam_groups": (1, None),
    "repetition_penalty": (1.0, 1, None), "encoder_repetition_penalty": (1.0, 1, None), "length_penalty": ...,
    "diversity_penalty": (0.0, 0, None), "no_repeat_ngram_size": (0, None), "encoder_no_repeat_ngram_size": (0, None),
    "bad_words_ids": (None, []), "forced_bos_token_id": (None,), "forced_eos_token_id": (None,), "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []), "exponential_decay_length_penalty": (None,), "sequence_bias": (None,),
    "force_words_ids": (None,), "constraints": (None,), "guidance_scale": (None, 1, 1.0), "penalty_alpha": (None,),
    "stop_strings": (None, []), "watermarking_config": (None,)} | dict.fromkeys((
        "max_length", "max_new_tokens", "do_sample", "use_cache", "early_stopping", "temperature", "top_k", "top_p", "min_p",
        "typical_p", "epsilon_cutoff", "eta_cutoff", "num_return_sequences", "output_scores", "output_logits",
        "output_attentions", "output_hidden_states", "return_dict_in_generate", "remove_invalid_values",
        "renormalize_logits", "cache_implementation", "cache_config", "bos_token_id", "pad_token_id", "eos_token_id",
        "decoder_start_token_id", "transformers_version", "_from_model_config", "num_assistant_tokens",
        "num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind",
        "is_assistant", "prompt_lookup_num_tokens", "disable_compile", "low_memory", "max_time"), ...)

#: What transformers takes for an option that config.json lacks, by model type.
_DEFAULTS = {"llama": {"max_position_embeddings": 2048, "num_key_value_heads": None},
             "mistral": {"max_position_embeddings": 4096 * 32, "num_key_value_heads": 8}}


def _if_missing(options, name, default):
    """The default, for `Options.take`, of an option that may be missing but not null."""
    return () if name in options else (default,)


def _said(options, name):
    return name if name in options else "transformers' default"


def _rope(options, context, about, where):
    """(theta, scaling) of a configuration.

    ``rope_scaling``, the older name, takes the place of ``rope_parameters`` where both are there, theta included: theta is then the
    top level's ``rope_theta``, or 10000. The original context of the top level goes before that in there.
    """
    old, new = (options.take(name, dict, {}) for name in ("rope_scaling", "rope_parameters"))
    name = "rope_scaling" if old else "rope_parameters"
    if old and new and old != new:
        about.warnings.append(f"{where}: rope_scaling is taken and rope_parameters is not, as transformers does where both are given")
    for key, value in (old or new).items():
        if isinstance(value, dict):
            raise ValueError(f"Option {name} must be one for all layers, not one for {shown(key)}")
    rope = Options(old or new, f"{name}.")
    top = options.raw("rope_theta", 10000.0)
    theta = rope.raw("rope_theta", top)
    said = f"{name}.rope_theta" if "rope_theta" in rope else _said(options, "rope_theta")
    if "rope_theta" in rope and "rope_theta" in options and top != theta:
        about.warnings.append(f"{where}: {said} {shown(theta)} is taken and rope_theta {shown(top)} is not, as transformers does")
    partial = rope.take("partial_rotary_factor", float, options.take("partial_rotary_factor", float, 1.0))
    if partial != 1:
        raise ValueError(f"Partial rotary factor must be 1, not {shown(partial)}")
    old_kind = rope.raw("type", "default")
    kind = rope.raw("rope_type", old_kind)
    if kind == "default":
        scaling = None
    elif kind == "linear":
        scaling = LinearRopeScaling(factor=rope.take("factor", float))
    elif kind == "llama3":
        original = rope.take("original_max_position_embeddings", int, context)
        scaling = Llama3RopeScaling(**{key: rope.take(key, float) for key in ("factor", "low_freq_factor", "high_freq_factor")},
                                    original_max_position_embeddings=options.take("original_max_position_embeddings", int, original))
    else:
        raise ValueError(f"RoPE type must be default, linear or llama3, not {shown(kind)}")
    about.notes["RoPE theta"] = f"{theta} ({said})"
    about.notes["RoPE scaling"] = "none" if scaling is None else f"{_in_words(scaling)} ({name})"
    ignored = rope.left({"finetuned": ..., "original_max_position_embeddings": ... if kind == "default" else ()})
    if ignored:
        about.warnings.append(f"{where}: {', '.join(ignored)} changes nothing of a {kind} RoPE, in transformers neither")
    return theta, scaling


def _in_words(scaling):
    if isinstance(scaling, LinearRopeScaling):
        return f"linear, factor {scaling.factor:g}"
    return (f"llama3, factor {scaling.factor:g} over {scaling.original_max_position_embeddings} positions, between "
            f"{scaling.low_freq_factor:g} and {scaling.high_freq_factor:g} turns")


def _ends(options, generation):
    """(end tokens, what said so)."""
    for source, file in ((generation, "generation_config.json"), (options, "config.json")):
        ends = source.raw("eos_token_id")
        if isinstance(ends, list):
            return tuple(source.take("eos_token_id", list, of=int)), file
        if ends is not None:
            return (source.take("eos_token_id", int),), file
    return ((), "config.json") if "eos_token_id" in options else ((2,), "transformers' default")


def _kind(options):
    """llama or mistral, from model_type, or from architectures where there is none."""
    kind, names = options.take("model_type", str, None), options.take("architectures", list, [], of=str)
    if kind is None and not names:
        raise ValueError(f"Model type must be {' or '.join(_DEFAULTS)}, not missing")
    for name in names:
        if name not in _ARCHITECTURES:
            raise ValueError(f"Architecture must be LlamaForCausalLM or MistralForCausalLM, not {shown(name)}")
    if kind is None:
        kind = "mistral" if names[0].startswith("Mistral") else "llama"
    if kind not in _DEFAULTS:
        raise ValueError(f"Model type must be {' or '.join(_DEFAULTS)}, not {shown(kind)}")
    return kind


def shape_from_config(config, generation=None, *, name="model", about=None, folder=""):
    """The ModelShape that config.json describes; ``generation`` is generation_config.json, whose end tokens win.

    ``about``, an `About`, gets what was taken from which option, and a warning for options that were not, of the files in ``folder``.
    Raises ValueError or TypeError for what is not a Llama model.
    """
    about = About() if about is None else about
    where = Path(folder) / "config.json"
    options, generation = Options(config), Options(generation or {})
    kind = _kind(options)
    defaults = _DEFAULTS[kind]
    for part in _PARTS:
        if part in options:
            raise ValueError(f"Option {part} must not be there: a model of several parts is not supported")
    for option, (neutral, advice) in _OF_ANY_MODEL.items():
        value = options.raw(option, neutral[0])
        if not any(type(value) is type(other) and value == other for other in neutral):
            raise ValueError(f"Option {option} must be missing, not {shown(value)}: {advice}")
    act = options.raw("hidden_act", "silu")
    if act not in _SILU:
        raise ValueError(f"Activation must be silu, not {shown(act)}")
    for flag in ("attention_bias", "mlp_bias"):
        if options.take(flag, bool, False):
            raise ValueError(f"Option {flag} must be false: this hardware has no biases")
    context = options.raw("max_position_embeddings", defaults["max_position_embeddings"])
    window = None
    if kind == "mistral" and options.raw("sliding_window", 4096) is not None:
        window, types = options.take("sliding_window", int, 4096), options.raw("layer_types", None)
        if types is not None:
            raise ValueError(f"Option layer_types must be missing, not {shown(types)}: all layers of a Mistral have the window")
        about.notes["window"] = f"{window} positions ({_said(options, 'sliding_window')})"
    theta, scaling = _rope(options, context, about, where)
    heads, hidden = (options.take(key, int, low=1) for key in ("num_attention_heads", "hidden_size"))
    head_dim = options.take("head_dim", int, None)
    if head_dim is None:
        if hidden % heads:
            raise ValueError(f"Hidden size {hidden} must be a multiple of head count {heads}, or head_dim be given")
        head_dim = hidden // heads
    # null is as many as heads; what it is where it is missing depends on the type
    kv_heads = options.take("num_key_value_heads", int, heads if "num_key_value_heads" in options else defaults["num_key_value_heads"] or heads)
    ends, said = _ends(options, generation)
    about.notes["end tokens"] = f"{', '.join(map(str, ends)) or 'none'} ({said})"
    bos = options.take("bos_token_id", int, None) if "bos_token_id" in options else 1
    about.notes["start token"] = f"{'none' if bos is None else bos} ({_said(options, 'bos_token_id')})"
    options.raw("quantization_config")
    shape = ModelShape(
        name=name,
        vocab_size=options.raw("vocab_size"),
        hidden_size=hidden,
        intermediate_size=options.raw("intermediate_size"),
        num_hidden_layers=options.raw("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        rms_norm_eps=options.raw("rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        max_position_embeddings=context,
        sliding_window=window,
        tie_word_embeddings=options.take("tie_word_embeddings", bool, *_if_missing(options, "tie_word_embeddings", False)),
        bos_token_id=bos,
        eos_token_ids=ends)
    unknown = options.left(_GENERATION | _HARMLESS)
    if unknown:
        about.warnings.append(f"{where}: not known for a {kind} model, and without effect here: {', '.join(unknown)}")
    changed = generation.left(_GENERATION)
    if changed:
        about.warnings.append(f"{where.with_name('generation_config.json')}: the sampler does not do: {', '.join(changed)}")
    suggested = [f"{key} {generation.raw(key)}" for key in ("temperature", "top_k", "top_p") if key in generation]
    if suggested:
        about.notes["sampling"] = f"{', '.join(suggested)} is suggested (generation_config.json); see --temperature"
    return shape


def _block_structure(options):
    """Rows and columns of a block, as compressed-tensors says them for each group of matrices: they must be the same in all."""
    groups = options.take("config_groups", dict, {}, of=dict)
    weights = [Options(group, f"quantization_config.config_groups.{name}.").take("weights", dict, {}) for name, group in groups.items()]
    found = {tuple(take(w, "block_structure", list, [128, 128], of=int, low=1)) for w in weights if w.get("strategy") == "block"}
    if len(found) > 1:
        raise ValueError("Option quantization_config.config_groups must have the same block_structure in all groups")
    return list(*found) or [128, 128]


def _quantization(config):
    """(method or None, (rows, columns) of a block) of a quantization_config."""
    options = Options(config, "quantization_config.")
    method = options.take("quant_method", str) if config else None
    if method is not None and method not in _FP8_METHODS:
        raise ValueError(f"Quantization method must be one of {', '.join(_FP8_METHODS)}, not {shown(method)}: "
                         "use the unquantized model")
    if options.raw("transform_config"):
        raise ValueError("Option quantization_config.transform_config must be empty: this hardware has no transforms of activations")
    block = options.take("weight_block_size", list, _block_structure(options), of=int, low=1)
    if len(block) != 2:
        raise ValueError(f"Option quantization_config.weight_block_size must be two numbers, not {len(block)}")
    return method, tuple(block)


class _Folder:
    """The tensors of one file or of all shards, FP8 ones times their scales."""

    def __init__(self, folder, quantization):
        single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
        if not single.exists() and not index.exists():
            raise ModelError(f"{single} is missing, and so is {index.name}: "
                             "save the model with safetensors (save_pretrained of transformers does)")
        names = [single.name] if single.exists() else _shards(index)
        self._files = {}  # tensor name -> file
        for name in names:
            file = SafetensorsFile(folder / name)
            for tensor in file.shapes:
                if tensor in self._files:
                    raise ModelError(f"{file.path}: tensor {tensor} must stand in one file, and it is in "
                                     f"{self._files[tensor].path.name} too: fetch the model again")
                self._files[tensor] = file
        path = folder / "config.json"
        try:
            method, self._block = _quantization(quantization)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{path}: {error}") from None
        self._method = method
        self.shapes = {name: file.shapes[name] for name, file in self._files.items()}
        for name, file in self._files.items():
            for suffix in _SCALES:
                if name + suffix in self._files and not (method and file.is_fp8(name)):
                    raise ModelError(f"{file.path}: tensor {name + suffix} must scale FP8 weights of a model whose config.json has a "
                                     f"quantization_config, and {name} is none: use the unquantized model")

    def read(self, name):
        file = self._files[name]
        values = file.read(name)
        for suffix in _SCALES:
            if name + suffix in self._files:
                return self._scaled(name, values, name + suffix)
        if self._method and file.is_fp8(name):
            raise ModelError(f"{file.path}: tensor {name}_scale is missing: "
                             f"{name} is FP8, and its scale must be in the file")
        return values

    def _scaled(self, name, values, scale_name):
        file = self._files[scale_name]
        scale = file.read(scale_name)
        if values.ndim != 2:
            raise ModelError(f"{file.path}: tensor {scale_name} must scale a matrix, not one of shape {list(values.shape)}")
        n, k = values.shape
        rows, columns = self._block
        if scale.size == 1:
            return values * scale.reshape(1, 1)
        if scale.size == n and scale.shape in ((n,), (n, 1)):
            return values * scale.reshape(n, 1)
        if scale.shape == (-(-n // rows), -(-k // columns)):
            return values * np.repeat(np.repeat(scale, rows, 0)[:n], columns, 1)[:, :k]
        raise ModelError(f"{file.path}: tensor {scale_name} must be one number, {n} (one per row), or one per block "
                         f"of {rows} x {columns}, not of shape {list(scale.shape)}")


def _shards(index):
    """The files that an index names, each of which must lie beside it."""
    try:
        names = sorted(set(take(read_json(index), "weight_map", dict, of=str).values()))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{index}: {error}") from None
    if not names:
        raise ModelError(f"{index}: Option weight_map must name at least one file: fetch the model again")
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: File of weights must be a .safetensors file in the same folder, not {shown(name)}")
    return names


def _ignored(name, found):
    """Tensors that are no weights and that some checkpoints carry: derived tables, and scales, which `_Folder` reads or which are those of
    activations and of a KV cache: the machine finds its own. ``found``: the names in the files."""
    weight = next((name.removesuffix(suffix) for suffix in _SCALES if name.endswith(suffix)), None)
    return name.endswith("rotary_emb.inv_freq") or name.rpartition(".")[2] in _FOUND_SCALES or weight in found


def _config(folder, about):
    """(config.json as a dict, ModelShape) of a folder."""
    folder = Path(folder)
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        advice = "merge it into the model that it is for (merge_and_unload of peft)"
        if not (folder / "config.json").exists():
            raise ModelError(f"{adapter}: Folder must be that of a model, not of an adapter alone: {advice}")
        about.warnings.append(f"{adapter}: the adapter is not applied (transformers does it where peft is installed): {advice}")
    config = read_json(folder / "config.json")
    generation = read_json(folder / "generation_config.json", default={})
    try:
        return config, shape_from_config(config, generation, name=folder.resolve().name, about=about, folder=folder)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from None


def folder_shape(folder, about=None):
    """The ModelShape of a folder that has config.json, if nothing else; ModelError if it is none of a Llama model."""
    return _config(folder, About() if about is None else about)[1]


def _tables(folder, shape, files, about):
    """(shape, {name: name in the files}) of the embedding table and the LM head, as transformers 5 ties them.

    Tied by the configuration, but both in the file and different: the model has two tables. Only one in the file: it is both. (Version 4
    drops the head.)
    """
    there = [name for name in (EMBEDDING, HEAD) if name in files.shapes]
    if not shape.tie_word_embeddings:
        about.notes["LM head"] = f"{HEAD} (tie_word_embeddings is false)"
        return shape, {}
    if there == [HEAD]:
        about.notes["LM head"] = f"{HEAD}, which is the embedding table too (tie_word_embeddings)"
        return shape, {EMBEDDING: HEAD}
    if len(there) == 2 and (files.shapes[EMBEDDING] != files.shapes[HEAD] or not np.array_equal(files.read(EMBEDDING), files.read(HEAD))):
        about.notes["LM head"] = f"{HEAD}, which differs from the embedding table"
        about.warnings.append(f"{folder / 'config.json'}: tie_word_embeddings is true, but {HEAD} differs from {EMBEDDING}: "
                              "both are taken, as transformers 5 does")
        return dataclasses.replace(shape, tie_word_embeddings=False), {}
    about.notes["LM head"] = "the embedding table (tie_word_embeddings)"
    return shape, {}


def load_folder(folder, *, need_tokenizer=True):
    """The Checkpoint of a folder in Hugging Face's layout; ModelError if it is none, or none of a Llama model."""
    folder, about = Path(folder), About()
    config, shape = _config(folder, about)
    try:
        quantization = take(config, "quantization_config", dict, {})
    except TypeError as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from None
    files = _Folder(folder, quantization)
    shape, other_names = _tables(folder, shape, files, about)
    found = files.shapes | {name: files.shapes[other] for name, other in other_names.items()}
    check_tensors(shape, found, folder, lambda name: _ignored(name, found))
    tokenizer = None
    if need_tokenizer or (folder / "tokenizer.json").exists():
        tokenizer = Tokenizer.from_folder(folder)
        tokenizer.check_vocabulary(shape.vocab_size, folder / "tokenizer.json")
    return Checkpoint(shape, str(folder), lambda name: files.read(other_names.get(name, name)), tokenizer, about)
