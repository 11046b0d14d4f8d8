import json
import os
import time

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from hwgen.models import ModelError
from hwgen.models.gguf_tokenizer import build_tokenizer, end_tokens, unknown_fields
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


def folder_tokenizer(path, config=None, **files):
    """Of a folder with byte_tokenizer's tokenizer.json; ``special_tokens_map={...}`` is the content of another file."""
    if not (path / "tokenizer.json").exists():
        byte_tokenizer().save(str(path / "tokenizer.json"))
    for name, content in {"tokenizer_config": config, **files}.items():
        if content is not None:
            (path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return Tokenizer.from_folder(path)


def added(content, **fields):
    flags = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized"), False)
    return {"content": content, "special": True} | flags | fields


# where a special token can stand besides tokenizer.json: each case is the files' contents
SPECIAL_FILES = {
    "added_tokens_decoder": ({"added_tokens_decoder": {"265": added("<|im|>")}}, {}),
    "added_tokens.json": (None, {"added_tokens": {"<|im|>": 265}}),
    "eos_token": ({"eos_token": "<|im|>"}, {}),
    "additional": ({"additional_special_tokens": ["<|im|>"]}, {}),
    "extra": ({"extra_special_tokens": [{"__type": "AddedToken", "content": "<|im|>"}]}, {}),
    "named extra": ({"extra_special_tokens": {"turn_token": "<|im|>"}}, {}),
    "own name": ({"turn_token": "<|im|>"}, {}),
    "special_tokens_map.json": (None, {"special_tokens_map": {"eos_token": added("<|im|>")}}),
    "additional of special_tokens_map.json": (None, {"special_tokens_map": {"additional_special_tokens": ["<|im|>"]}})}


@pytest.mark.parametrize("case", SPECIAL_FILES)
def test_special_tokens_of_all_files(tmp_path, case):
    config, files = SPECIAL_FILES[case]
    tokenizer = folder_tokenizer(tmp_path, config, **files)
    assert tokenizer.encode("a<|im|>")[1:] == [265]
    assert tokenizer.decode([265]) == "" or case == "added_tokens.json"  # there no file says that it is special


def test_options_of_added_tokens_survive(tmp_path):
    decoder = {"265": added("<l>", lstrip=True), "266": added("<r>", rstrip=True),
               "267": added("<w>", single_word=True), "268": added("<n>", special=False)}
    tokenizer = folder_tokenizer(tmp_path, {"added_tokens_decoder": decoder})
    space, letter = tokenizer.encode(" "), tokenizer.encode("a")
    assert tokenizer.encode("a <l>") == [*letter, 265] and tokenizer.encode("<l> ") == [265, *space]
    assert tokenizer.encode("<r> a") == [266, *letter]
    assert 267 not in tokenizer.encode("a<w>a") and 267 in tokenizer.encode("a <w> a")
    assert tokenizer.decode([265, 268]) == "<n>"


def test_a_token_that_is_named_twice(tmp_path):
    # as transformers 5.24 has them: a string in a list takes the name's options away, special_tokens_map.json the name
    named = {"eos_token": added("<x>", lstrip=True, __type="AddedToken")}
    for extra, pieces in (([], ["a", "<x>"]), (["<x>"], ["a", "Ġ", "<x>"])):
        tokenizer = folder_tokenizer(tmp_path, named | {"additional_special_tokens": extra})
        assert [tokenizer._core.id_to_token(i) for i in tokenizer.encode("a <x>")] == pieces
    for bos, text in (("<y>", "a"), ("<s>", "a<y>")):
        tokenizer = folder_tokenizer(tmp_path, {"bos_token": "<y>"}, added_tokens={"<y>": 265},
                                     special_tokens_map={"bos_token": bos})
        assert tokenizer.decode(tokenizer.encode("a<y>")) == text


def test_a_template_has_the_special_tokens_of_all_files(tmp_path):
    template = "{{ bos_token }}|{{ pad_token }}|{{ turn_token }}|{{ sep_token is defined }}"
    tokenizer = folder_tokenizer(tmp_path, {"chat_template": template, "turn_token": "<t>"},
                                 special_tokens_map={"bos_token": "<s>", "pad_token": added("</s>")})
    assert tokenizer.render_chat("hi") == "<s>|</s>|<t>|False"


def test_classes_that_make_the_tokenizer_anew(tmp_path):
    # transformers 5 takes GPT-2's splitting for this class, whatever tokenizer.json says
    core = byte_tokenizer()
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split("h", "isolated"), core.pre_tokenizer])
    core.save(str(tmp_path / "tokenizer.json"))
    plain = folder_tokenizer(tmp_path, {"tokenizer_class": "PreTrainedTokenizerFast"})
    anew = folder_tokenizer(tmp_path, {"tokenizer_class": "GPT2Tokenizer"})
    assert len(plain.encode("the")) == 3 and len(anew.encode("the")) == 1
    assert plain.warnings == [] and "class GPT2Tokenizer replaces the splitting of tokenizer.json" in anew.warnings[0]
    byte_fallback_tokenizer().save(str(tmp_path / "tokenizer.json"))
    for legacy, pieces in ((True, ["▁a", "</s>", "▁a"]), (False, ["▁a", "</s>", "a"])):
        tokenizer = folder_tokenizer(tmp_path, {"tokenizer_class": "LlamaTokenizer", "legacy": legacy})
        assert [tokenizer._core.id_to_token(i) for i in tokenizer.encode("a</s>a")] == pieces
    assert tokenizer.notes["tokenizer"] == ("tokenizer.json, made anew as LlamaTokenizer, "
                                            "which splits otherwise behind a special token")
    assert tokenizer.warnings == []


