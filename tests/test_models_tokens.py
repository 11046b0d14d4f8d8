"""Tokens of odd strings against what the reference tokenizers made of them (tools/record_tokens.py)."""
import json
import lzma
from pathlib import Path

import pytest

from hwgen.models.gguf_splits import SPLITS
from hwgen.models.gguf_tokenizer import build_tokenizer, end_tokens
from hwgen.models.tokenizer import Tokenizer
from odd_strings import odd_strings

RECORD = json.loads(lzma.decompress((Path(__file__).parent / "tokens.json.xz").read_bytes()))
STRINGS = RECORD["strings"]
FOLDERS, FILES = list(RECORD["folders"]), list(RECORD["gguf"])


def folder_tokenizer(path, kind):
    for name, content in RECORD["folders"][kind]["files"].items():
        (path / name).write_text(json.dumps(content))
    return Tokenizer.from_folder(path)


def fields_of(kind):
    known = RECORD["gguf"]
    fields = known[kind].get("fields") or known["default"]["fields"] | {"tokenizer.ggml.pre": kind}
    return lambda key, *default: fields[key] if key in fields else default[0]


def differing(tokenizer, ids):
    return [text for text, wanted in zip(STRINGS, ids, strict=True) if tokenizer.encode(text) != wanted]


def streamed(tokenizer, ids, after=()):
    stream = tokenizer.stream(after=after)
    return "".join(map(stream.push, ids)) + stream.end()


def test_the_record_is_of_these_strings():
    assert odd_strings() == STRINGS and len(STRINGS) >= 500


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders(tmp_path, kind):
    tokenizer, record = folder_tokenizer(tmp_path, kind), RECORD["folders"][kind]
    assert differing(tokenizer, record["ids"]) == []
    assert [tokenizer.decode(ids) for ids in record["ids"]] == record["texts"]


@pytest.mark.parametrize("kind", FILES)
def test_gguf(kind):
    assert differing(build_tokenizer(fields_of(kind), "here"), RECORD["gguf"][kind]["ids"]) == []
    assert sorted(end_tokens(fields_of(kind))) == RECORD["gguf"][kind]["ends"]


def test_gguf_equals_sentencepiece():
    tokenizer = build_tokenizer(fields_of("sentencepiece"), "here")
    pairs = [(text, ids) for text, ids in zip(STRINGS, RECORD["sentencepiece"], strict=True) if "<" not in text]
    assert len(pairs) > 300
    assert [text for text, ids in pairs if tokenizer.encode(text) != [1, *ids]] == []


def test_each_way_to_split_is_recorded():
    ways = {SPLITS[kind].patterns for kind in FILES if kind in SPLITS}
    assert ways == {splits.patterns for splits in SPLITS.values()}


@pytest.mark.parametrize("kind", FOLDERS)
def test_streamed_is_decoded(tmp_path, kind):
    tokenizer = folder_tokenizer(tmp_path, kind)
    for ids in RECORD["folders"][kind]["ids"]:
        assert streamed(tokenizer, ids) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", FOLDERS)
def test_an_answer_goes_on_where_the_prompt_ends(tmp_path, kind):
    # wherever the cut is: between words, after a special token, within a character
    tokenizer = folder_tokenizer(tmp_path, kind)
    for ids in RECORD["folders"][kind]["ids"][::3]:
        for cut in range(1, len(ids)):
            before, whole = tokenizer.decode(ids[:cut]), tokenizer.decode(ids)
            if not whole.startswith(before):
                before = before.rstrip("\ufffd")
            assert before + streamed(tokenizer, ids[cut:], ids[:cut]) == whole
