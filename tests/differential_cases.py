"""Model folders and GGUF files made from a seed, each with a few changes to what is usual, and their recorded logits.

A :class:`Case` is a small model of random dimensions with one or more of :class:`Change`. What its logits must be is
never written here: `tools/record_oracle.py` asks transformers (folders) and llama.cpp (GGUF) and writes
`tests/differential_oracle.json`. Weights come from SHAKE-128, so that no version of any library changes them.
"""
import base64
import dataclasses
import hashlib
import json
import random
from pathlib import Path

import numpy as np

from hwgen.models import ModelError, load
from hwgen.models.reference import Reference
from model_files import write_safetensors

__all__ = ["CHANGES", "CONTEXT", "POSITIONS", "Case", "compare", "fresh_cases", "noise", "read_oracle",
           "recorded_cases",
           "write_gguf", "write_oracle"]

ORACLE = Path(__file__).with_name("differential_oracle.json")
#: Where logits are compared. The first two lie within the window of 8 that some cases have.
POSITIONS = (4, 7, 23)
TOKENS = 24
#: Of the largest logit.
TOLERANCE = 1e-4
CONTEXT = 64
#: A config value that stands for "the key is not there".
ABSENT = object()


@dataclasses.dataclass(frozen=True)
class Between:
    """A config value that is drawn for each case."""

    low: float
    high: float


_ATTENTION = ("q", "k", "v", "o")


def noise(*key, size):
    """Uniform in [-1, 1), float32 and the same everywhere."""
    data = hashlib.shake_128(repr(key).encode()).digest(2 * int(np.prod(size)))
    return (np.frombuffer(data, "<i2").reshape(size) / np.float32(32768)).astype(np.float32)


class Draft:
    """A model on its way to a file. Changes edit ``config`` (of GGUF: the metadata) and ``tensors`` in place.

    Attributes
    ----------
    config : dict
    tensors : dict             name -> float32 array, with the names of the file's kind
    dtypes : dict              name -> name of the stored type, F32 if not there
    files : dict               name -> number of the shard; empty: one file
    raw : dict                 GGUF's name -> blocks as they are stored, uint8 [rows, bytes]
    more_files : dict          name -> (tensor name -> array) of more safetensors files
    oracle_config : dict       what the oracle's config has instead, where the oracle cannot read the file itself
    oracle_tensors : dict      likewise, with None for a tensor that the oracle does not get
    """

    def __init__(self, kind, seed, dims=()):
        self.kind, self.seed = kind, seed
        self._random = random.Random(seed)
        self.hidden, self.heads, self.kv_heads, self.head_dim = self.pick(
            [(32, 4, 2, 8), (32, 2, 2, 16), (64, 4, 1, 16), (64, 8, 4, 8)])
        self.intermediate, self.layers = self.pick([32, 64, 96]), self.pick([1, 2])
        self.vocab = 48 + 2 * int(self.number(0, 16))
        self.tied = False
        for name, value in dict(dims).items():
            setattr(self, name, value)
        self.theta, self.eps = self.pick([100.0, 500.0, 10000.0]), self.pick([1e-5, 1e-6, 1e-3])
        self.tokens = [3 + int(self.number(0, self.vocab - 3)) for _ in range(TOKENS)]
        self.dtypes, self.files, self.raw, self.more_files = {}, {}, {}, {}
        self.oracle_config, self.oracle_tensors = {}, {}
        self.tensors = self.weights()
        self.config = self.metadata() if kind == "gguf" else self.plain_config()

    def number(self, low, high):
        """A float in [low, high); of all of :mod:`random` only this is the same in every version."""
        return low + (high - low) * self._random.random()

    def pick(self, options):
        return options[int(self.number(0, len(options)))]

    def weights(self):
        q, kv, h, f = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden, self.intermediate
        sizes = {"model.embed_tokens.weight": (self.vocab, h)}
        for i in range(self.layers):
            layer = f"model.layers.{i}."
            for m, size in {"q": (q, h), "k": (kv, h), "v": (kv, h), "o": (h, q)}.items():
                sizes[f"{layer}self_attn.{m}_proj.weight"] = size
            for m, size in {"gate": (f, h), "up": (f, h), "down": (h, f)}.items():
                sizes[f"{layer}mlp.{m}_proj.weight"] = size
            sizes |= {f"{layer}input_layernorm.weight": (h,), f"{layer}post_attention_layernorm.weight": (h,)}
        sizes |= {"model.norm.weight": (h,), "lm_head.weight": (self.vocab, h)}
        return {self.name(name): self.arranged(name, self.weight(name, size)) for name, size in sizes.items()}

    def weight(self, name, size):
        values = noise(self.seed, name, size=size)
        if len(size) == 1:
            return 1 + np.float32(0.3) * values
        # queries and keys are large enough that attention is not flat, and rotary positions matter
        gain = 3.5 if name.endswith(("q_proj.weight", "k_proj.weight")) else 1.7
        return values * np.float32(1.5 if "embed" in name else gain / size[1] ** 0.5)

    def name(self, name):
        """Hugging Face's name of a tensor -> the file's."""
        if self.kind != "gguf":
            return name
        for ours, theirs in (("model.layers.", "blk."), ("model.embed_tokens", "token_embd"),
                             ("model.norm", "output_norm"), ("lm_head", "output"), ("self_attn.o_proj", "attn_output"),
                             ("self_attn.", "attn_"), ("mlp.", "ffn_"), ("_proj", ""),
                             ("post_attention_layernorm", "ffn_norm"), ("input_layernorm", "attn_norm")):
            name = name.replace(ours, theirs)
        return name

    def arranged(self, name, values):
        """GGUF of a Llama model keeps the two elements of a rotary pair next to each other."""
        if self.kind != "gguf" or not name.endswith(("q_proj.weight", "k_proj.weight")):
            return values
        return values.reshape(-1, 2, self.head_dim // 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)

    def plain_config(self):
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": self.vocab,
                "hidden_size": self.hidden, "intermediate_size": self.intermediate, "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim,
                "rms_norm_eps": self.eps, "rope_theta": self.theta, "max_position_embeddings": CONTEXT,
                "tie_word_embeddings": False, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2}

    def metadata(self):
        return {"general.architecture": "llama", "llama.vocab_size": self.vocab, "llama.context_length": CONTEXT,
                "llama.embedding_length": self.hidden, "llama.feed_forward_length": self.intermediate,
                "llama.block_count": self.layers, "llama.attention.head_count": self.heads,
                "llama.attention.head_count_kv": self.kv_heads, "llama.attention.key_length": self.head_dim,
                "llama.attention.value_length": self.head_dim, "llama.rope.dimension_count": self.head_dim,
                "llama.attention.layer_norm_rms_epsilon": self.eps, "llama.rope.freq_base": self.theta,
                "tokenizer.ggml.model": "no_vocab"}

    def drawn(self, value):
        """A config value with its numbers drawn."""
        if isinstance(value, Between):
            return round(self.number(value.low, value.high), 2)
        return {key: self.drawn(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    def update(self, changes):
        """Changes of the config; ABSENT removes a key."""
        self.config |= self.drawn(changes)
        self.config = {key: value for key, value in self.config.items() if value is not ABSENT}

    def rename(self, function):
        for kept in ("tensors", "dtypes", "files", "oracle_tensors"):
            setattr(self, kept, {function(name): value for name, value in getattr(self, kept).items()})

    def digest(self):
        """Of everything that is written, so that a record of another file is noticed."""
        state = hashlib.sha256(json.dumps([self.config, self.dtypes, self.files, self.tokens,
                                           sorted(self.oracle_config), sorted(self.oracle_tensors)]).encode())
        for file, tensors in {"": self.tensors, **self.more_files}.items():
            for name, values in tensors.items():
                state.update(f"{file} {name} {values.shape}".encode() + np.ascontiguousarray(values, "<f4").tobytes())
        return state.hexdigest()[:16]

    def write(self, folder):
        """Write the model under ``folder``, which is made; the path to load is returned."""
        folder.mkdir()
        if self.kind == "gguf":
            return write_gguf(folder / "model.gguf", self.config, self.tensors, self.dtypes, self.raw)
        _write_folder(folder, self.config, self.tensors, self.dtypes, self.files, self.more_files)
        return folder

    def write_for_oracle(self, folder):
        """The same model as the oracle can read it: of a quantized GGUF file the dequantized twin."""
        folder.mkdir()
        if self.kind == "gguf":
            tensors = {name: values if name in self.raw else _dequantized(values, self.dtypes.get(name, "F32"))
                       for name, values in self.tensors.items()}
            return write_gguf(folder / "model.gguf", self.config, tensors)
        config = {key: value for key, value in (self.config | self.oracle_config).items() if value is not ABSENT}
        tensors = {name: values for name, values in (self.tensors | self.oracle_tensors).items() if values is not None}
        dtypes = {name: dtype for name, dtype in self.dtypes.items() if name not in self.oracle_tensors}
        _write_folder(folder, config, tensors, dtypes, self.files, self.more_files)
        return folder


def _write_folder(folder, config, tensors, dtypes, files, more_files):
    (folder / "config.json").write_text(json.dumps(config))
    shard = {name: f"model-{files[name]:05}-of-{max(files.values()):05}.safetensors" if files else "model.safetensors"
             for name in tensors}
    stored = {file: {name: tensors[name] for name in tensors if shard[name] == file} for file in set(shard.values())}
    for file, more in more_files.items():
        stored[file] = stored.get(file, {}) | more
    for file, content in stored.items():
        write_safetensors(folder / file, content, lambda name: dtypes.get(name, "F32"))
    if files:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard}))


