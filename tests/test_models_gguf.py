import dataclasses
import re
from pathlib import Path

import gguf
import numpy as np
import pytest

from hwgen.models import ModelError, load, random_checkpoint
from hwgen.params.model import DivisorRopeScaling, LinearRopeScaling, Llama3RopeScaling, ModelShape
from model_files import TEMPLATE, byte_tokenizer, refusal

#: Block types of GGUF need inputs in multiples of 32.
SHAPE = ModelShape(name="small", vocab_size=270, hidden_size=96, intermediate_size=128, num_hidden_layers=2,
                   num_attention_heads=4, num_key_value_heads=2, head_dim=24, rms_norm_eps=1e-5, rope_theta=5e4,
                   max_position_embeddings=128, bos_token_id=1, eos_token_ids=(2,))

NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[part]}.weight"
    return NAMES[stem] + ".weight"


def permuted(weights, heads):
    """Rows as the converters of llama.cpp order them."""
    n, k = weights.shape
    return weights.reshape(heads, 2, n // heads // 2, k).swapaxes(1, 2).reshape(n, k)


def byte_level_fields(writer):
    core = byte_tokenizer()
    ids = core.get_vocab()
    tokens = sorted(ids, key=ids.get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([2, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["t h", "th e", "Ġ the", "e r", "i n", "Ã ©"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)


def write_gguf(path, kind="F32", *, shape=SHAPE, skip=(), arch="llama", extra=(), factors=None,
               fields=lambda writer: None, tokenizer=byte_level_fields):
    checkpoint = random_checkpoint(shape)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(shape.max_position_embeddings)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.num_hidden_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_attention_heads)
    writer.add_head_count_kv(shape.num_key_value_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)
    fields(writer)
    tokenizer(writer)
    kind = gguf.GGMLQuantizationType[kind]
    stored = {}
    for name in checkpoint.names():
        if name in skip:
            continue
        values = checkpoint.tensor(name)
        heads = {"q_proj": shape.num_attention_heads, "k_proj": shape.num_key_value_heads}.get(name.split(".")[-2])
        packed = permuted(values, heads) if heads else values
        if values.ndim == 1:
            writer.add_tensor(gguf_name(name), packed)
            stored[name] = values
            continue
        data = gguf.quants.quantize(packed, kind)
        writer.add_tensor(gguf_name(name), data, raw_dtype=kind)
        stored[name] = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", np.asarray(factors, np.float32))
    for name, values in dict(extra).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "MXFP4"])
def test_tensors(tmp_path, kind):
    path = tmp_path / "small.gguf"
    stored = write_gguf(path, kind)
    checkpoint = load(path)
    assert checkpoint.shape == SHAPE
    for name, values in stored.items():
        assert (checkpoint.tensor(name) == values).all(), name
    assert checkpoint.in_blocks == ({name for name, values in stored.items() if values.ndim == 2}
                                    if kind == "MXFP4" else set())


def test_tied_without_output(tmp_path):
    write_gguf(tmp_path / "m.gguf", skip=("lm_head.weight",))
    checkpoint = load(tmp_path / "m.gguf")
    assert checkpoint.shape.tie_word_embeddings
    assert checkpoint.tensor("lm_head.weight").shape == (270, 96)


def test_llama3_scaling_from_divisors(tmp_path):
    scaling = Llama3RopeScaling(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                original_max_position_embeddings=8192)
    plain = SHAPE.rope_frequencies()
    write_gguf(tmp_path / "m.gguf", factors=plain / scaling.apply(plain))
    assert load(tmp_path / "m.gguf").shape.rope_scaling == scaling


@pytest.mark.parametrize("original, said", [(4096, 4096), (8192, None)])
def test_llama3_scaling_of_another_context(tmp_path, original, said):
    """GGUF does not keep the original context of a llama3 scaling: the divisors count, and they are the same."""
    scaling = Llama3RopeScaling(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                original_max_position_embeddings=original)
    plain = SHAPE.rope_frequencies()
    write_gguf(tmp_path / "m.gguf", factors=plain / scaling.apply(plain),
               fields=lambda writer: said and writer.add_uint32("llama.rope.scaling.original_context_length", said))
    assert load(tmp_path / "m.gguf").shape.rope_scaling == scaling


def rope_of(path, kind=None, numbers=(), **more):
    """RoPE scaling of a file with such fields behind llama.rope."""
    def fields(writer):
        if kind:
            writer.add_string("llama.rope.scaling.type", kind)
        for key, value in dict(numbers).items():
            writer.add_float32(f"llama.rope.{key}", value)
    write_gguf(path, fields=fields, **more)
    return load(path).shape.rope_scaling


def test_rope_scaling_is_llama_cpps(tmp_path):
    """A factor without a type is linear, its old name counts, 0 is not given, of type none it counts for nothing;
    divisors count beside it."""
    path, four = tmp_path / "m.gguf", {"scaling.factor": 4.0}
    assert rope_of(path, None, four) == LinearRopeScaling(factor=4.0)
    assert rope_of(path, "linear", four) == LinearRopeScaling(factor=4.0)
    assert rope_of(path, "none", four) is None
    assert rope_of(path, None, {"scale_linear": 2.0}) == LinearRopeScaling(factor=2.0)
    assert rope_of(path, None, {"scale_linear": 2.0} | four) == LinearRopeScaling(factor=4.0)
    assert rope_of(path, None, {"scaling.factor": 0.0}) is None
    divisors = np.linspace(1, 32, 12).astype(np.float32)
    assert rope_of(path, factors=divisors) == DivisorRopeScaling(divisors=tuple(map(float, divisors)))
    assert rope_of(path, None, four, factors=divisors) == DivisorRopeScaling(divisors=tuple(map(float, divisors)),
                                                                             factor=4.0)
    assert rope_of(path, "none", four, factors=divisors).factor == 1
    with pytest.raises(ModelError, match="RoPE scaling must be none, linear, yarn or llama3, not 'dynamic'"):
        rope_of(path, "dynamic", four)
    with pytest.raises(ModelError,
                       match="RoPE scaling must be none or linear beside tensor rope_freqs.weight, not yarn"):
        rope_of(path, "yarn", four, factors=divisors)
    with pytest.raises(ModelError, match="Tensor rope_freqs.weight must have 12 numbers, not \\[11\\]"):
        rope_of(path, factors=divisors[1:])
    with pytest.raises(ModelError, match="RoPE divisor must be a positive finite number, not -1"):
        rope_of(path, factors=-divisors)


@pytest.mark.parametrize("name, add, value, neutral", [
    ("attention.causal", "bool", False, True), ("rope.scaling.attn_factor", "float32", 1.25, 1.0),
    ("attention.clamp_kqv", "float32", 8.0, 0.0), ("attention.scale", "float32", 0.5, 24**-0.5),
    ("logit_scale", "float32", 0.5, 1.0), ("final_logit_softcapping", "float32", 30.0, 0.0),
    ("hidden_activation", "string", "gelu", "silu"), ("use_parallel_residual", "bool", True, False),
    ("pooling_type", "uint32", 1, 0), ("attention.causal", "uint32", 0, None)])
def test_fields_with_a_meaning(tmp_path, name, add, value, neutral):
    def file(value):
        write_gguf(tmp_path / "m.gguf", fields=lambda writer: getattr(writer, f"add_{add}")(f"llama.{name}", value))
        return tmp_path / "m.gguf"
    assert f"Metadata llama.{name} must be " in refusal(file(value))
    if neutral is not None:
        assert load(file(neutral)).warnings == []


def test_fields_without_a_meaning(tmp_path):
    def fields(writer):
        writer.add_uint32("llama.quantum_count", 3)
        writer.add_string("general.author", "somebody")
        writer.add_uint32("tokenizer.ggml.padding_token_id", 2)
        writer.add_string("clip.projector", "mlp")
    path = tmp_path / "m.gguf"
    write_gguf(path, fields=fields)
    assert load(path).warnings == [f"{path}: metadata that this reader does not know has no effect: "
                                   f"llama.quantum_count, clip.projector"]


def test_numbers_of_each_layer(tmp_path):
    def file(numbers):
        write_gguf(tmp_path / "m.gguf", fields=lambda writer: writer.kv_data[0].pop("llama.attention.head_count_kv")
                   and writer.add_head_count_kv(numbers))
        return tmp_path / "m.gguf"
    assert load(file([2, 2])).shape == dataclasses.replace(SHAPE, name="m")
    assert refusal(file([2, 4])).endswith(
        "Metadata llama.attention.head_count_kv must be the same in all layers, not [2, 4]")


def test_window(tmp_path):
    write_gguf(tmp_path / "m.gguf", fields=lambda writer: writer.add_sliding_window(32))
    assert load(tmp_path / "m.gguf").shape == dataclasses.replace(SHAPE, name="m", max_position_embeddings=32)


@pytest.mark.parametrize("offset, message", [(0, "lies at 0 and not at"), (64, "lies at"),
                                             (1 << 40, "lies at 1099511627776 and not at")])
def test_tensors_that_overlap_or_leave_holes(tmp_path, offset, message):
    """llama.cpp refuses them too; the gguf package (0.19) reads other bytes."""
    path = tmp_path / "m.gguf"
    write_gguf(path)
    data = bytearray(path.read_bytes())
    name = b"blk.0.attn_q.weight"
    at = data.index(name) + len(name) + 4 + 2 * 8 + 4       # behind dimensions and type
    before = int.from_bytes(data[at:at + 8], "little")
    data[at:at + 8] = (offset if offset == 0 or offset > 64 else before + offset).to_bytes(8, "little")
    path.write_bytes(data)
    assert message in refusal(path)


@pytest.mark.parametrize("version, message",
                         [(1, "File must be GGUF of version 2 or 3, not 1: convert the model again"),
                                              (4, "fetch it again (version 4, and 2 and 3 are known)")])
def test_versions(tmp_path, version, message):
    path = tmp_path / "m.gguf"
    write_gguf(path)
    data = path.read_bytes()
    path.write_bytes(data[:4] + version.to_bytes(4, "little") + data[8:])
    assert message in refusal(path)


def test_rows_that_are_no_blocks(tmp_path):
    """A type of 32 numbers a block, of a matrix with 31 columns, and of a tensor without dimensions."""
    path = tmp_path / "m.gguf"
    write_gguf(path, "Q8_0")
    data = path.read_bytes()
    name = b"blk.0.attn_q.weight"
    at = data.index(name) + len(name)
    for change, rows in (((4, 31), 31), ((0, 0), 1)):
        changed = bytearray(data)
        changed[at:at + 4] = (2 if change[0] else 0).to_bytes(4, "little")
        changed[at + 4:at + 12] = change[1].to_bytes(8, "little")
        if not change[0]:       # type and offset follow at once
            changed[at + 4:at + 4 + 16] = b""
        path.write_bytes(changed)
        assert f"tensor 'blk.0.attn_q.weight' has rows of {rows}, no multiple of 32" in refusal(path)


def test_name_of_hugging_face_in_a_gguf(tmp_path):
    write_gguf(tmp_path / "m.gguf", skip=("lm_head.weight",), extra={"lm_head.weight": np.ones((270, 96), np.float32)})
    assert "tensor lm_head.weight is none of this model" in refusal(tmp_path / "m.gguf")


def test_vector_that_is_longer_than_the_file(tmp_path):
    path = tmp_path / "m.gguf"
    write_gguf(path, fields=lambda writer: writer.add_array("llama.numbers", [1, 2, 3]))
    data = bytearray(path.read_bytes())
    at = data.index(b"llama.numbers") + len(b"llama.numbers") + 4 + 4
    data[at:at + 8] = (1 << 30).to_bytes(8, "little")
    path.write_bytes(data)
    assert "it ends at byte" in refusal(path)


def test_byte_level_tokenizer(tmp_path):
    write_gguf(tmp_path / "m.gguf")
    ours, core = load(tmp_path / "m.gguf").tokenizer, byte_tokenizer()
    for text in ("the thé in there", " the\n\nthe 1234 é😀", "a</s>b", "", "  two  spaces "):
        assert ours.encode(text) == core.encode(text).ids
        assert ours.decode(ours.encode(text), special=True) == text
    assert ours.render_chat("hi") == "<|user|>hi<|assistant|>"
    assert (ours.bos_token, ours.eos_token) == ("<s>", "</s>")


@pytest.mark.parametrize("kind, numbers", [("gpt-2", ["Ġ12345"]), ("smollm", ["Ġ", "1", "2", "3", "4", "5"]),
                                           ("llama-bpe", ["Ġ", "123", "45"])])
def test_pre_tokenizers(tmp_path, kind, numbers):
    def fields(writer):
        byte_level_fields(writer)
        writer.kv_data[0]["tokenizer.ggml.pre"].value = kind
    write_gguf(tmp_path / "m.gguf", tokenizer=fields)
    tokenizer = load(tmp_path / "m.gguf").tokenizer
    pieces = tokenizer._core.pre_tokenizer.pre_tokenize_str("the 12345")
    assert [piece for piece, _ in pieces] == ["the", *numbers]
    # Llama 3's kind begins a text with the start token
    assert tokenizer.encode("the")[:-1] == ([1] if kind == "llama-bpe" else [])


def sentence_piece_fields(writer, pieces, scores, kinds):
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def small_pieces():
    words = ["▁t", "he", "▁the", "in", "▁▁"]
    letters = list("▁abcdehilnorst")
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *words, *letters]
    scores = [0.0] * 259 + [-float(i) for i in range(len(words))] + [-100.0 - i for i in range(len(letters))]
    return pieces, scores, [2, 3, 3] + [6] * 256 + [1] * (len(words) + len(letters))


