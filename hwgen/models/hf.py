"""Hugging Face folders: config.json, safetensors (one file or shards), tokenizer.json.

Where versions of transformers disagree, 5.24 is followed.
"""
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ..params.checks import shown
from ..params.model import ModelShape
from .checkpoint import Checkpoint, ModelError, check_tensors, finite, tensor_shapes
from .families import FAMILIES, Given, fields_of
from .families.tensors import EMBEDDING, HEAD
from .hf_tensors import Tensors, ignored
from .json_file import read_json, take
from .options import About, Options
from .tokenizer import Tokenizer

__all__ = ["folder_shape", "load_folder", "shape_from_config"]

# Configurations of a model's parts. transformers does not load a Llama model that has one.
_PARTS = ("text_config", "vision_config", "audio_config", "encoder", "decoder")

# Options of config.json that change nothing of what a Llama model computes: any value (...), or these.
_HARMLESS = dict.fromkeys((
    "_name_or_path", "_commit_hash", "_attn_implementation_autoset", "_flash_attn_2_enabled", "attn_implementation",
    "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "classifier_dropout", "dtype", "torch_dtype",
    "initializer_range", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task",
    "task_specific_params", "is_llama_config", "max_sequence_length", "name_or_path", "output_attentions",
    "output_hidden_states", "pad_token_id",
    "pretraining_tp", "return_dict", "sep_token_id", "tokenizer_class", "torchscript", "transformers_version",
    "transformers.js_config", "unk_token_id", "unsloth_fixed", "unsloth_version", "use_bfloat16", "use_cache",
    "gradient_checkpointing", "tf_legacy_loss"), ...) | {
    "is_decoder": (False, True), "add_cross_attention": (False,), "chunk_size_feed_forward": (0,),
    "cross_attention_hidden_size": (None,), "is_encoder_decoder": (False,), "pruned_heads": ({},), "prefix": (None,),
    "rope_interleaved": (False,), "tie_encoder_decoder": (False,), "decoder_start_token_id": (None,),
    "layer_types": (None,), "auto_map": (None,), "sliding_window": (None,), "use_sliding_window": (False,)}

# Options that transformers follows in any model's config.json: the values at which they change nothing, and what to do
# about others.
_OF_ANY_MODEL = {
    "is_causal": ((True,), "this hardware's attention is causal"),
    "per_layer_config": ((None, {}), "this hardware's layers are all alike"),
    "configuration_files": (([], ["config.json"]), "leave the configuration that is meant, as config.json"),
    "transformers_weights": ((None, "model.safetensors"), "call the file of weights that is meant model.safetensors")}

#: Model types that are refused: what is missing -> which.
_MISSING = {name: missing for missing, names in (
    ("it has no experts", "mixtral qwen2_moe qwen3_moe olmoe gpt_oss granitemoe phimoe deepseek_v2 deepseek_v3 "
                          "ernie4_5_moe glm4_moe hunyuan_v1_moe dbrx llama4 llama4_text afmoe cohere2_moe dots1 "
                          "exaone_moe flex_olmo glm4_moe_lite "
                          "granitemoeshared jetmoe minimax_m2 solar_open"),
    ("it has no part that sees or hears", "gemma3 gemma4 idefics3 internvl llava mistral3 mllama paligemma qwen2_vl "
                                          "qwen2_5_vl qwen3_vl smolvlm"),
    ("it has no attention sinks", "granite_swa"), ("it has no norm inside attention and MLP", "bitnet"),
    ("it has no xIELU", "apertus"), ("it has no latent attention", "minicpm3"),
    ("it runs decoders, not encoders", "bert roberta t5 bart vit"),
    ("it has no ALiBi", "bloom mpt"), ("it has no norm that replaces the residual", "openai-gpt"),
    ("it has no LayerNorm of queries and keys", "persimmon"),
    ("it has no state-space or recurrent layers", "mamba mamba2 falcon_mamba recurrent_gemma jamba bamba "
                                                  "rwkv falcon_h1 granitemoehybrid nemotron_h olmo_hybrid qwen3_next "
                                                  "qwen3_5 zamba zamba2"),
    ("it has no convolutions", "lfm2 lfm2_moe"),
) for name in names.split()}

