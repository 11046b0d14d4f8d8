"""The tokenizer that a GGUF file describes, rebuilt for the tokenizers library.

What is followed is llama.cpp (``src/llama-vocab.cpp`` and ``common/chat.cpp``, October 2026): what a field means, and
what holds where there is none.
"""
import numbers
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .checkpoint import ModelError
from .gguf_splits import DEFAULT_SPLITS, FIRST_NAMES, SPLITS
from .tokenizer import Tokenizer, library_errors

__all__ = ["build_tokenizer", "end_tokens", "start_token", "unknown_fields"]

# Kinds of tokens in tokenizer.ggml.token_type.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4

#: Tokens that end an answer, known by their text whatever their kind.
_ENDS = frozenset((
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~["))
#: The same for tokens of fill-in-the-middle, where their field is missing.
_FILL_ENDS = {"fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
              "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
              "fim_sep": ("<|file_sep|>",)}
#: Further tokens that are control tokens by their text.
_FILL = frozenset((
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
    "<|prefix|>", "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
    "<|code_suffix|>", "<|suffix|>", "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>",
    "▁<MID>", "<|code_middle|>", "<|middle|>"))
#: Tokens that are always shown.
_SHOWN = frozenset(("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"))

#: Fields that are followed.
_HONOURED = {f"tokenizer.ggml.{name}" for name in (
    "model", "pre", "tokens", "token_type", "scores", "merges", "bos_token_id", "eos_token_id", "eot_token_id",
    "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id", "add_bos_token", "add_eos_token",
    "add_space_prefix"
)} | {"tokenizer.chat_template"}
#: Fields that llama.cpp does not use for these tokenizers, or that change neither tokens nor text.
_HARMLESS = {f"tokenizer.ggml.{name}" for name in (
    "token_type_count", "unknown_token_id", "seperator_token_id", "separator_token_id", "padding_token_id",
    "cls_token_id", "mask_token_id", "fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id", "prefix_token_id",
    "suffix_token_id", "middle_token_id", "add_sep_token", "added_tokens", "normalizer.lowercase",
    "normalizer.strip_accents")
} | {"tokenizer.huggingface.json", "tokenizer.rwkv.world", "tokenizer.chat_templates"}


def unknown_fields(names: Iterable[str]) -> list[str]:
    """Of a file's field names those about the tokenizer that are neither followed nor known to be harmless."""
    return [name for name in names if name.startswith("tokenizer.") and name not in _HONOURED | _HARMLESS
            and not name.startswith("tokenizer.chat_template.")]


def _field(meta, key, fallback, kind, words):
    """A field's value, or ``fallback`` if it is missing; ModelError unless it is a ``kind``."""
    try:
        value = meta(f"tokenizer.{key}", fallback)
    except UnicodeDecodeError:
        raise ModelError(f"{meta.path}: Metadata tokenizer.{key} must be UTF-8: "
                         "the file is damaged, fetch it again") from None
    if value is fallback or isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ModelError(f"{meta.path}: Metadata tokenizer.{key} must be {words}, not {type(value).__name__}")


def _list(meta, key, kind, words, length=None, fallback=None):
    values = _field(meta, key, fallback, list, f"a list of {words}")
    if values is None or values is fallback:
        return values
    if not all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
        raise ModelError(f"{meta.path}: Metadata tokenizer.{key} must be a list of {words}")
    if length is not None and len(values) < length:
        raise ModelError(f"{meta.path}: Metadata tokenizer.{key} must have an entry for each of {length} tokens, "
                         f"not {len(values)}")
    return values


class _Meta:
    """``meta(key, default)`` with the path beside it, for messages."""

    def __init__(self, meta, path):
        self._meta, self.path = meta, path

    def __call__(self, *arguments):
        return self._meta(*arguments)


class _Vocabulary:
    """Tokens and their kinds, as llama.cpp sees them once it has looked at their texts."""

    def __init__(self, meta: Callable[..., Any], path: str | Path) -> None:
        self.meta = meta = _Meta(meta, path)
        self.model = _field(meta, "ggml.model", None, str, "a string")
        if self.model is None:
            raise ModelError(f"{path}: File must have a tokenizer: convert the model again, with its tokenizer")
        if self.model not in ("gpt2", "llama"):
            raise ModelError(f"{path}: Tokenizer must be gpt2 or llama, not {self.model!r}")
        tokens = _list(meta, "ggml.tokens", str, "strings")
        if tokens is None:
            raise ModelError(f"{path}: Metadata tokenizer.ggml.tokens is missing: convert the model again")
        self.tokens = [token or f"[EMPTY_{i}]" for i, token in enumerate(tokens)]
        self.ids = {}
        for i, token in enumerate(self.tokens):
            if self.ids.setdefault(token, i) != i:
                raise ModelError(f"{path}: Tokens must differ from each other: "
                                 f"{token!r} is both {self.ids[token]} and {i}")
        kinds = _list(meta, "ggml.token_type", numbers.Integral, "whole numbers", len(tokens), [_NORMAL] * len(tokens))
        self.kinds = list(kinds[:len(tokens)])
        self.ends = self._ends()

    def special(self, name: str) -> int | None:
        """The id in the field of a special token; without one what llama.cpp takes for SentencePiece's; or None."""
        key = f"ggml.{name}_token_id"
        i = _field(self.meta, key, None, numbers.Integral, "a whole number")
        if i is None:
            i = {"bos": 1, "eos": 2}.get(name) if self.model == "llama" else None
            return i if i is not None and i < len(self.tokens) else None
        if not 0 <= i < len(self.tokens):
            raise ModelError(f"{self.meta.path}: Metadata tokenizer.{key} must be a token's id below "
                             f"{len(self.tokens)}, not {i}")
        return int(i)

    def _ends(self):
        """Ids of the tokens that end an answer; makes them, and others by their text, control tokens."""
        found = [i for name in ("eos", "eot", "eom") if (i := self.special(name)) is not None]
        for name, texts in _FILL_ENDS.items():
            if (i := self.special(name)) is not None:
                found.append(i)
            else:
                by_text = [self.ids[text] for text in texts if text in self.ids]
                found += by_text
                self._make_control(by_text)
        by_text = [i for i, token in enumerate(self.tokens) if token in _ENDS]
        self._make_control(by_text + [i for i, token in enumerate(self.tokens) if token in _FILL])
        ends = dict.fromkeys(found + by_text)
        for text in _SHOWN & self.ids.keys():
            self.kinds[self.ids[text]] = _USER_DEFINED
        there = {self.tokens[i] for i in ends}
        if "<|end|>" in there and ("<|return|>" in there and there & {"<|call|>", "<|calls|>"}
                                   or "<|flush|>" in there and there & {"<|call|>", "<|calls|>"}):
            del ends[self.ids["<|end|>"]]  # one part of an answer ends there, not the answer
            self.kinds[self.ids["<|end|>"]] = _USER_DEFINED
        if {"<|tool_response>", "</s>"} <= there:
            del ends[self.ids["</s>"]]
            self.kinds[self.ids["</s>"]] = _NORMAL
        return tuple(ends)

    def _make_control(self, ids):
        for i in ids:
            self.kinds[i] = _CONTROL

    def strips_right(self, token: str) -> bool:
        """Whether spaces after a special token are left out: Phi-3's, known by the model's name."""
        name = self.meta("general.name", "")
        return isinstance(name, str) and any(phi in name.lower() for phi in ("phi-3", "phi3")) and (
            token not in ("<unk>", "<s>", "<|endoftext|>"))


def end_tokens(meta: Callable[..., Any], path: str | Path = "metadata") -> tuple[int, ...]:
    """Ids of the tokens that end an answer: ``eos``, ``eot``, ``eom`` of the metadata, then those known by their text.

    ``meta`` and ``path`` are as in :func:`build_tokenizer`. A file without a tokenizer has none.
    """
    return () if meta("tokenizer.ggml.tokens", None) is None else _Vocabulary(meta, path).ends


def start_token(meta: Callable[..., Any], path: str | Path = "metadata") -> int | None:
    """The id of the start token, or None."""
    return None if meta("tokenizer.ggml.tokens", None) is None else _Vocabulary(meta, path).special("bos")


def _byte_level(words, warnings):
    """GPT-2's kind: merges over bytes written as visible characters."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers
    meta = words.meta
    kind = _field(meta, "ggml.pre", None, str, "a string")
    if not kind:
        warnings.append(f"{meta.path}: tokenizer.ggml.pre is missing: text is split as llama.cpp does by default, "
                        "which may not be the model's way; convert the model again")
    splits = SPLITS.get(kind) if kind else DEFAULT_SPLITS
    if splits is None:
        raise ModelError(f"{meta.path}: Pre-tokenizer must be one of {', '.join(FIRST_NAMES)}, "
                         f"or a name that means one of them, not {kind!r}: use the model's Hugging Face folder")
    merges = {}
    for rank, merge in enumerate(_list(meta, "ggml.merges", str, "strings") or ()):
        cut = merge.find(" ", 1)
        if cut < 0:
            raise ModelError(f"{meta.path}: Merges must be two parts with a space between, not {merge!r}")
        merges.setdefault((merge[:cut], merge[cut + 1:]), rank)
    if not merges and _list(meta, "ggml.merges", str, "strings") is None:
        raise ModelError(f"{meta.path}: Metadata tokenizer.ggml.merges is missing: convert the model again")
    core = tokenizers.Tokenizer(models.BPE(vocab=words.ids, merges=list(merges), ignore_merges=splits.whole_tokens))
    core.pre_tokenizer = pre_tokenizers.Sequence([
        *(pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in splits.patterns),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    core.decoder = decoders.ByteLevel()
    return core, splits.start, kind or "llama.cpp's default"


def _pair_merges(words, scores, warnings):
    """Merges that do what SentencePiece's scores do: of all pairs that make a token, the best scored first."""
    ids, found, seen, equal = words.ids, [], set(), 0
    for i, token in enumerate(words.tokens):
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        pairs = sorted((p for p in pairs if p[0] in ids and p[1] in ids), key=lambda p: (ids[p[0]], ids[p[1]]))
        if pairs:
            equal += scores[i] in seen
            seen.add(scores[i])
        found += [(-scores[i], pair) for pair in pairs]
    if equal:
        warnings.append(f"{words.meta.path}: {equal} tokens have the score of another: where two of them could be made "
                        "in a text, llama.cpp makes the left one first, and this the first in the file")
    return [pair for _, pair in sorted(found, key=lambda item: item[0])]


def _sentence_piece(words, warnings):
    """Llama 2's kind: scored pieces with spaces as a visible character, and bytes for what has no piece."""
    import tokenizers
    from tokenizers import decoders, models, normalizers
    meta = words.meta
    scores = _list(meta, "ggml.scores", numbers.Real, "numbers", len(words.tokens))
    if scores is None:
        raise ModelError(f"{meta.path}: Metadata tokenizer.ggml.scores is missing: convert the model again")
    missing = [f"<0x{i:02X}>" for i in range(256) if f"<0x{i:02X}>" not in words.ids]
    unknown = next((token for token, kind in zip(words.tokens, words.kinds) if kind == _UNKNOWN), None)
    if missing:
        warnings.append(f"{meta.path}: {len(missing)} tokens for bytes are missing, {missing[0]} the first: "
                        + (f"a character without a token becomes {unknown}" if unknown else
                           "a character without a token is left out"))
    core = tokenizers.Tokenizer(models.BPE(
        vocab=words.ids, merges=_pair_merges(words, scores, warnings), unk_token=unknown, fuse_unk=True,
        byte_fallback=True))
    space = _field(meta, "ggml.add_space_prefix", True, bool, "true or false")
    core.normalizer = normalizers.Sequence([*([normalizers.Prepend("▁")] if space else []),
                                            normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      *([decoders.Strip(" ", 1, 0)] if space else [])])
    return core, True, "SentencePiece"


def build_tokenizer(meta: Callable[..., Any], path: str | Path, names: Iterable[str] = ()) -> Tokenizer:
    """Tokenizer from GGUF metadata.

    Parameters
    ----------
    meta : callable       ``meta(key, default)`` gives a field's value
    path : Path or str    the file, for messages
    names : iterable      the names of all fields, for a warning of those that are not followed
    """
    import tokenizers
    from tokenizers.processors import TemplateProcessing
    warnings = []
    words = _Vocabulary(meta, path)
    meta = words.meta
    with library_errors(f"{path}: Tokenizer of the file is broken", quiet=True):
        core, start_wanted, splitting = (_byte_level if words.model == "gpt2" else _sentence_piece)(words, warnings)
        core.add_special_tokens([
            tokenizers.AddedToken(token, rstrip=words.strips_right(token), normalized=False, special=True)
            for token, kind in zip(words.tokens, words.kinds) if kind in (_CONTROL, _UNKNOWN)])
        core.add_tokens([tokenizers.AddedToken(token, rstrip=words.strips_right(token), normalized=False)
                         for token, kind in zip(words.tokens, words.kinds) if kind == _USER_DEFINED])
        around = {}
        for name, wanted in (("bos", start_wanted), ("eos", False)):
            around[name] = None
            if _field(meta, f"ggml.add_{name}_token", wanted, bool, "true or false"):
                around[name] = words.special(name)
                if around[name] is None:
                    raise ModelError(f"{path}: Metadata tokenizer.ggml.{name}_token_id is missing: "
                                     "a text is to have that token, so the file must say which it is")
        _surround(core, words, around, TemplateProcessing)
    if around["eos"] is not None:
        warnings.append(f"{path}: tokenizer.ggml.add_eos_token is true: each prompt ends with "
                        f"{words.tokens[around['eos']]!r}, as in llama.cpp")
    if not words.ends:
        warnings.append(f"{path}: tokenizer.ggml.eos_token_id is missing, and no token is known as an end by its text: "
                        "a text ends at its number of tokens only")
    unknown = unknown_fields(names)
    if unknown:
        warnings.append(f"{path}: unknown here, and not followed: {', '.join(unknown)[:200]}")

    def text(name):
        i = words.special(name)
        return "" if i is None else words.tokens[i]

    template = _field(meta, "chat_template", None, str, "a string")
    special = sum(kind in (_CONTROL, _UNKNOWN) for kind in words.kinds)
    notes = {"tokenizer": f"{words.model} of the metadata, split as {splitting}",
             "special tokens": f"{special}, and {words.kinds.count(_USER_DEFINED)} user-defined ones",
             "start token": text("bos") or "none",
             "end token": ", ".join(words.tokens[i] for i in words.ends) or "none",
             "chat template": "none" if template is None else "tokenizer.chat_template"}
    return Tokenizer(core, chat_template=template, bos_token=text("bos"), eos_token=text("eos"), source=path,
                     start_around_chat=True, warnings=warnings, notes=notes)


def _surround(core, words, around, template):
    """Put the start and the end token, where there is one, around what is encoded as a text."""
    present = {name: i for name, i in around.items() if i is not None}
    if present:
        single = " ".join([*(["bos"] if "bos" in present else []), "$A", *(["eos"] if "eos" in present else [])])
        core.post_processor = template(
            single=single, pair=f"{single} $B",
            special_tokens=[{"id": name, "ids": [i], "tokens": [words.tokens[i]]} for name, i in present.items()])