def _dequantized(values, dtype):
    import gguf
    kind = gguf.GGMLQuantizationType[dtype]
    return gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind).astype(np.float32)


def write_gguf(path, config, tensors, dtypes=(), raw=()):
    import gguf
    writer = gguf.GGUFWriter(path, config["general.architecture"])
    for key, value in config.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            if key != "general.architecture":
                writer.add_string(key, value)
        else:
            (writer.add_uint32 if isinstance(value, int) else writer.add_float32)(key, value)
    for name, values in tensors.items():
        kind = gguf.GGMLQuantizationType[dict(dtypes).get(name, "F32")]
        if name in raw:
            writer.add_tensor(name, raw[name], raw_dtype=kind)
        elif kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, np.ascontiguousarray(values, np.float32))
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@dataclasses.dataclass(frozen=True)
class Change:
    """One thing that a model file has otherwise than usual.

    Parameters
    ----------
    name : str
    slot : str             what it changes; a case has at most one change of each slot
    config : dict          keys to set, or ABSENT
    edit : callable        edits the Draft further
    dims : dict            attributes of the Draft before it is filled
    named : tuple          a refusal has one of these words; the config's keys and their nouns are such words too
    must : bool            whether hwgen has to accept it, since the machine can run it
    warned : bool          whether a warning has to name it, if it is accepted
    """

    name: str
    slot: str
    config: dict = dataclasses.field(default_factory=dict)
    edit: object = None
    dims: dict = dataclasses.field(default_factory=dict)
    named: tuple = ()
    must: bool = False
    warned: bool = False

    def words(self):
        inner = [key for value in self.config.values() if isinstance(value, dict) for key in value if key != "type"]
        return {word for key in (*self.config, *inner, *self.named) for word in (key, NOUNS.get(key, key))}


#: Config keys that messages call by a noun.
NOUNS = {"hidden_act": "Activation", "architectures": "Architecture", "model_type": "Model type",
         "sliding_window": "Sliding window", "quantization_config": "Quantization method",
         "partial_rotary_factor": "Partial rotary factor", "llama.attention.sliding_window": "Sliding window",
         "rope_scaling": "RoPE", "rope_parameters": "RoPE",
         "general.architecture": "Architecture", "llama.rope.scaling.type": "RoPE scaling",
         "llama.expert_count": "Expert count", "num_attention_heads": "Head count"}


#: These slots are edited last, and in this order: they look at all tensors.
_LAST = {"dtype": 1, "files": 2, "names": 3}


class Case:
    """A model with some changes; ``seed`` decides the rest of it."""

    def __init__(self, kind, changes, seed):
        self.kind, self.changes = kind, changes
        self.name = f"{kind}: {' + '.join(change.name for change in changes)}"
        self._seed = f"{seed} {self.name}"
        self.must = all(change.must for change in changes)

    def __repr__(self):
        return self.name

    def words(self):
        """What a refusal names: one of these."""
        return set().union(*(change.words() for change in self.changes))

    def warned(self):
        """Sets of words; the warnings have at least one of each."""
        return [change.words() for change in self.changes if change.warned]

    def draft(self):
        dims = {}
        for change in self.changes:
            dims |= change.dims
        draft = Draft(self.kind, self._seed, dims)
        for change in self.changes:
            draft.update(change.config)
        for change in sorted(self.changes, key=lambda change: _LAST.get(change.slot, 0)):
            if change.edit:
                change.edit(draft)
        return draft


def recorded_cases(seed=0, mixed=40):
    """Every change alone, then mixtures of two or three."""
    return [*(Case(kind, [change], seed) for kind in CHANGES for change in CHANGES[kind]),
            *fresh_cases(seed, mixed)]