# Options of generation, and the values at which they leave the likeliest token as it is. config.json may have them too.
_GENERATION = {
    "min_length": (0, None), "min_new_tokens": (0, None), "num_beams": (1, None), "num_beam_groups": (1, None),
    "repetition_penalty": (1.0, 1, None), "encoder_repetition_penalty": (1.0, 1, None), "length_penalty": ...,
    "diversity_penalty": (0.0, 0, None), "no_repeat_ngram_size": (0, None), "encoder_no_repeat_ngram_size": (0, None),
    "bad_words_ids": (None, []), "forced_bos_token_id": (None,), "forced_eos_token_id": (None,),
    "suppress_tokens": (None, []), "begin_suppress_tokens": (None, []), "exponential_decay_length_penalty": (None,),
    "sequence_bias": (None,),
    "force_words_ids": (None,), "constraints": (None,), "guidance_scale": (None, 1, 1.0), "penalty_alpha": (None,),
    "stop_strings": (None, []), "watermarking_config": (None,)} | dict.fromkeys((
        "max_length", "max_new_tokens", "do_sample", "use_cache", "early_stopping", "temperature", "top_k",
        "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "num_return_sequences",
        "output_scores", "output_logits",
        "output_attentions", "output_hidden_states", "return_dict_in_generate", "remove_invalid_values",
        "renormalize_logits", "cache_implementation", "cache_config", "bos_token_id", "pad_token_id", "eos_token_id",
        "decoder_start_token_id", "transformers_version", "_from_model_config", "num_assistant_tokens",
        "num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind",
        "is_assistant", "prompt_lookup_num_tokens", "disable_compile", "low_memory", "max_time"), ...)


@dataclasses.dataclass(frozen=True)
class _Described:
    """What config.json says: the machine's ModelShape, whether the file's LM head is its embedding table, and the
    options as given."""
    shape: ModelShape
    tied: bool
    given: Given


def _ends(options, generation, default):
    """(end tokens, what said so)."""
    for source, file in ((generation, "generation_config.json"), (options, "config.json")):
        ends = source.raw("eos_token_id")
        if isinstance(ends, list):
            return tuple(source.take("eos_token_id", list, of=int)), file
        if ends is not None:
            return (source.take("eos_token_id", int),), file
    if isinstance(default, tuple):
        return default, "transformers' default"
    if "eos_token_id" in options or default is None:
        return (), "config.json" if "eos_token_id" in options else "transformers' default"
    return (default,), "transformers' default"


def _family(options, about, where):
    """The family: of model_type, or of architectures where there is none."""
    kind, names = options.take("model_type", str, None), options.take("architectures", list, [], of=str)
    of = {}
    for family in FAMILIES.values():
        for name in (family.architecture, *family.other_names):
            of.setdefault(name, family)
    if kind is None and not names:
        raise ValueError("Model type must be there, not missing")
    if kind is None and names[0] in of:
        kind = of[names[0]].model_type
    if kind in _MISSING:
        raise ValueError(f"Model type must be one that this hardware runs, not {shown(kind)}: {_MISSING[kind]}")
    if kind is not None and kind not in FAMILIES:
        raise ValueError(f"Model type must be one of {', '.join(FAMILIES)}, not {shown(kind)}")
    for name in names:
        if name not in of:
            right = (f"one of {', '.join(of)}"
                     if kind is None else f"{FAMILIES[kind].architecture} for model type {kind}")
            raise ValueError(f"Architecture must be {right}, not {shown(name)}")
    others = [name for name in names if name not in (FAMILIES[kind].architecture, *FAMILIES[kind].other_names)]
    if others:
        about.warnings.append(f"{where}: model_type {kind} is taken, and architectures {', '.join(others)} is not, as "
                              "transformers does")
    return FAMILIES[kind]


def _describe(config, generation, name, about, folder):
    """The `_Described` of config.json and generation_config.json: see `shape_from_config`."""
    about = About() if about is None else about
    where = Path(folder) / "config.json"
    options, generation = Options(config), Options(generation or {})
    family = _family(options, about, where)
    options = Options(family.names_in(config))
    for name_of_it in ("model_type", "architectures"):      # `_family` has read them
        options.raw(name_of_it)
    for part in _PARTS:
        if part in options:
            raise ValueError(f"Option {part} must not be there: a model of several parts is not supported")
    for option, (neutral, advice) in _OF_ANY_MODEL.items():
        value = options.raw(option, neutral[0])
        if not any(type(value) is type(other) and value == other for other in neutral):
            raise ValueError(f"Option {option} must be missing, not {shown(value)}: {advice}")
    given = Given(family, options, about, where)
    fields = fields_of(given)
    ends, said = _ends(options, generation, family.defaults["eos_token_id"])
    about.notes["end tokens"] = f"{', '.join(map(str, ends)) or 'none'} ({said})"
    bos = options.take("bos_token_id", int, None) if "bos_token_id" in options else family.defaults["bos_token_id"]
    about.notes["start token"] = f"{'none' if bos is None else bos} ({given.said('bos_token_id')})"
    options.raw("quantization_config")
    # it may be missing, but not null
    default = () if "tie_word_embeddings" in options else (family.defaults["tie_word_embeddings"],)
    tied = options.take("tie_word_embeddings", bool, *default)
    shape = ModelShape(name=name, **fields, tie_word_embeddings=tied and not family.untied, bos_token_id=bos,
                       eos_token_ids=ends)
    unknown = options.left(_GENERATION | _HARMLESS)
    if unknown:
        about.warnings.append(f"{where}: not known for a {family.model_type} model, and without effect here: "
                              f"{', '.join(unknown)}")
    changed = generation.left(_GENERATION)
    if changed:
        about.warnings.append(f"{where.with_name('generation_config.json')}: the sampler does not do: "
                              f"{', '.join(changed)}")
    suggested = [f"{key} {generation.raw(key)}" for key in ("temperature", "top_k", "top_p") if key in generation]
    if suggested:
        about.notes["sampling"] = f"{', '.join(suggested)} is suggested (generation_config.json); see --temperature"
    return _Described(shape, tied, given)


