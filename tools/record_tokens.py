"""Record what reference tokenizers make of odd strings, for tests/test_models_tokens.py; or compare others now.

    python -m tools.record_tokens                    # writes tests/tokens.json.xz
    python -m tools.record_tokens --compare PATH...  # folders and GGUF files: hwgen's tokens against the reference's

The references are transformers and sentencepiece (the extra `reference` has the first) and llama.cpp, which is called
through the library in the wheel of xllamacpp 2026.10.11549 (x86-64 Linux). None of them is needed by the tests.
"""
import argparse
import ctypes
import io
import json
import lzma
import re
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.odd_strings import odd_strings

RECORD = Path(__file__).parent.parent / "tests" / "tokens.json.xz"

#: Pre-tokenizers of GGUF that are recorded: one for each way to split.
SPLITS = ("default", "llama-bpe", "smaug-bpe", "qwen2", "qwen35", "ufakzeka", "bailingmoe", "seed-coder", "laguna",
          "minicpm5", "gpt-2", "smollm", "falcon", "deepseek-llm", "deepseek-coder", "deepseek-v3", "tekken", "gpt-4o",
          "jais-2", "exaone-moe", "chameleon", "poro-chat", "viking")
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<think>"]
_LOOKS_SPECIAL = re.compile("|".join(map(re.escape, [*SPECIAL, "<unk>", "<|eot_id|>"])))


def training_text():
    """Other odd strings, without what is to be a special token."""
    return [part for text in odd_strings(3000, 5) for part in _LOOKS_SPECIAL.split(text) if part]


def train_byte_level():
    """(tokens, merges) of a byte-level BPE whose merges go across words, so that each split shows."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    model = json.loads(core.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [list(merge) for merge in model["merges"]]


def train_sentence_piece():
    """A SentencePieceProcessor of Llama's kind."""
    import sentencepiece
    model = io.BytesIO()
    lines = [text for text in training_text() if not set(text) & set("\x00\r\n")]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=600, model_type="bpe", byte_fallback=True,
        character_coverage=.98, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
        num_threads=1)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def byte_level_folder(tokens, merges):
    """name -> content of a folder's files: Llama 3's kind, whose special tokens stand in two files."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, processors
    from hwgen.models.gguf_splits import SPLITS as known
    core = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens + SPECIAL[:1])},
                                           list(map(tuple, merges)), ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(known["llama-bpe"].patterns[0]), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(SPECIAL[:1])
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", len(tokens))])
    added = {len(tokens) + i: {"content": token, "lstrip": token == "<think>", "rstrip": token == "<|user|>",
                               "normalized": False, "single_word": False, "special": token != "<think>"}
             for i, token in enumerate(SPECIAL)}
    return {"tokenizer.json": json.loads(core.to_str()),
            "tokenizer_config.json": {"added_tokens_decoder": added, "bos_token": "<s>", "eos_token": "<|im_end|>",
                                      "tokenizer_class": "PreTrainedTokenizerFast"},
            "config.json": {"model_type": "llama"}}


def sentence_piece_folder(pieces):
    """Llama 2's kind, converted by the tokenizers' own rules: merges in the order of the scores."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, processors
    tokens = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    ids = {token: i for i, token in enumerate(tokens)}
    merges = [(token[:cut], token[cut:]) for token in sorted(tokens[259:], key=lambda t: -pieces.get_score(ids[t]))
              for cut in range(1, len(token)) if token[:cut] in ids and token[cut:] in ids]
    core = tokenizers.Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      decoders.Strip(" ", 1, 0)])
    core.add_special_tokens(["<unk>", "<s>", "</s>"])
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return {"tokenizer.json": json.loads(core.to_str()),
            "tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", "legacy": False, "bos_token": "<s>",
                                      "eos_token": "</s>"},
            "added_tokens.json": {"<|user|>": len(tokens)}, "config.json": {"model_type": "llama"}}


def byte_level_fields(tokens, merges, pre):
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens + SPECIAL,
            "tokenizer.ggml.token_type": [1] * len(tokens) + [3] * 5 + [4],
            "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
            "tokenizer.ggml.bos_token_id": len(tokens), "tokenizer.ggml.eos_token_id": len(tokens) + 1}