def fresh_cases(seed, count):
    """That many random mixtures, half of each kind; at most one of a case's changes may be refused."""
    draws = random.Random(f"mixtures {seed}")
    cases = {}
    while len(cases) < count:
        kind = ("folder", "gguf")[len(cases) % 2]
        chosen = {}
        for _ in range(2 + int(2 * draws.random())):
            others = chosen.values()
            pool = [change for change in CHANGES[kind] if change.slot not in chosen
                    and (change.must or all(other.must for other in others) and draws.random() < 0.3)
                    and not any(other.dims and change.dims for other in others)]
            change = pool[int(draws.random() * len(pool))]
            chosen[change.slot] = change
        case = Case(kind, list(chosen.values()), seed)
        cases[case.name] = case
    return list(cases.values())


def read_oracle():
    """Name -> {"digest", and "logits" float32 [positions, vocabulary] or "failed", the oracle's own error}."""
    records = json.loads(ORACLE.read_text())
    for record in records.values():
        if "logits" in record:
            values = np.frombuffer(base64.b64decode(record["logits"]), "<f4")
            record["logits"] = values.reshape(len(POSITIONS), -1)
    return records


def write_oracle(records):
    lines = []
    for name, record in records.items():
        if "logits" in record:
            data = np.ascontiguousarray(record["logits"], "<f4").tobytes()
            record = record | {"logits": base64.b64encode(data).decode()}
        lines.append(f"{json.dumps(name)}: {json.dumps(record)}")
    ORACLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def compare(case, record, folder):
    """("agreed", "refused" or "differed", what it was) of hwgen and a record; the model is written to ``folder``."""
    draft = case.draft()
    path = draft.write(folder)
    try:
        checkpoint = load(path, need_tokenizer=False)
        limit = checkpoint.shape.longest_context
        logits = Reference.of(checkpoint).logits(draft.tokens[:limit])
    except ModelError as error:
        message = str(error).removeprefix(str(folder))
        if "\n" in message or not any(word.lower() in message.lower() for word in case.words()):
            return "differed", f"refused, but names none of {', '.join(sorted(case.words()))}: {message}"
        if case.must and "logits" in record:
            return "differed", f"refused, but the machine can run it: {message}"
        return "refused", message
    if "failed" in record:
        return "differed", f"accepted, but the oracle says {record['failed']}"
    within = [i for i, position in enumerate(POSITIONS) if position < limit]
    expected, found = record["logits"][within], logits[[POSITIONS[i] for i in within]]
    if expected.shape != found.shape:
        return "differed", f"logits are {list(found.shape)}, not {list(expected.shape)}"
    error = float(abs(found - expected).max() / abs(expected).max())
    if not error < TOLERANCE:
        return "differed", f"logits off by {error:.2g} of the largest"
    warnings = " ".join(checkpoint.warnings) if hasattr(checkpoint, "warnings") else ""
    unnamed = [words for words in case.warned() if not any(word in warnings for word in words)]
    if unnamed:
        return "differed", f"accepted, but no warning names {' or '.join(sorted(unnamed[0]))}"
    return "agreed", f"within {error:.1g}"


# Changes of folders.

def _drop(*names):
    def edit(draft):
        for name in names:
            del draft.tensors[name]
    return edit


def _set(name, make):
    def edit(draft):
        draft.tensors[name] = make(draft)
    return edit


def _other_head(draft):
    return draft.weight("another lm_head", (draft.vocab, draft.hidden))


def _same_head(draft):
    return draft.tensors["model.embed_tokens.weight"].copy()


def _only_head(draft):
    draft.tensors["lm_head.weight"] = draft.tensors.pop("model.embed_tokens.weight")


def _biases(names):
    def edit(draft):
        for name in [name for name in draft.tensors if name.endswith(tuple(f"{n}_proj.weight" for n in names))]:
            bias = name.replace("weight", "bias")
            draft.tensors[bias] = noise(draft.seed, bias, size=draft.tensors[name].shape[0])
    return edit


def _stored(choose):
    def edit(draft):
        draft.dtypes = {name: dtype for name in draft.tensors if (dtype := choose(draft, name))}
    return edit


def _shards(count):
    def edit(draft):
        draft.files = {name: 1 + i % count for i, name in enumerate(draft.tensors)}
    return edit


def _beside_file(file, shards=0, shift=0):
    """A file more (or more in a file), with another embedding table."""
    def edit(draft):
        draft.files = {name: 1 + (i + shift) % shards for i, name in enumerate(draft.tensors)} if shards else {}
        table = "model.embed_tokens.weight"
        other = {table: draft.weight("another embed", (draft.vocab, draft.hidden))}
        draft.more_files = {file: draft.tensors | other if file == "model.safetensors" else other}
    return edit


def _renamed(function):
    return lambda draft: draft.rename(function)


def _added(name, size):
    return _set(name, lambda draft: noise(draft.seed, name, size=size(draft)))


def _frequencies(draft, theta=None):
    d = draft.head_dim
    return ((theta or draft.theta) ** (-np.arange(0, d, 2) / d)).astype(np.float32)


def _all_layers(name, make):
    def edit(draft):
        for i in range(draft.layers):
            full = f"model.layers.{i}.{name}"
            draft.tensors[full] = make(draft)
    return edit


def _reshaped(name, function):
    def edit(draft):
        draft.tensors[name] = np.ascontiguousarray(function(draft.tensors[name]))
    return edit