def test_sentence_piece_tokenizer(tmp_path):
    write_gguf(tmp_path / "m.gguf", shape=dataclasses.replace(SHAPE, vocab_size=300),
               tokenizer=lambda writer: sentence_piece_fields(writer, *small_pieces()))
    tokenizer = load(tmp_path / "m.gguf").tokenizer
    pieces = small_pieces()[0]
    assert [pieces[i] for i in tokenizer.encode("the tin")] == ["<s>", "▁the", "▁t", "in"]
    assert [pieces[i] for i in tokenizer.encode("é")] == ["<s>", "▁", "<0xC3>", "<0xA9>"]
    for text in ("the tin", "é the 😀", "  two  ", "a\nb"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    stream = tokenizer.stream()
    assert [stream.push(i) for i in tokenizer.encode("the 😀")] == ["", "the", " ", "", "", "", "😀"]


def test_sentence_piece_equals_sentencepiece(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    lines = [line for line in Path(__file__).read_text(encoding="utf-8").split("\n") if line and "<" not in line]
    text = tmp_path / "text"
    text.write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "sp"), vocab_size=600, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "sp.model"))
    n = theirs.get_piece_size()
    kinds = [2 if theirs.is_unknown(i) else 3 if theirs.is_control(i) else 6 if theirs.is_byte(i) else 1
             for i in range(n)]
    shape = dataclasses.replace(SHAPE, vocab_size=n)
    write_gguf(tmp_path / "m.gguf", shape=shape, tokenizer=lambda writer: sentence_piece_fields(
        writer, [theirs.id_to_piece(i) for i in range(n)], [theirs.get_score(i) for i in range(n)], kinds))
    ours = load(tmp_path / "m.gguf").tokenizer
    for line in [*lines, "日本 é 😀", " a  b "]:
        assert ours.encode(line) == [1] + theirs.encode(line)