# options of CodeLlamaTokenizer -> text -> what transformers 5.24 makes of it, and how it decodes that
CODE_LLAMA = [
    ({"legacy": True}, {
        "a</s>a": (["<s>", "▁a", "</s>", "a"], "aa"),
        "a▁<PRE>b▁<SUF>": (["<s>", "▁a", "▁<PRE>", "b", "▁<SUF>"], "ab")}),
    ({"add_prefix_space": False, "bos_token": None, "prefix_token": "<pre>", "eot_token": None, "fill_token": None}, {
        "a</s>a": (["a", "</s>", "a"], "aa"), " a": (["▁a"], "a"),
        "a<pre>b▁<PRE>": (["a", "<pre>", "b", "▁<PRE>"], "ab"),
        "▁<EOT>": (["▁", *(f"<0x{byte:02X}>" for byte in b"<EOT>")], "<EOT>"),
        "<FILL_ME>": ([f"<0x{byte:02X}>" for byte in b"<FILL_ME>"], "<FILL_ME>")})]


@pytest.mark.parametrize("options, texts", CODE_LLAMA, ids=["defaults", "options"])
def test_code_llama(tmp_path, options, texts):
    byte_fallback_tokenizer().save(str(tmp_path / "tokenizer.json"))
    tokenizer = folder_tokenizer(tmp_path, options | {"tokenizer_class": "CodeLlamaTokenizerFast"})
    ids = {text: tokenizer.encode(text) for text in texts}
    assert {text: ([tokenizer._core.id_to_token(i) for i in ids[text]], tokenizer.decode(ids[text]))
            for text in texts} == texts
    assert len(tokenizer.warnings) == ("add_prefix_space" in options)  # that splits otherwise than tokenizer.json


def test_code_llama_fills_nothing_in(tmp_path):
    byte_fallback_tokenizer().save(str(tmp_path / "tokenizer.json"))
    # the default stands for it whatever the string here, which is one more special token
    tokenizer = folder_tokenizer(tmp_path, {"tokenizer_class": "CodeLlamaTokenizer", "fill_token": "<fill>"})
    assert tokenizer._core.id_to_token(tokenizer.encode("a<fill>")[-1]) == "<fill>"
    assert refusal(tokenizer.encode, "a<FILL_ME>b") == (
        f"{tmp_path / 'tokenizer.json'}: Text must be without '<FILL_ME>', which stands for infilling: "
        "write the model's tokens for it instead")


def test_warnings_name_what_is_not_followed(tmp_path):
    tokenizer = folder_tokenizer(tmp_path, {
        "do_lower_case": True, "bos_token": "<s>", "add_bos_token": True, "model_max_length": 9, "vocab_size": 49152,
        "added_tokens_decoder": {"300": added("<x>")}, "add_prefix_space": True})
    path = tmp_path / "tokenizer_config.json"
    assert tokenizer.warnings == [
        f"{path}: unknown here, and not followed: do_lower_case",
        f"{path}: token '<x>' has id 265, as in transformers, not 300 as it says",
        f"{path}: option add_bos_token is true, and not followed, as in transformers 5: "
        "the post-processor of tokenizer.json decides",
        f"{path}: option add_prefix_space is true, and not followed, as in transformers 5: tokenizer.json decides"]
    assert tokenizer.notes["start token's text"] == "<s>" and tokenizer.notes["chat template"] == "none"