def _fp8(suffix="_scale", block=None, honoured=True):
    """Layer 0's query matrix as FP8, with a scale of each ``block`` (rows, columns).

    transformers has no kernel for that on a CPU, so that it gets the matrix dequantized.
    """
    def edit(draft):
        import ml_dtypes
        name = "model.layers.0.self_attn.q_proj.weight"
        n, k = draft.tensors[name].shape
        rows, columns = block or (n, k)
        scale = np.float32(0.02) + noise(draft.seed, suffix, size=(-(-n // rows), -(-k // columns))) / 100
        draft.tensors[name] *= 64
        draft.tensors[name + suffix], draft.dtypes[name] = scale, "F8_E4M3"
        if honoured:
            stored = draft.tensors[name].astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
            each = np.repeat(np.repeat(scale, rows, 0)[:n], columns, 1)[:, :k]
            draft.oracle_config |= {"quantization_config": ABSENT}
            draft.oracle_tensors |= {name: stored * each, name + suffix: None}
    return edit


def _beside(suffix):
    """A scale beside a matrix that is not FP8."""
    return _set(f"model.layers.0.self_attn.q_proj.weight{suffix}", lambda draft: np.float32([0.5]))


_THETA, _FACTOR = Between(20, 900), Between(1.5, 9)
_LLAMA3 = {"factor": _FACTOR, "low_freq_factor": Between(0.5, 2), "high_freq_factor": Between(3, 6),
           "original_max_position_embeddings": 32}
_YARN = {"factor": _FACTOR, "original_max_position_embeddings": 16}
_MISTRAL = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}


def _config(slot, must, *rows, **more):
    return [Change(name, slot, config, must=must, **more) for name, config in rows]


def _folder_changes():
    multi_head = {"hidden": 32, "heads": 8, "kv_heads": 8, "head_dim": 4}
    rope = [
        ("theta in rope_parameters", {"rope_parameters": {"rope_theta": _THETA, "rope_type": "default"},
                                      "rope_theta": ABSENT}),
        ("theta in both places", {"rope_parameters": {"rope_theta": _THETA, "rope_type": "default"},
                                  "rope_theta": 9e4}),
        ("theta absent", {"rope_theta": ABSENT}),
        ("theta an integer", {"rope_theta": 37}),
        ("theta at the top, type inside", {"rope_parameters": {"rope_type": "default"}, "rope_theta": _THETA}),
        ("linear, type", {"rope_scaling": {"type": "linear", "factor": _FACTOR}}),
        ("linear, rope_type", {"rope_scaling": {"rope_type": "linear", "factor": _FACTOR}}),
        ("linear in rope_parameters", {"rope_parameters": {"rope_type": "linear", "factor": 3, "rope_theta": _THETA},
                                       "rope_theta": ABSENT}),
        ("llama3 in rope_scaling", {"rope_scaling": {"rope_type": "llama3", **_LLAMA3}}),
        ("llama3 in rope_parameters", {"rope_parameters": {"rope_type": "llama3", "rope_theta": _THETA, **_LLAMA3},
                                       "rope_theta": ABSENT}),
        ("rope_scaling null", {"rope_scaling": None}),
        ("rope_scaling null beside rope_parameters", {"rope_scaling": None, "rope_theta": ABSENT, "rope_parameters": {
            "rope_theta": _THETA, "rope_type": "default"}}),
        ("partial_rotary_factor 1", {"partial_rotary_factor": 1.0}),
    ]
    rope_odd = [
        ("rope_parameters and rope_scaling", {"rope_parameters": {"rope_type": "default", "rope_theta": _THETA},
                                              "rope_scaling": {"rope_type": "linear", "factor": _FACTOR}}),
        ("rope_parameters linear, rope_scaling default", {
            "rope_parameters": {"rope_type": "linear", "factor": _FACTOR, "rope_theta": _THETA},
            "rope_scaling": {"rope_type": "default"}}),
        ("theta only in rope_parameters beside rope_scaling", {
            "rope_theta": ABSENT, "rope_parameters": {"rope_type": "default", "rope_theta": _THETA},
            "rope_scaling": {"type": "linear", "factor": _FACTOR}}),
        ("rope_scaling empty beside rope_parameters", {
            "rope_scaling": {}, "rope_parameters": {"rope_type": "linear", "factor": _FACTOR, "rope_theta": _THETA}}),
        ("theta null", {"rope_theta": None}),
        ("linear without factor", {"rope_scaling": {"type": "linear"}}),
        ("linear with type and another rope_type", {"rope_scaling": {"type": "linear", "rope_type": "default",
                                                                     "factor": _FACTOR}}),
        ("llama3 without its original context", {"rope_scaling": {
            "rope_type": "llama3", "factor": _FACTOR, "low_freq_factor": 1.0, "high_freq_factor": 4.0}}),
        ("llama3 with the original context at the top", {
            "rope_scaling": {"rope_type": "llama3", **_LLAMA3}, "original_max_position_embeddings": 8}),
        ("llama3 without factors", {"rope_scaling": {"rope_type": "llama3", "factor": _FACTOR}}),
        ("yarn", {"rope_scaling": {"rope_type": "yarn", **_YARN}}),
        ("yarn in rope_parameters", {"rope_parameters": {"rope_type": "yarn", "rope_theta": _THETA, **_YARN}}),
        ("yarn with optional keys", {"rope_scaling": {"rope_type": "yarn", "attention_factor": 1.3, "beta_fast": 16.0,
                                                      "beta_slow": 2.0, **_YARN}}),
        ("yarn of factor 1", {"rope_scaling": {"rope_type": "yarn", "factor": 1.0,
                                               "original_max_position_embeddings": 64}}),
        ("dynamic", {"rope_scaling": {"type": "dynamic", "factor": _FACTOR}, "max_position_embeddings": TOKENS}),
        ("dynamic within its context", {"rope_scaling": {"type": "dynamic", "factor": _FACTOR}}),
        ("longrope", {"rope_scaling": {"type": "longrope", "short_factor": [1.5] * 4, "long_factor": [3.0] * 4,
                                       "original_max_position_embeddings": TOKENS}}),
        ("unknown RoPE type", {"rope_scaling": {"type": "su", "factor": _FACTOR}}),
        ("partial_rotary_factor", {"partial_rotary_factor": 0.5}),
        ("partial_rotary_factor in rope_parameters", {"rope_parameters": {
            "rope_type": "default", "rope_theta": _THETA, "partial_rotary_factor": 0.5}}),
        ("partial_rotary_factor in linear rope_scaling", {"rope_scaling": {
            "rope_type": "linear", "factor": _FACTOR, "partial_rotary_factor": 0.5}}),
    ]
    rope_ignored = [
        ("linear with attention_factor", {"rope_scaling": {"rope_type": "linear", "factor": _FACTOR,
                                                           "attention_factor": 2.0}}),
        ("factor without a type", {"rope_scaling": {"factor": _FACTOR}}),
        ("rope_parameters of layer types", {"rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": _FACTOR, "rope_theta": _THETA},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}),
        ("rope_parameters of layer types, with layer_types", {
            "layer_types": ["full_attention"], "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": _FACTOR, "rope_theta": _THETA}}}),
        ("rotary_pct", {"rotary_pct": 0.5}),
        ("rope_interleaved", {"rope_interleaved": True}),
    ]
    foreign = {"logit_scale": 0.5, "logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.2,
               "attention_multiplier": 0.01, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0,
               "query_pre_attn_scalar": 144, "qk_norm": True, "use_qk_norm": True, "clip_qkv": 0.5, "num_experts": 8,
               "num_local_experts": 4, "scale_emb": 12, "scale_depth": 1.4, "no_rope_layers": [0, 0],
               "parallel_attn": True, "attn_temperature_tuning": True, "use_sliding_window": True,
               "mup_width_multiplier": 2.0, "layernorm_epsilon": 0.1, "norm_type": "layernorm", "alibi": True}
    harmless = {"use_cache": False, "torch_dtype": "float16", "dtype": "bfloat16", "transformers_version": "4.31.0",
                "initializer_range": 0.5, "attention_dropout": 0.5, "pad_token_id": 0, "_name_or_path": "x/y"}
    return [
        *_config("rope", True, *rope),
        *_config("rope", False, *rope_odd, dims={"layers": 1}, named=(
            "rope_theta", "RoPE", "Partial rotary factor", "factor", "original_max_position_embeddings")),
        *_config("rope", False, *rope_ignored, dims={"layers": 1}, warned=True),
        # head counts
        *_config("heads", True, ("head_dim null", {"head_dim": None}), ("head_dim absent", {"head_dim": ABSENT})),
        Change("head_dim larger", "heads", {"head_dim": 16}, dims={"hidden": 32, "heads": 4, "head_dim": 16},
               must=True),
        *_config("heads", True, ("num_key_value_heads absent", {"num_key_value_heads": ABSENT}), dims=multi_head),
        # transformers 5 refuses null in a mistral, where its code then handles it
        Change("num_key_value_heads null", "heads", {"num_key_value_heads": None}, lambda d: d.oracle_config.update(
            num_key_value_heads=d.heads), dims=multi_head, must=True),
        *_config("heads", False, ("num_key_value_heads wrong", {"num_key_value_heads": 4}),
                 named=("k_proj",), dims={"hidden": 32, "heads": 4, "kv_heads": 2, "head_dim": 8}),
        *_config("heads", False, ("num_attention_heads wrong", {"num_attention_heads": 2, "num_key_value_heads": 1,
                                                                "head_dim": ABSENT}),
                 named=("q_proj", "k_proj"), dims={"hidden": 32, "heads": 4, "kv_heads": 2, "head_dim": 8}),
        # numbers
        *_config("norm", True, ("rms_norm_eps absent", {"rms_norm_eps": ABSENT}),
                 ("rms_norm_eps", {"rms_norm_eps": .1})),
        *_config("norm", False, ("layer_norm_eps beside", {"layer_norm_eps": 0.1}), warned=True),
        *_config("context", True, ("max_position_embeddings absent", {"max_position_embeddings": ABSENT})),
        *_config("act", True, ("hidden_act swish", {"hidden_act": "swish"}),
                 ("hidden_act absent", {"hidden_act": ABSENT})),
        *_config("act", False, *((f"hidden_act {act}", {"hidden_act": act}) for act in (
            "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2", "quick_gelu")),
                ("hidden_act null", {"hidden_act": None})),
        *_config("act", False, ("hidden_activation beside", {"hidden_activation": "gelu"}), warned=True),
        # head
        Change("tie true, no head", "head", {"tie_word_embeddings": True}, _drop("lm_head.weight"), must=True),
        Change("tie true, equal head", "head", {"tie_word_embeddings": True}, _set("lm_head.weight", _same_head),
               must=True),
        Change("tie true, another head", "head", {"tie_word_embeddings": True}, named=("lm_head.weight",)),
        Change("tie true, a head that differs in one number", "head", {"tie_word_embeddings": True}, _set(
            "lm_head.weight", lambda d: _same_head(d) + np.eye(d.vocab, d.hidden, dtype=np.float32)),
            named=("lm_head.weight",)),
        Change("tie true, only the head", "head", {"tie_word_embeddings": True}, _only_head,
               named=("lm_head.weight", "embed_tokens")),
        Change("tie absent, a head", "head", {"tie_word_embeddings": ABSENT}, must=True),
        Change("tie absent, equal head", "head", {"tie_word_embeddings": ABSENT}, _set("lm_head.weight", _same_head),
               must=True),
        Change("tie absent, no head", "head", {"tie_word_embeddings": ABSENT}, _drop("lm_head.weight"),
               named=("lm_head.weight",)),
        Change("tie false, no head", "head", {"tie_word_embeddings": False}, _drop("lm_head.weight"),
               named=("lm_head.weight",)),
        Change("tie false, only the head", "head", {"tie_word_embeddings": False}, _only_head, named=("embed_tokens",)),
        Change("tie null", "head", {"tie_word_embeddings": None}, named=("Tied embeddings",)),
        Change("tie true, a head of another size", "head", {"tie_word_embeddings": True}, _reshaped(
            "lm_head.weight", lambda w: w[:-2]), named=("lm_head.weight",)),
        Change("a bias of the head", "head", edit=_added("lm_head.bias", lambda d: (d.vocab,)), named=("lm_head.bias",),
               warned=True),
        # biases
        *_config("bias", True, ("biases false", {"attention_bias": False, "mlp_bias": False})),
        Change("attention_bias with biases", "bias", {"attention_bias": True}, _biases(_ATTENTION), named=("bias",)),
        Change("attention_bias without biases", "bias", {"attention_bias": True}, named=("proj.bias",)),
        Change("biases without attention_bias", "bias", edit=_biases("qkv"), named=("bias",), warned=True),
        Change("mlp_bias with biases", "bias", {"mlp_bias": True}, _biases(("gate", "up", "down")), named=("bias",)),
        Change("biases without mlp_bias", "bias", edit=_biases(("down",)), named=("bias",), warned=True),
        *_config("bias", False, ("qkv_bias", {"qkv_bias": True}), warned=True),
        # transformers 5 refuses null, 4 reads it as false
        Change("attention_bias null", "bias", {"attention_bias": None}, lambda d: d.oracle_config.update(
            attention_bias=False)),
        # Mistral, and windows
        *_config("window", True, ("mistral without window", _MISTRAL | {"sliding_window": None}),
                 ("mistral, window absent", _MISTRAL),
                 ("mistral, window of the context", _MISTRAL | {"sliding_window": 64}),
                 ("mistral, larger window", _MISTRAL | {"sliding_window": 4096}),
                 ("mistral, small window", _MISTRAL | {"sliding_window": 8})),
        *_config("window", False, ("mistral, window 0", _MISTRAL | {"sliding_window": 0}),
                 ("mistral, use_sliding_window false", _MISTRAL | {"sliding_window": 8, "use_sliding_window": False}),
                 ("mistral, layer_types full", _MISTRAL | {"sliding_window": 8, "layer_types": ["full_attention"] * 2}),
                 ("mistral, attention_bias", _MISTRAL | {"sliding_window": None, "attention_bias": True}),
                 dims={"layers": 2}),
        *_config("window", False, ("llama with a window", {"sliding_window": 8}),
                 ("llama, layer_types", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
                 ("llama with an attention_chunk_size", {"attention_chunk_size": 8}), dims={"layers": 2}, warned=True),
        Change("mistral, attention_bias with biases", "window",
               _MISTRAL | {"sliding_window": None, "attention_bias": True},
               _biases("qkv"), named=("bias",)),
        Change("mistral, kv heads absent", "window", _MISTRAL | {"sliding_window": None, "num_key_value_heads": ABSENT},
               dims={"hidden": 64, "heads": 8, "kv_heads": 8, "head_dim": 8}, must=True),
        # what it is
        *_config("type", True, ("architectures absent", {"architectures": ABSENT}),
                 ("architectures LLaMA", {"architectures": ["LLaMAForCausalLM"]})),
        *_config("type", False, ("architectures empty", {"architectures": []}),
                 ("architectures LlamaModel", {"architectures": ["LlamaModel"]}),
                 ("architectures Qwen2", {"architectures": ["Qwen2ForCausalLM"]}),
                 ("architectures Mistral in a llama", {"architectures": ["MistralForCausalLM"], "sliding_window": 8}),
                 ("architectures Llama in a mistral", {"model_type": "mistral", "sliding_window": None}),
                 ("architectures two", {"architectures": ["LlamaForCausalLM", "Qwen2ForCausalLM"]}),
                 ("model_type qwen2", {"model_type": "qwen2"}), ("model_type gemma", {"model_type": "gemma"}),
                 ("model_type unknown", {"model_type": "nonesuch"}),
                 ("model_type ministral", {"model_type": "ministral"}),
                 ("text_config", {"text_config": {"model_type": "llama", "hidden_size": 32, "rope_theta": 7.0}}),
                 ("is_encoder_decoder", {"is_encoder_decoder": True}), named=("Sliding window", "proj.bias")),
        *_config("type", False, ("auto_map", {"auto_map": {"AutoModelForCausalLM": "modeling_other.Other"}}),
                 warned=True),
        # keys that others' models honour
        *(Change(key, "foreign", {key: value}, warned=True) for key, value in foreign.items()),
        *_config("foreign", True, *((f"{key} of no meaning", {key: value}) for key, value in harmless.items())),
        *_config("foreign", False, ("pretraining_tp", {"pretraining_tp": 2})),
        # quantization
        *_config("dtype", True, ("quantization_config null", {"quantization_config": None})),
        *_config("dtype", False,
                 ("gptq", {"quantization_config": {"quant_method": "gptq", "bits": 4}}),
                 ("bitsandbytes", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}),
                 ("awq", {"quantization_config": {"quant_method": "awq", "bits": 4}}),
                 ("a quantization_config without method", {"quantization_config": {"bits": 4}})),
        # stored types
        *(Change(f"all {dtype}", "dtype", edit=_stored(lambda d, n, dtype=dtype: dtype), must=True)
          for dtype in ("F16", "BF16", "F64")),
        Change("mixed types", "dtype", edit=_stored(lambda d, n: d.pick(["F16", "BF16", "F32", "F64"])), must=True),
        Change("norms F32, matrices BF16", "dtype", edit=_stored(lambda d, n: None if "norm" in n else "BF16"),
               must=True),
        Change("FP8, a scale of the tensor", "dtype", {"quantization_config": {"quant_method": "fbgemm_fp8"}}, _fp8(),
               must=True),
        Change("FP8, a scale of each row", "dtype", {"quantization_config": {"quant_method": "compressed-tensors"}},
               _fp8(block=(1, 1000)), must=True),
        Change("FP8, a scale of each block", "dtype",
               {"quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 24]}},
               _fp8("_scale_inv", block=(16, 24)), must=True),
        Change("FP8 without quantization_config", "dtype", edit=_stored(
            lambda d, n: "F8_E4M3" if "down_proj" in n else "F32"), named=("down_proj",)),
        Change("FP8 with a scale, without quantization_config", "dtype", edit=_fp8(honoured=False), named=(
            "q_proj", "quantization_config")),
        # files
        *(Change(f"{count} shards", "files", edit=_shards(count), must=True) for count in (2, 3)),
        Change("another safetensors file", "files", edit=_beside_file("consolidated.safetensors"), must=True),
        Change("shards beside model.safetensors", "files", edit=_beside_file("model.safetensors", 2), named=(
            "model.safetensors",)),
        Change("a tensor in two shards", "files", edit=_beside_file("model-00002-of-00002.safetensors", 2), named=(
            "embed_tokens", "model-0000")),
        Change("a tensor in two shards, the first", "files", edit=_beside_file("model-00001-of-00002.safetensors", 2,
               shift=1), named=("embed_tokens", "model-0000")),
        # tensors
        Change("rotary_emb.inv_freq", "tensors", edit=_all_layers("self_attn.rotary_emb.inv_freq", _frequencies),
               must=True),
        Change("another rotary_emb.inv_freq", "tensors", edit=_all_layers(
            "self_attn.rotary_emb.inv_freq", lambda d: _frequencies(d, 7.0)), named=("inv_freq",)),
        Change("names without model.", "names", edit=_renamed(lambda n: n.removeprefix("model.")), named=(
            "embed_tokens", "layers.0", "norm.weight")),
        Change("names with another prefix", "names", edit=_renamed(lambda n: "base_model." + n),
               named=("embed_tokens",)),
        Change("a layer too many", "tensors", {"num_hidden_layers": 1}, dims={"layers": 2}, named=("model.layers.1",),
               warned=True),
        Change("a layer too few", "tensors", {"num_hidden_layers": 3}, dims={"layers": 2}, named=("model.layers.2",)),
        Change("norms of queries", "tensors", edit=_all_layers(
            "self_attn.q_norm.weight", lambda d: 1 + noise(1, size=d.head_dim)), named=("q_norm",), warned=True),
        Change("a bias of a norm", "tensors", edit=_added("model.norm.bias", lambda d: (d.hidden,)), named=(
            "model.norm.bias",), warned=True),
        Change("a missing norm", "tensors", edit=_drop("model.norm.weight"), named=("model.norm.weight",)),
        Change("a missing matrix", "tensors", edit=_drop("model.layers.0.mlp.up_proj.weight"), named=("up_proj",)),
        Change("a gain of two dimensions", "tensors", edit=_reshaped("model.norm.weight", lambda w: w[None]),
               named=("model.norm.weight",)),
        Change("a transposed matrix", "tensors", edit=_reshaped("model.layers.0.mlp.down_proj.weight", lambda w: w.T),
               dims={"hidden": 32, "heads": 4, "kv_heads": 2, "head_dim": 8, "intermediate": 64}, named=("down_proj",)),
        Change("an empty tensor more", "tensors", edit=_added("model.extra", lambda d: (0, 4)), named=("model.extra",),
               warned=True),
        Change("a vocabulary too large", "tensors", edit=lambda d: d.update({"vocab_size": d.vocab + 2}), named=(
            "embed_tokens", "vocab_size")),
        Change("_scale beside F32", "tensors", edit=_beside("_scale"), named=("q_proj",), warned=True),
        Change("_scale_inv beside F32", "tensors", edit=_beside("_scale_inv"), named=("q_proj",), warned=True),
        Change("a tensor of another model", "tensors", edit=_added("vision_model.x.weight", lambda d: (2, 2)),
               named=("vision_model",), warned=True),
    ]


# Changes of GGUF files.

def _gguf_biases(*names):
    def edit(draft):
        for name in [name for name in draft.tensors if name.split(".")[-2] in names]:
            bias = name.replace("weight", "bias")
            draft.tensors[bias] = noise(draft.seed, bias, size=draft.tensors[name].shape[0])
    return edit


def _divisors(function):
    """rope_freqs.weight: what each frequency is divided by."""
    def edit(draft):
        draft.tensors["rope_freqs.weight"] = function(draft).astype(np.float32)
    return edit


def _llama3_divisors(factor=4.0, low=1.0, high=4.0, original=32):
    """What llama.cpp's converter writes for Llama 3.1's scaling."""
    def divisors(draft):
        turns = original * _frequencies(draft).astype(np.float64) / (2 * np.pi)
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        return 1 / (smooth + (1 - smooth) / factor)
    return divisors


def _typed(choose):
    """Matrices stored as ``choose`` says of their names."""
    def edit(draft):
        draft.dtypes = {name: choose(name) for name, values in draft.tensors.items() if values.ndim == 2}
    return edit


def _architecture(name):
    """The same model under another architecture's keys."""
    def edit(draft):
        draft.config = {key.replace("llama.", name + "."): value for key, value in draft.config.items()}
    return edit


def _super_blocks(dtype, size, scales):
    """Matrices of random super-blocks of 256 weights; ``scales`` are a block's float16 scales by their offsets."""
    def edit(draft):
        import gguf
        for name, values in draft.tensors.items():
            if values.ndim == 2 and values.shape[1] == 256 and name != "token_embd.weight":
                data = hashlib.shake_128(f"{draft.seed} {name}".encode()).digest(size * len(values))
                blocks = np.frombuffer(data, "u1").reshape(len(values), size).copy()
                for offset, scale in scales.items():
                    blocks[:, offset:offset + 2] = np.frombuffer(np.float16(scale).tobytes(), "u1")
                draft.raw[name], draft.dtypes[name] = blocks, dtype
                draft.tensors[name] = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[dtype])
    return edit