def test_refusals(tmp_path):
    path = tmp_path / "m.gguf"
    write_gguf(path, arch="nonsense")
    assert re.fullmatch(f"{path}: Architecture must be one of llama, qwen2, .*, not 'nonsense'", refusal(path))
    for arch, missing in (("deepseek2", "latent attention"), ("bloom", "ALiBi"), ("qwen3moe", "experts")):
        write_gguf(path, arch=arch)
        assert refusal(path).endswith(f", not {arch}: this hardware has no {missing}")
    write_gguf(path, fields=lambda writer: writer.add_expert_count(8))
    assert refusal(path) == f"{path}: Expert count must be 0, not 8: mixtures are not supported"
    write_gguf(path, skip=("model.layers.1.mlp.up_proj.weight",))
    assert refusal(path) == f"{path}: tensor blk.1.ffn_up.weight is missing: fetch the model again"
    write_gguf(path, extra={"blk.0.attn_q_norm.weight": np.ones(24, np.float32)})
    assert refusal(path) == (f"{path}: tensor blk.0.attn_q_norm.weight is none of this model: "
                             "its architecture is not supported")
    write_gguf(path, tokenizer=lambda writer: None)
    assert refusal(path) == f"{path}: File must have a tokenizer: convert the model again, with its tokenizer"
    assert load(path, need_tokenizer=False).tokenizer is None


def test_unknown_pre_tokenizer(tmp_path):
    def fields(writer):
        byte_level_fields(writer)
        writer.kv_data[0]["tokenizer.ggml.pre"].value = "kimi-k2"
    write_gguf(tmp_path / "m.gguf", tokenizer=fields)
    assert "Pre-tokenizer must be one of default, " in refusal(tmp_path / "m.gguf")


@pytest.mark.parametrize("keep", [0, 3, 10, 60, 1000, 5000, 100000, -5])
def test_truncated(tmp_path, keep):
    path = tmp_path / "m.gguf"
    write_gguf(path)
    path.write_bytes(path.read_bytes()[:keep])
    line = refusal(path)
    assert line.startswith(f"{path}: File must be ")
    assert "truncated" in line or keep < 4


def test_no_gguf(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"PNG\x03\x04" * 50)
    assert refusal(path) == f"{path}: File must be GGUF, or a folder in Hugging Face's layout be given instead"
