import json

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers

from hwgen.models import ModelError
from hwgen.models.tokenizer import Tokenizer
from model_files import TEMPLATE, byte_tokenizer


def byte_fallback_tokenizer():
    """Of Llama 2's kind: a space before the text, and bytes for letters without a token."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", "b", "▁a"]
    core = tokenizers.Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [("▁", "a")],
                                           unk_token="<unk>", byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      decoders.Strip(" ", 1, 0)])
    core.add_special_tokens(["<s>", "</s>"])
    return core


CORES = {"byte level": byte_tokenizer, "byte fallback": byte_fallback_tokenizer}


@pytest.fixture(params=CORES)
def tokenizer(request):
    return Tokenizer(CORES[request.param]())


@pytest.mark.parametrize("text", ["a b", "日本語 and 😀!", "é", "", "b  a\n a", "\ufffd"])
def test_stream_is_whole_characters(tokenizer, text):
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in tokenizer.encode(text)]
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text
    assert "".join(pieces) + stream.end() == text


def test_stream_of_any_tokens_is_their_decoding():
    tokenizer = Tokenizer(byte_tokenizer())
    rng = np.random.default_rng(1)
    for _ in range(300):
        ids = rng.integers(0, 263, rng.integers(1, 30)).tolist()
        stream = tokenizer.stream()
        assert "".join(map(stream.push, ids)) + stream.end() == tokenizer.decode(ids)


def test_stream_gives_text_at_once(tokenizer):
    stream = tokenizer.stream()
    ids = tokenizer.encode("a日b")
    assert [stream.push(i) for i in ids][-5:] == ["a", "", "", "日", "b"]
    assert stream.end() == ""


def test_special_tokens_are_shown_on_request():
    tokenizer = Tokenizer(byte_tokenizer())
    ids = tokenizer.encode("<s>a</s>")
    assert ids[0] == 1 and ids[-1] == 2
    assert tokenizer.decode(ids) == "a" and tokenizer.decode(ids, special=True) == "<s>a</s>"


def test_chat():
    tokenizer = Tokenizer(byte_tokenizer(), chat_template="{{ bos_token }}" + TEMPLATE, bos_token="<s>")
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]
    assert tokenizer.render_chat(messages) == "<s><|system|>x<|user|>y<|assistant|>"
    assert tokenizer.render_chat("y", add_generation_prompt=False) == "<s><|user|>y"
    assert tokenizer.encode_chat("y")[0] == 1


def chat_refusal(template):
    with pytest.raises(ModelError) as error:
        Tokenizer(byte_tokenizer(), chat_template=template, source="here").render_chat("hi")
    return str(error.value)


def test_chat_refusals():
    assert chat_refusal(None) == "here: Model has no chat template: give the prompt as plain text"
    assert chat_refusal("{{ raise_exception('no') }}") == "here: Chat template failed: no"
    assert chat_refusal("{% if %}").startswith("here: Chat template failed: ")
    assert "unsafe" in chat_refusal("{{ messages.__class__.__mro__ }}")


@pytest.mark.parametrize("stored", ["config", "named", "file"])
def test_template_files(tmp_path, stored):
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    if stored == "file":
        (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    else:
        named = [{"name": "tool_use", "template": "?"}, {"name": "default", "template": TEMPLATE}]
        (tmp_path / "tokenizer_config.json").write_text(
            json.dumps({"chat_template": TEMPLATE if stored == "config" else named}))
    assert Tokenizer.from_folder(tmp_path).render_chat("hi") == "<|user|>hi<|assistant|>"


def test_prompts_are_neither_padded_nor_cut():
    core = byte_tokenizer()
    core.enable_truncation(2)
    core.enable_padding(length=9)
    assert len(Tokenizer(core).encode("abcd")) == 4