def test_added_tokens_above_the_embedding_table(tmp_path):
    tokenizer = folder_tokenizer(tmp_path, {"pad_token": "<pad>"})
    tokenizer.check_vocabulary(265, "here")
    assert tokenizer.warnings == ["here: 1 added tokens, '<pad>' the first, have no row in the model's embedding table "
                                  "of 265: a text with one is refused"]
    assert tokenizer.encode("a") and refusal(tokenizer.encode, "<pad>").endswith(
        "must be below the model's vocabulary size 265, not 265 ('<pad>'): the model has no such token")


def refusal(function, *arguments, **options):
    with pytest.raises(ModelError) as error:
        function(*arguments, **options)
    line = str(error.value)
    assert "\n" not in line and len(line) < 500
    return line


# contents of tokenizer_config.json that are refused -> words of the sentence
WRONG_CONFIGS = {
    "[]": "File must be a JSON object, not []",
    '{"bos_token": "<s>", "bos_token": "</s>"}': "File must be JSON (key 'bos_token' stands twice",
    "[" * 99999: "File must be JSON (",
    '{"chat_template": 5}': "Chat template must be a string, not a number",
    '{"chat_template": [{"name": 5}]}': "Option chat_template must be a string, or a list of objects with ",
    '{"bos_token": []}': "Token bos_token must be a string or an object with its content, not a list",
    '{"bos_token": "\\ud800"}': "File must be JSON (half of a surrogate pair)",
    '{"added_tokens_decoder": []}': "Option added_tokens_decoder must be an object, not a list",
    '{"added_tokens_decoder": {"-1": {"content": "x"}}}': "Token ids must be whole numbers from 0 to 2147483647, ",
    '{"added_tokens_decoder": {"1.5": {"content": "x"}}}': "Token ids must be whole numbers from 0 to 2147483647, ",
    '{"added_tokens_decoder": {"9": {"content": "x", "lstrip": 1}}}': "Token 9 must have true or false as lstrip, ",
    '{"extra_special_tokens": "x"}': "Option extra_special_tokens must be a list or an object, not a string",
    '{"tokenizer_class": 1}': "Option tokenizer_class must be a string, not a number",
    '{"tokenizer_class": "GemmaTokenizer"}': "Tokenizer class must be LlamaTokenizer, GPT2Tokenizer, ",
    '{"auto_map": {}, "tokenizer_class": "OwnTokenizer"}': "Option auto_map must be absent: the tokenizer ",
    '{"split_special_tokens": 3}': "Option split_special_tokens must be true or false, not a number",
    '{"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}': "Option fast_tokenizer_files must name tokenizer.json alone"}


@pytest.mark.parametrize("config", WRONG_CONFIGS, ids=lambda text: text[:60])
def test_wrong_configs(tmp_path, config):
    line = refusal(folder_tokenizer, tmp_path, config)
    assert line.startswith(f"{tmp_path / 'tokenizer_config.json'}: ") and WRONG_CONFIGS[config] in line


@pytest.mark.parametrize("name, content", [
    ("tokenizer.json", b"\xff{}"), ("tokenizer.json", b"{}"), ("chat_template.jinja", b"\xff"),
    ("added_tokens.json", b'{"x": "y"}'), ("special_tokens_map.json", b"3"), ("config.json", b"[1]")])
def test_wrong_files(tmp_path, capfd, name, content):
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / name).write_bytes(content)
    assert refusal(Tokenizer.from_folder, tmp_path).startswith(f"{tmp_path / name}: ")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json",
                                  "special_tokens_map.json",
                                  "chat_template.jinja"])
def test_what_is_in_a_tokenizers_files_place_is_named(tmp_path, name):
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / name
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 17209920\n")
    assert refusal(Tokenizer.from_folder, tmp_path).startswith(f"{path}: File must be the content itself, not a Git "
                                                               f"LFS pointer")
    path.unlink()
    os.mkfifo(path)     # to open it would wait for ever
    assert refusal(Tokenizer.from_folder,
                   tmp_path) == f"{path}: File must be a regular file, not a pipe, a socket or a device"


@pytest.mark.parametrize("part", [
    {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    {"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
                        "pair": [], "special_tokens": {}}}], ids=list)
