"""Tokenizers as classes of transformers make them anew from a tokenizer.json: ``tokenization_*.py`` of version 5.24."""
from typing import TYPE_CHECKING, Any

from .checkpoint import ModelError

if TYPE_CHECKING:
    import tokenizers

    from .tokenizer_folder import _Files

__all__ = ["differ", "made_anew", "warn_of_class"]

_QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
#: What the classes split differently from the tokenizer.json of their models, if they do.
_PROBES = ("Hello  world, it's the 12345th quick brown fox that jumps\n\n  x.", "日本語 é")


def made_anew(name: str, core: "tokenizers.Tokenizer", layout: dict[str, Any], files: "_Files",
              named: "dict[str, tokenizers.AddedToken]") -> "tokenizers.Tokenizer":
    """The tokenizer as a class of transformers makes it: vocabulary, merges and post-processor of tokenizer.json."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers
    model = layout["model"]
    if model.get("type", "BPE") != "BPE":
        raise ModelError(f"{files.folder / 'tokenizer.json'}: Model must be BPE for tokenizer class {name}, "
                         f"not {model.get('type')}")
    merges: list[Any] = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
                         for merge in model.get("merges", [])]
    code = name == "CodeLlamaTokenizer"
    llama = code or name == "LlamaTokenizer"
    space = files.flag("add_prefix_space", llama)
    options: dict[str, Any] = {"fuse_unk": True, "byte_fallback": True} if llama else {
        "continuing_subword_prefix": "", "end_of_word_suffix": ""}
    if code:
        options["unk_token"] = named["unk_token"].content if "unk_token" in named else "None"
    new = tokenizers.Tokenizer(models.BPE(vocab=model["vocab"], merges=merges, **options))
    if llama:
        scheme = ("always" if not code and files.flag("legacy", False) else "first") if space else "never"
        new.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
        new.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                         *([decoders.Strip(content=" ", left=1)] if space or code else [])])
    else:
        new.decoder = decoders.ByteLevel()
        if name == "GPT2Tokenizer":
            new.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
        else:
            new.normalizer = normalizers.NFC()
            new.pre_tokenizer = pre_tokenizers.Sequence([
                pre_tokenizers.Split(tokenizers.Regex(_QWEN2), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=False)])
    if core.post_processor is not None:
        new.post_processor = core.post_processor
    return new


def differ(one: "tokenizers.Tokenizer", other: "tokenizers.Tokenizer", text: str) -> bool:
    return one.encode(text, add_special_tokens=False).ids != other.encode(text, add_special_tokens=False).ids


def warn_of_class(name: str, as_it_is: "tokenizers.Tokenizer", core: "tokenizers.Tokenizer", files: "_Files") -> None:
    """A warning if the class's tokenizer splits a text otherwise than tokenizer.json does."""
    for text in _PROBES:
        if differ(as_it_is, core, text):
            files.warnings.append(
                f"{files.path}: class {name} replaces the splitting of tokenizer.json, as in transformers 5: {text!r} "
                "has other tokens; class PreTrainedTokenizerFast would take the file as it is")
            return