def _gguf_changes():
    rope = "llama.rope."
    scaling, attention = rope + "scaling.", "llama.attention."
    small = {"hidden": 32, "heads": 4, "kv_heads": 2, "head_dim": 8}
    wide, original = {"head_dim": 16, "hidden": 64, "heads": 4}, {scaling + "original_context_length": 32}
    return [
        *_config("rope", True, ("freq_base", {rope + "freq_base": _THETA}),
                 ("freq_base absent", {rope + "freq_base": ABSENT}),
                 ("scaling none", {scaling + "type": "none"}),
                 ("scaling none with a factor", {scaling + "type": "none", scaling + "factor": _FACTOR}),
                 ("scaling linear", {scaling + "type": "linear", scaling + "factor": _FACTOR}),
                 ("scaling linear, factor 1", {scaling + "type": "linear", scaling + "factor": 1.0}),
                 ("scaling linear without factor", {scaling + "type": "linear"}),
                 ("scaling factor without type", {scaling + "factor": _FACTOR}),
                 ("dimension_count absent", {rope + "dimension_count": ABSENT})),
        *_config("rope", False, ("scale_linear", {rope + "scale_linear": _FACTOR}),
                 ("scale_linear and type", {rope + "scale_linear": _FACTOR, scaling + "type": "linear"}),
                 ("scale_linear and scaling none", {rope + "scale_linear": _FACTOR, scaling + "type": "none"}),
                 ("scale_linear and a factor", {rope + "scale_linear": _FACTOR, scaling + "factor": _FACTOR}),
                 ("scaling factor 0", {scaling + "type": "linear", scaling + "factor": 0.0}),
                 ("attn_factor", {scaling + "attn_factor": Between(1.1, 2)}),
                 ("attn_factor 1", {scaling + "attn_factor": 1.0}),
                 ("attn_factor and linear", {scaling + "attn_factor": 0.5, scaling + "type": "linear",
                                             scaling + "factor": _FACTOR}),
                 ("scaling yarn", {scaling + "type": "yarn", scaling + "factor": _FACTOR,
                                   scaling + "original_context_length": 16}),
                 ("scaling yarn, factor 1", {scaling + "type": "yarn", scaling + "factor": 1.0}),
                 ("scaling yarn without factor", {scaling + "type": "yarn"}),
                 ("yarn_ keys, no type", {scaling + "yarn_beta_fast": 8.0, scaling + "yarn_ext_factor": 1.0}),
                 ("scaling longrope", {scaling + "type": "longrope", scaling + "factor": _FACTOR}),
                 ("scaling of an unknown type", {scaling + "type": "su", scaling + "factor": _FACTOR}),
                 ("original_context_length alone", {scaling + "original_context_length": 16}),
                 ("finetuned", {scaling + "finetuned": True}),
                 ("dimension_count smaller", {rope + "dimension_count": 4}),
                 dims=small),
        *_config("rope", False, ("freq_base_swa", {rope + "freq_base_swa": 37.0}),
                 ("dimension_sections", {rope + "dimension_sections": [2, 1, 1, 0]}), dims=small, warned=True),
        *(Change(f"rope_freqs of llama3, {name}", "rope", config, _divisors(divisors), dims=wide, must=True)
          for name, config, divisors in (
              ("original context 8192", {}, _llama3_divisors(original=8192)),
              ("original context 32", original, _llama3_divisors()),
              ("no original context", {}, _llama3_divisors()),
              ("factor 32", original, _llama3_divisors(32.0)),
              ("other band", original, _llama3_divisors(low=2.0, high=8.0)))),
        *(Change(f"rope_freqs of llama3, {name}", "rope", original | config, _divisors(_llama3_divisors()), dims=wide,
                 named=("rope_freqs",))
          for name, config in (
              ("scaling linear", {scaling + "type": "linear", scaling + "factor": _FACTOR}),
              ("a factor without type", {scaling + "factor": _FACTOR}),
              ("scale_linear", {rope + "scale_linear": _FACTOR}), ("scaling none", {scaling + "type": "none"}),
              ("scaling yarn", {scaling + "type": "yarn", scaling + "factor": _FACTOR}),
              ("attn_factor", {scaling + "attn_factor": Between(1.1, 2)}))),
        Change("rope_freqs of nothing known", "rope", edit=_divisors(lambda d: np.linspace(1, 3, d.head_dim // 2)),
               named=("rope_freqs",)),
        Change("rope_freqs of ones", "rope", edit=_divisors(lambda d: np.ones(d.head_dim // 2)), named=("rope_freqs",)),
        Change("rope_freqs too long", "rope", edit=_divisors(lambda d: np.ones(d.head_dim)), named=("rope_freqs",)),
        Change("rope_factors_short", "rope", edit=_added("rope_factors_short.weight", lambda d: (d.head_dim // 2,)),
               named=("rope_factors_short",), warned=True),
        # attention
        *_config("attention", True, ("causal true", {attention + "causal": True}),
                 ("key_length and value_length absent", {attention + "key_length": ABSENT,
                                                         attention + "value_length": ABSENT})),
        Change("key_length larger", "attention", dims={"hidden": 32, "heads": 4, "kv_heads": 2, "head_dim": 16},
               must=True),
        Change("head_count_kv absent", "attention", {attention + "head_count_kv": ABSENT},
               dims={"hidden": 32, "heads": 4, "kv_heads": 4, "head_dim": 8}, must=True),
        *_config("attention", False, ("causal false", {attention + "causal": False}),
                 ("value_length other", {attention + "value_length": 4}),
                 ("head_count_kv an array of the same", {attention + "head_count_kv": [2, 2]}),
                 ("head_count_kv an array", {attention + "head_count_kv": [2, 1]}),
                 ("head_count an array", {attention + "head_count": [4, 4]}),
                 ("head_count_kv 0", {attention + "head_count_kv": 0}),
                 ("window and pattern", {attention + "sliding_window": 8, attention + "sliding_window_pattern": 2}),
                 named=("Head count", "KV head count"), dims=small | {"layers": 2}),
        *_config("attention", False, ("sliding_window", {attention + "sliding_window": 8})),
        # keys of other architectures, which llama.cpp does not read for this one
        *_config("attention", False, ("attention scale", {attention + "scale": 0.1}),
                 ("clamp_kqv", {attention + "clamp_kqv": 0.2}),
                 ("max_alibi_bias", {attention + "max_alibi_bias": 8.0}),
                 ("attention temperature", {attention + "temperature_scale": 0.1, attention + "temperature_length": 8}),
                 ("attn_logit_softcapping", {"llama.attn_logit_softcapping": 2.0}), warned=True),
        *_config("attention", True, ("sliding_window of the context", {attention + "sliding_window": 64})),
        # norms and numbers
        *_config("norm", True, ("epsilon", {attention + "layer_norm_rms_epsilon": 0.1})),
        *_config("norm", False, ("epsilon absent", {attention + "layer_norm_rms_epsilon": ABSENT})),
        *_config("norm", False, ("another epsilon beside", {attention + "layer_norm_epsilon": 0.1}), warned=True),
        *_config("foreign", False, *((key, {"llama." + key: value}) for key, value in {
            "expert_used_count": 2, "expert_count": 4, "tensor_data_layout": "Meta AI original pth",
            "pooling_type": 1}.items())),
        *_config("foreign", False, *((key, {"llama." + key: value}) for key, value in {
            "logit_scale": 0.5, "residual_scale": 0.3, "embedding_scale": 12.0, "final_logit_softcapping": 3.0,
            "use_parallel_residual": True, "swin_norm": True, "expert_shared_count": 1, "leading_dense_block_count": 1,
            "decoder_start_token_id": 1, "rescale_every_n_layers": 6, "hidden_act": "gelu", "activation": "gelu",
            "attention.group_norm_epsilon": 0.1}.items()), warned=True),
        *_config("foreign", True, ("expert_count 0", {"llama.expert_count": 0, "llama.expert_used_count": 0}),
                 ("general keys", {"general.name": "x", "general.file_type": 1, "general.quantization_version": 2})),
        # what it is
        *(Change(f"architecture {name}", "type", {"general.architecture": name}, _architecture(name),
                 named=(f"Metadata {name}.",))
          for name in (
            "qwen2", "granite", "minicpm", "mistral", "mistral3", "llama4", "deci", "arcee")),
        # head
        Change("no output", "head", edit=_drop("output.weight"), must=True),
        Change("output equal to token_embd", "head", edit=_set(
            "output.weight", lambda d: d.tensors["token_embd.weight"].copy()), must=True),
        Change("a bias of the output", "head", edit=_gguf_biases("output"), named=("output.bias", "lm_head.bias"),
               warned=True),
        # tensors
        Change("biases of q, k, v", "tensors", edit=_gguf_biases("attn_q", "attn_k", "attn_v"), named=("bias",)),
        Change("a bias of attn_output", "tensors", edit=_gguf_biases("attn_output"), named=("bias",)),
        Change("biases of ffn", "tensors", edit=_gguf_biases("ffn_gate", "ffn_up", "ffn_down"), named=("bias",)),
        Change("a bias of a norm", "tensors", edit=_gguf_biases("attn_norm"),
               named=("attn_norm.bias", "layernorm.bias")),
        Change("norms of queries", "tensors", edit=_added("blk.0.attn_q_norm.weight", lambda d: (d.head_dim,)),
               named=("attn_q_norm",)),
        Change("a router", "tensors", edit=_added("blk.0.ffn_gate_inp.weight", lambda d: (4, d.hidden)),
               named=("ffn_gate_inp",)),
        Change("a tensor of no name known", "tensors", edit=_added("something.weight", lambda d: (3,)),
               named=("something",), warned=True),
        Change("a layer too many", "tensors", {"llama.block_count": 1}, dims={"layers": 2},
               named=("blk.1", "layers.1")),
        Change("a layer too few", "tensors", {"llama.block_count": 3}, dims={"layers": 2}, named=("blk.2", "layers.2")),
        Change("a missing matrix", "tensors", edit=_drop("blk.0.ffn_gate.weight"), named=("ffn_gate", "gate_proj")),
        Change("a missing norm", "tensors", edit=_drop("output_norm.weight"), named=("output_norm", "model.norm")),
        Change("a wrong feed_forward_length", "tensors", {"llama.feed_forward_length": 33},
               named=("gate_proj", "ffn_gate")),
        Change("a wrong vocab_size", "tensors", {"llama.vocab_size": 40}, named=("token_embd", "embed_tokens")),
        # stored types
        *(Change(f"all {dtype}", "dtype", edit=_typed(lambda n, dtype=dtype: dtype), must=True)
          for dtype in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")),
        *(Change(dtype, "dtype", edit=_super_blocks(dtype, size, scales), must=True, dims={
            "hidden": 256, "intermediate": 256, "heads": 4, "kv_heads": 2, "head_dim": 64, "layers": 1})
          for dtype, size, scales in (("Q4_K", 144, {0: 4e-4, 2: 3e-3}), ("Q5_K", 176, {0: 2e-4, 2: 3e-3}),
                                      ("Q6_K", 210, {208: 1e-4}))),
        Change("Q8_0, Q4_0 and F16", "dtype", edit=_typed(
            lambda n: "Q8_0" if "ffn" in n else "Q4_0" if "attn" in n else "F16"), must=True),
        Change("only the output Q8_0", "dtype", edit=_typed(lambda n: "Q8_0" if "output.w" in n else "F32"), must=True),
    ]


CHANGES = {"folder": _folder_changes(), "gguf": _gguf_changes()}
