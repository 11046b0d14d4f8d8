"""The tokenizer that a GGUF file describes, rebuilt for the tokenizers library."""
from .checkpoint import ModelError
from .tokenizer import Tokenizer

__all__ = ["build_tokenizer"]

# Kinds of tokens in tokenizer.ggml.token_type.
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4

_LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")

# tokenizer.ggml.pre -> how text is split before merging
_GPT2_SPLITS = ("default", "gpt-2")
_DIGIT_SPLITS = ("smollm", "starcoder", "refact", "command-r", "codeshell")
_LLAMA3_SPLITS = ("llama-bpe", "llama3", "llama-v3")


def _byte_level(meta, tokens, path):
    """GPT-2's kind: merges over bytes written as visible characters."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers
    kind = meta("tokenizer.ggml.pre", "default")
    merges = [tuple(merge.split(" ", 1)) for merge in meta("tokenizer.ggml.merges")]
    core = tokenizers.Tokenizer(models.BPE(
        vocab={token: i for i, token in enumerate(tokens)}, merges=merges, ignore_merges=kind in _LLAMA3_SPLITS))
    space = meta("tokenizer.ggml.add_space_prefix", False)
    if kind in _GPT2_SPLITS:
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    elif kind in _DIGIT_SPLITS:
        core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                      pre_tokenizers.ByteLevel(add_prefix_space=space)])
    elif kind in _LLAMA3_SPLITS:
        core.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(tokenizers.Regex(_LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=False)])
    else:
        known = ", ".join(_GPT2_SPLITS + _DIGIT_SPLITS + _LLAMA3_SPLITS)
        raise ModelError(f"{path}: Pre-tokenizer must be one of {known}, not {kind!r}: "
                         "use the model's Hugging Face folder")
    core.decoder = decoders.ByteLevel()
    return core, kind in _LLAMA3_SPLITS


def _pair_merges(tokens, scores):
    """Merges that do what SentencePiece's scores do: of all pairs that make a token, the best scored first."""
    ids = {token: i for i, token in enumerate(tokens)}
    found = []
    for i, token in enumerate(tokens):
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        pairs = sorted((p for p in pairs if p[0] in ids and p[1] in ids), key=lambda p: (ids[p[0]], ids[p[1]]))
        found += [(-scores[i], pair) for pair in pairs]
    return [pair for _, pair in sorted(found, key=lambda item: item[0])]


def _sentence_piece(meta, tokens, kinds):
    """Llama 2's kind: scored pieces with spaces as a visible character, and bytes for what has no piece."""
    import tokenizers
    from tokenizers import decoders, models, normalizers
    unknown = next((token for token, kind in zip(tokens, kinds) if kind == _UNKNOWN), None)
    core = tokenizers.Tokenizer(models.BPE(
        vocab={token: i for i, token in enumerate(tokens)}, merges=_pair_merges(tokens, meta("tokenizer.ggml.scores")),
        unk_token=unknown, fuse_unk=True, byte_fallback=True))
    space = meta("tokenizer.ggml.add_space_prefix", True)
    core.normalizer = normalizers.Sequence([*([normalizers.Prepend("▁")] if space else []),
                                            normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      *([decoders.Strip(" ", 1, 0)] if space else [])])
    return core, True


def build_tokenizer(meta, path):
    """Tokenizer from GGUF metadata; ``meta(key, default)`` gives a field's value."""
    import tokenizers
    from tokenizers.processors import TemplateProcessing
    model = meta("tokenizer.ggml.model", None)
    if model is None:
        raise ModelError(f"{path}: File must have a tokenizer: convert the model again, with its tokenizer")
    if model not in ("gpt2", "llama"):
        raise ModelError(f"{path}: Tokenizer must be gpt2 or llama, not {model!r}")
    tokens = meta("tokenizer.ggml.tokens")
    kinds = meta("tokenizer.ggml.token_type", [1] * len(tokens))
    try:
        core, bos = _byte_level(meta, tokens, path) if model == "gpt2" else _sentence_piece(meta, tokens, kinds)
    except ModelError:
        raise
    except Exception as error:  # the library raises plain Exception, for a merge of no token, say
        raise ModelError(f"{path}: Tokenizer of the file is broken: {error}") from None
    core.add_special_tokens([token for token, kind in zip(tokens, kinds) if kind == _CONTROL])
    core.add_tokens([tokenizers.AddedToken(token, normalized=False)
                     for token, kind in zip(tokens, kinds) if kind == _USER_DEFINED])

    def token(key):
        i = meta(key, None)
        return tokens[i] if i is not None and i < len(tokens) else ""

    start, end = token("tokenizer.ggml.bos_token_id"), token("tokenizer.ggml.eos_token_id")
    if meta("tokenizer.ggml.add_bos_token", bos) and start:
        core.post_processor = TemplateProcessing(
            single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, tokens.index(start))])
    return Tokenizer(core, chat_template=meta("tokenizer.chat_template", None), bos_token=start, eos_token=end,
                     source=path)