def test_a_panic_of_the_library_is_a_refusal(tmp_path, capfd, part):
    layout = json.loads(byte_tokenizer().to_str()) | part
    line = refusal(folder_tokenizer, tmp_path, tokenizer=layout)
    assert line.startswith(f"{tmp_path / 'tokenizer.json'}: File must be a tokenizer of the tokenizers library (")
    assert capfd.readouterr().err == ""


def test_dropout_is_refused(tmp_path):
    layout = json.loads(byte_tokenizer().to_str())
    layout["model"]["dropout"] = 0.1
    assert "Option dropout must be null, not 0.1" in refusal(folder_tokenizer, tmp_path, tokenizer=layout)


# templates that see what transformers gives them -> their text
TEMPLATES = {
    "{% if tools is not none %}T{% endif %}{% if documents is not none %}D{% endif %}-": "-",
    "{{ messages|tojson(ensure_ascii=true, separators=(',', ':'), sort_keys=true) }}":
        '[{"content":"h\\u00e9","role":"user"}]',
    "{{ messages[0]|tojson }}": '{"role": "user", "content": "hé"}',
    "{% generation %}{{ messages[0].content }}{% endgeneration %}": "hé",
    "{{ strftime_now('%Y')|length }}": "4",
    "{% for m in messages %}{% break %}{% endfor %}{{ eos_token is defined }}": "True"}


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_see_what_transformers_gives_them(template):
    messages = [{"role": "user", "content": "hé", "tool_calls": None}]
    assert Tokenizer(byte_tokenizer(), chat_template=template).render_chat(messages) == TEMPLATES[template]


@pytest.mark.parametrize("template", [
    "{{ 1 / 0 }}", "{{ 'a' + 1 }}", "{{ messages[0].content.foo.bar }}", "{{ '\\ud800' }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ [1]|tojson(indent=[]) }}", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{{ messages[0].content * 99 }}{% endfor %}", "{{ 'a' * 9999999999 }}",
    "{{ 9 ** 999999999 }}", "{{ 'a' * 3000000 }}",
    "{% set n = namespace(x='abcd') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"])
def test_templates_that_fail(template):
    began = time.monotonic()
    assert chat_refusal(template).startswith("here: Chat template failed: ")
    assert time.monotonic() - began < 10  # they are stopped, whatever the machine


def gguf_fields(**fields):
    """``meta`` of a small byte-level tokenizer, with fields of tokenizer.ggml changed; None leaves one out."""
    core = byte_tokenizer()
    ids = core.get_vocab()
    values = {"model": "gpt2", "pre": "gpt-2", "tokens": sorted(ids, key=ids.get) + ["<|eot_id|>", "<|im_end|>", "<x>"],
              "token_type": [2, 3, 3] + [1] * (len(ids) - 3) + [3, 1, 4],
              "merges": ["t h", "th e", "Ġ the", "e r", "i n", "Ã ©"], "bos_token_id": 1, "eos_token_id": 2} | fields
    values = {f"tokenizer.ggml.{name}": value for name, value in values.items() if value is not None}
    return lambda key, *default: values[key] if key in values else default[0]


def test_gguf_end_tokens_are_known_by_their_text():
    assert end_tokens(gguf_fields()) == (2, 265, 266)
    assert end_tokens(gguf_fields(eos_token_id=5, eot_token_id=6)) == (5, 6, 2, 265, 266)
    tokenizer = build_tokenizer(gguf_fields(), "here")
    assert tokenizer.decode([266, 267]) == "<x>"  # what ends an answer is a control token, whatever its type says
    assert tokenizer.notes["end token"] == "</s>, <|eot_id|>, <|im_end|>"


def with_tokens(*tokens):
    known = gguf_fields()("tokenizer.ggml.tokens")
    return gguf_fields(tokens=known[:265] + list(tokens), token_type=[2, 3, 3] + [1] * (262 + len(tokens)))


def test_gguf_end_tokens_of_parts_of_an_answer():
    assert end_tokens(with_tokens("<|end|>", "<|return|>")) == (2, 265, 266)
    assert end_tokens(with_tokens("<|end|>", "<|return|>", "<|call|>")) == (2, 266, 267)
    assert end_tokens(with_tokens("<|tool_response>", "<turn|>")) == (265, 266)


def test_gguf_without_a_pre_tokenizer():
    tokenizer = build_tokenizer(gguf_fields(pre=None), "here")
    assert tokenizer.warnings == ["here: tokenizer.ggml.pre is missing: text is split as llama.cpp does by default, "
                                  "which may not be the model's way; convert the model again"]
    pieces = [piece for piece, _ in tokenizer._core.pre_tokenizer.pre_tokenize_str("a+12345b")]
    assert pieces == ["a", "+", "123", "45", "b"]  # GPT-2's would be a, +, 12345, b
    assert build_tokenizer(gguf_fields(pre="default"), "here").warnings == []