def shape_from_config(config: dict[str, Any], generation: dict[str, Any] | None = None, *, name: str = "model",
                      about: About | None = None, folder: str | Path = "") -> ModelShape:
    """The ModelShape that config.json describes; ``generation`` is generation_config.json, whose end tokens win.

    ``about``, an `About`, gets what was taken from which option, and a warning for options that were not, of the files
    in ``folder``. Raises ValueError or TypeError for what is no model of `FAMILIES`.
    """
    return _describe(config, generation, name, about, folder).shape


def _config(folder, about):
    """(config.json as a dict, `_Described`) of a folder."""
    folder = Path(folder)
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        advice = "merge it into the model that it is for (merge_and_unload of peft)"
        if not (folder / "config.json").exists():
            raise ModelError(f"{adapter}: Folder must be that of a model, not of an adapter alone: {advice}")
        about.warnings.append(f"{adapter}: the adapter is not applied (transformers does it where peft is "
                              f"installed): {advice}")
    config = read_json(folder / "config.json")
    generation = read_json(folder / "generation_config.json", default={})
    try:
        return config, _describe(config, generation, folder.resolve().name, about, folder)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from None


def folder_shape(folder: str | Path, about: About | None = None) -> ModelShape:
    """The ModelShape of a folder that has config.json, if nothing else; ModelError if it is none of a family that is
    read."""
    return _config(folder, About() if about is None else about)[1].shape


def _tables(folder, described, files, about):
    """(`_Described`, {the file's name: the one that is there instead}) of the embedding table and the LM head, as
    transformers 5 ties them.

    Tied by the configuration, but both in the file and different: the model has two tables. Only one in the file: it is
    both. (Version 4 drops the head.)
    """
    embedding, head = map(described.given.family.spelled, (EMBEDDING, HEAD))
    there = [name for name in (embedding, head) if name in files.shapes]
    if not described.tied:
        about.notes["LM head"] = f"{head} (tie_word_embeddings is false)"
        return described, {}
    if there == [head]:
        about.notes["LM head"] = f"{head}, which is the embedding table too (tie_word_embeddings)"
        return described, {embedding: head}
    if len(there) == 2 and (files.shapes[embedding] != files.shapes[head]
                            or not np.array_equal(files.read(embedding), files.read(head))):
        about.notes["LM head"] = f"{head}, which differs from the embedding table"
        about.warnings.append(f"{folder / 'config.json'}: tie_word_embeddings is true, but {head} differs from "
                              f"{embedding}: both are taken, as transformers 5 does")
        return dataclasses.replace(described, tied=False,
                                   shape=dataclasses.replace(described.shape, tie_word_embeddings=False)), {}
    about.notes["LM head"] = "the embedding table (tie_word_embeddings)"
    return described, {}


def load_folder(folder: str | Path, *, need_tokenizer: bool = True) -> Checkpoint:
    """The Checkpoint of a folder in Hugging Face's layout; ModelError if it is none, or none of a family that is
    read."""
    folder, about = Path(folder), About()
    config, described = _config(folder, about)
    try:
        quantization = take(config, "quantization_config", dict, {})
    except TypeError as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from None
    files = Tensors(folder, quantization)
    spelled = described.given.family.spelled
    described.given.family = described.given.family.of_file(files.shapes)
    described, other_names = _tables(folder, described, files, about)
    shape, family = described.shape, described.given.family
    try:
        plan = described.given.plan(shape, tensor_shapes(shape), described.tied)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from None
    found = files.shapes | {name: files.shapes[other] for name, other in other_names.items()}
    # a tied model may carry its LM head all the same
    allowed = (*family.leftover, *([family.spelled(HEAD)] if described.tied else []))
    check_tensors(shape, found, folder, lambda name: name.endswith(allowed) or ignored(name, found),
                  wanted=plan.needs())

    def read(name):
        name = other_names.get(name, name)
        # by the file's name: the machine's may be made from several
        return finite(files.read(name), f"{folder}: tensor {name}")

    tokenizer = None
    if need_tokenizer or (folder / "tokenizer.json").exists():
        tokenizer = Tokenizer.from_folder(folder)
        tokenizer.check_vocabulary(shape.vocab_size, folder / "tokenizer.json")
    checkpoint = Checkpoint(shape, str(folder), lambda name: plan.recipes[name].make(read), tokenizer, about)
    checkpoint.modules = plan.modules(spelled)
    checkpoint.in_blocks = plan.made_of({name for name in plan.needs()
                                         if other_names.get(name, name) in files.in_blocks})
    return checkpoint