def sentence_piece_fields(pieces):
    n = pieces.get_piece_size()
    kinds = [2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else 1
             for i in range(n)]
    return {"tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": [pieces.id_to_piece(i) for i in range(n)] + SPECIAL[2:],
            "tokenizer.ggml.token_type": kinds + [3, 3, 3, 4],
            "tokenizer.ggml.scores": [pieces.get_score(i) for i in range(n)] + [-1000.0] * 4,
            "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}


def write_gguf(path, fields):
    """A GGUF file with a vocabulary and no tensors."""
    import gguf
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, value in fields.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_uint32(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class _Parameters(ctypes.Structure):
    """llama_model_params of llama.cpp at the commit of xllamacpp 2026.10.11549 (include/llama.h)."""

    _fields_ = [("devices", ctypes.c_void_p), ("overrides", ctypes.c_void_p), ("layers", ctypes.c_int32),
                ("modes", ctypes.c_int * 3), ("main", ctypes.c_int32), ("split", ctypes.c_void_p),
                ("progress", ctypes.c_void_p), ("data", ctypes.c_void_p), ("values", ctypes.c_void_p),
                ("vocab_only", ctypes.c_bool), ("flags", ctypes.c_bool * 5)]


class LlamaCpp:
    """llama.cpp's tokenizer of a GGUF file."""

    _library = None

    def __init__(self, path):
        if LlamaCpp._library is None:
            import xllamacpp
            LlamaCpp._library = lib = ctypes.CDLL(str(next(Path(xllamacpp.__path__[0]).glob("*.so"))))
            lib.llama_model_default_params.restype = _Parameters
            lib.llama_model_load_from_file.restype = lib.llama_model_get_vocab.restype = ctypes.c_void_p
            lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _Parameters]
            lib.llama_model_get_vocab.argtypes = lib.llama_vocab_n_tokens.argtypes = [ctypes.c_void_p]
            lib.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p,
                                           ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
            lib.llama_vocab_is_eog.argtypes = [ctypes.c_void_p, ctypes.c_int32]
            lib.llama_vocab_is_eog.restype = ctypes.c_bool
            LlamaCpp._silence = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
            lib.llama_log_set(LlamaCpp._silence, None)
            lib.llama_backend_init()
        parameters = self._library.llama_model_default_params()
        parameters.vocab_only = True
        model = self._library.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            sys.exit(f"llama.cpp does not read {path}")
        self._vocab = self._library.llama_model_get_vocab(model)

    def encode(self, text):
        data = text.encode()
        ids = (ctypes.c_int32 * (2 * len(data) + 8))()
        return list(ids[:self._library.llama_tokenize(self._vocab, data, len(data), ids, len(ids), True, True)])

    def ends(self):
        count = self._library.llama_vocab_n_tokens(self._vocab)
        return [i for i in range(count) if self._library.llama_vocab_is_eog(self._vocab, i)]


def transformers_ids(folder, strings):
    """(ids, text of the ids) of each string."""
    import transformers
    reference = transformers.AutoTokenizer.from_pretrained(str(folder))
    ids = [reference.encode(text) for text in strings]
    return ids, [reference.decode(i, skip_special_tokens=True) for i in ids]


def record():
    strings = odd_strings()
    tokens, merges = train_byte_level()
    pieces = train_sentence_piece()
    folders = {"byte level": byte_level_folder(tokens, merges), "sentencepiece": sentence_piece_folder(pieces)}
    files = {"sentencepiece": sentence_piece_fields(pieces)}
    files |= {pre: byte_level_fields(tokens, merges, pre) for pre in SPLITS}
    out = {"versions": {name: version(name) for name in ("transformers", "tokenizers", "sentencepiece", "xllamacpp")},
           "strings": strings, "folders": {}, "gguf": {}, "sentencepiece": pieces.encode(strings)}
    with tempfile.TemporaryDirectory() as name:
        for kind, files_of in folders.items():
            folder = Path(name) / kind
            folder.mkdir()
            for file, content in files_of.items():
                (folder / file).write_text(json.dumps(content))
            ids, texts = transformers_ids(folder, strings)
            out["folders"][kind] = {"files": files_of, "ids": ids, "texts": texts}
        for kind, fields in files.items():
            path = Path(name) / f"{kind}.gguf"
            write_gguf(path, fields)
            reference = LlamaCpp(path)
            entry = {"fields": fields} if kind in ("sentencepiece", SPLITS[0]) else {}
            out["gguf"][kind] = entry | {"ids": [reference.encode(text) for text in strings], "ends": reference.ends()}
    text = json.dumps(out, ensure_ascii=False, separators=(",", ":"))
    RECORD.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{RECORD.name}: {len(strings)} strings, {len(out['folders'])} folders, {len(out['gguf'])} GGUF, "
          f"{RECORD.stat().st_size} bytes; " + ", ".join(f"{name} {number}"
                                                         for name, number in out["versions"].items()))


def compare(paths):
    """Print how many of the odd strings have the reference's tokens; the exit status."""
    from hwgen.models.gguf_file import _Metadata, _read
    from hwgen.models.gguf_tokenizer import build_tokenizer, end_tokens
    from hwgen.models.tokenizer import Tokenizer
    strings, bad = odd_strings(3000, 7), 0
    for path in map(Path, paths):
        if path.is_dir():
            ours, (ids, _) = Tokenizer.from_folder(path), transformers_ids(path, strings)
            ends = ""
        else:
            reader = _read(path)
            meta, reference = _Metadata(reader.fields, path), LlamaCpp(path)
            ours, ids = build_tokenizer(meta, path, reader.fields), [reference.encode(text) for text in strings]
            ends = f", end tokens {'equal' if sorted(end_tokens(meta)) == reference.ends() else 'DIFFERENT'}"
        wrong = [text for text, i in zip(strings, ids) if ours.encode(text) != i]
        print(f"{path}: {len(strings) - len(wrong)} of {len(strings)} strings equal{ends}")
        for text in wrong[:3]:
            print(f"  {text!r}")
        bad += bool(wrong) or ends.endswith("DIFFERENT")
    return bool(bad)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compare", nargs="+", metavar="PATH")
    options = parser.parse_args()
    return compare(options.compare) if options.compare else record()


if __name__ == "__main__":
    sys.exit(main())