def test_gguf_start_and_end_around_a_text_and_a_chat():
    meta = gguf_fields(add_bos_token=True, add_eos_token=True)
    tokenizer = build_tokenizer(meta, "here")
    assert tokenizer.encode("a")[0::2] == [1, 2] and "each prompt ends with '</s>'" in tokenizer.warnings[0]
    plain = build_tokenizer(gguf_fields(add_bos_token=True), "here")
    for template in ("{{ bos_token }}a", "a"):  # llama.cpp puts the start token whether the template does or not, once
        plain.chat_template = template
        assert plain.encode_chat("hi") == plain.encode("a") == [1, *plain.encode("a", special=False)]


WRONG_FIELDS = {
    "tokens": ({"tokens": [1, 2]}, "tokenizer.ggml.tokens must be a list of strings"),
    "twice": ({"tokens": ["a", "a"]}, "Tokens must differ from each other: 'a' is both 0 and 1"),
    "types": ({"token_type": [1.5] * 300}, "tokenizer.ggml.token_type must be a list of whole numbers"),
    "few types": ({"token_type": [1]}, "tokenizer.ggml.token_type must have an entry for each of 268 tokens, not 1"),
    "merges": ({"merges": ["th"]}, "Merges must be two parts with a space between, not 'th'"),
    "no merges": ({"merges": None}, "tokenizer.ggml.merges is missing"),
    "merge of no token": ({"merges": ["q q"]}, "Tokenizer of the file is broken ("),
    "id": ({"eos_token_id": 268}, "tokenizer.ggml.eos_token_id must be a token's id below 268, not 268"),
    "negative": ({"bos_token_id": -1}, "tokenizer.ggml.bos_token_id must be a token's id below 268, not -1"),
    "flag": ({"add_bos_token": 1}, "tokenizer.ggml.add_bos_token must be true or false, not int"),
    "no start": ({"pre": "llama-bpe", "bos_token_id": None}, "tokenizer.ggml.bos_token_id is missing"),
    "scores": ({"model": "llama"}, "tokenizer.ggml.scores is missing"),
    "pre": ({"pre": "kimi-k2"}, "Pre-tokenizer must be one of default, "),
    "model": ({"model": "bert"}, "Tokenizer must be gpt2 or llama, not 'bert'")}


@pytest.mark.parametrize("case", WRONG_FIELDS)
def test_wrong_gguf_fields(case):
    fields, words = WRONG_FIELDS[case]
    line = refusal(build_tokenizer, gguf_fields(**fields), "here")
    assert line.startswith("here: ") and words in line


def test_gguf_fields_that_are_not_followed():
    names = ["llama.x", "tokenizer.ggml.pre", "tokenizer.ggml.suppress_tokens", "tokenizer.chat_template.tool_use"]
    assert unknown_fields(names) == ["tokenizer.ggml.suppress_tokens"]
    assert build_tokenizer(gguf_fields(), "here", names).warnings == [
        "here: unknown here, and not followed: tokenizer.ggml.suppress_tokens"]


def test_an_answer_keeps_the_space_before_its_first_word():
    tokenizer = Tokenizer(byte_fallback_tokenizer())
    prompt, answer = tokenizer.encode("b a"), tokenizer.encode("a b")
    stream = tokenizer.stream(after=prompt)
    assert "".join(map(stream.push, answer)) + stream.end() == " a b"
    stream = tokenizer.stream(after=[1, 2])  # of a chat only special tokens stand before it, and these are not shown
    assert "".join(map(stream.push, answer)) + stream.end() == "a b"


def test_gguf_words_that_are_tokens_need_no_merges():
    tokens = gguf_fields()("tokenizer.ggml.tokens")[:265] + ["xyz"]
    types = [2, 3, 3] + [1] * 263

    def count(pre):
        tokenizer = build_tokenizer(gguf_fields(pre=pre, tokens=tokens, token_type=types), "here")
        return len(tokenizer.encode("xyz", special=False))

    assert {pre: count(pre) for pre in ("llama-bpe", "tekken", "smaug-bpe", "gpt-2")} == {"llama-bpe": 1, "tekken": 1,
                                                                                          "smaug-bpe": 3, "gpt-2": 3}
