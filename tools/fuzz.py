#!/usr/bin/env python3
"""Damaged files and answers by the ten thousand: each must be read or refused in one line, in 2 s and 500 MB.

An input is a function of target, seed and number alone, so that a finding can be made again. Changes know the structure
(other types, extreme numbers, keys dropped and doubled, nesting) or are blind (bits, cuts). What may be raised is what
the commands turn into one line; everything else, a warning or words on stderr included, is a finding. Those that fail
at the same place are one, and its smallest input is kept in build/fuzz.
"""
import argparse
import contextlib
import copy
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import gguf
import numpy as np

from hwgen.emit.project import EmitError, check_output
from hwgen.golden.uart_bridge import UartBridge, frame
from hwgen.host.links.frames import FramePort, Read, Write
from hwgen.host.inputs import InputError, checked_input, writing
from hwgen.host.links.link import Entry, LinkError
from hwgen.host.serving.policies import Policy
from hwgen.host.links.register_link import RegisterLink
from hwgen.host.serving.scheduler import Scheduler
from hwgen.host.links.timing_link import TimingLink
from hwgen.host.serving.trace import Synthetic, read_trace, requests_of
from hwgen.models import ModelError, load, quantize, random_checkpoint
from hwgen.models.hf import folder_shape
from hwgen.models.pack import model_id
from hwgen.models.safetensors_file import SafetensorsFile
from hwgen.models.tokenizer import Tokenizer
from hwgen.params.axi import AxiShape
from hwgen.params.design import Design
from hwgen.params.model import ModelShape
from hwgen.params.presets import hw_shape, recipe
from hwgen.params.registers import MAGIC, VERSION, design_id, register_map
from tests.model_files import byte_tokenizer, write_folder

REFUSALS = (ModelError, InputError, LinkError, EmitError)
SECONDS, WAIT, MEGABYTES = 2.0, 20.0, 500   # of processor time, by the clock, of memory: for an input
LONGEST = 1100                              # characters of a refusal
FOLDER = Path("build/fuzz")

SHAPE = ModelShape(name="fuzzed", vocab_size=270, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                   num_attention_heads=2,
                   num_key_value_heads=1,
                   head_dim=8, rms_norm_eps=1e-5, max_position_embeddings=64, bos_token_id=1, eos_token_ids=(2,))
TEXTS = ("the rein", "", " é\n\x00\u2028\U0001f600", "</s><s>")


# -- changes

RAW = "@raw:"       # a string that stands for the JSON text behind it
VALUES = (None, True, False, 0, -1, 1, 2, 3, 0.5, 1e-9, -1e308, 1e308, 2**31, 2**32, 2**63, 2**64, 10**6, 10**9,
          10**30, -2**63, float("nan"), float("inf"), "", "x", "0", "１２", "a\0b", "a\nb\x1b[2J", "../x",
          "/dev/zero", "é" * 300, "a" * 10_000, [], {}, [[]], [None], {"a": 1}, [0] * 1000, ["x"], "none", "null",
          RAW + '"\\ud800"', RAW + "9" * 5000, RAW + "1e999", RAW + "-0", RAW + "[" * 5000 + "]" * 5000,
          RAW + '{"a":' * 5000 + "1" + "}" * 5000, RAW + "[" * 99_999)


def places(value, path=()):
    """The paths to everything in a JSON value, itself included; of long lists only some."""
    yield path
    if isinstance(value, dict):
        for key in list(value)[:40]:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for i in range(min(len(value), 6)):
            yield from places(value[i], (*path, i))


def changed(rng, value):
    """A copy of a JSON value with one thing in it changed."""
    value = copy.deepcopy(value)
    path = rng.choice(list(places(value)))
    if not path:
        return rng.choice([value, value, [value], rng.choice(VALUES)])
    parent = value
    for step in path[:-1]:
        parent = parent[step]
    key, old = path[-1], parent[path[-1]]
    kind = rng.choice(["value", "value", "near", "drop", "rename", "wrap", "swap", "add"])
    if kind == "value":
        parent[key] = rng.choice(VALUES)
    elif kind == "near":
        if isinstance(old, bool) or not isinstance(old, (int, float, str)):
            parent[key] = rng.choice(VALUES)
        else:
            parent[key] = rng.choice([old + old, old[:-1], old.upper(), old + "\0", " " + old]
                                     if isinstance(old, str) else [
                old + 1, old - 1, -old, old * 2, old // 2, float(old), str(old), old * 1000, old + 0.5])
    elif kind == "drop":
        del parent[key]
    elif kind == "rename" and isinstance(parent, dict):
        parent[rng.choice(["x", key + "x", ""])] = parent.pop(key)
    elif kind == "wrap":
        parent[key] = rng.choice([[old], {"a": old}, {str(key): old}, [old, old]])
    elif kind == "swap":
        other = rng.choice([p for p in places(value) if p])
        found = value
        for step in other:
            found = found[step]
        parent[key] = copy.deepcopy(found)
    elif isinstance(parent, dict):
        parent[rng.choice(["x", "__metadata__", "type", "added_tokens"])] = rng.choice(VALUES)
    else:
        parent.insert(rng.randrange(len(parent) + 1), rng.choice(VALUES))
    return value


def text_of(rng, value):
    """JSON text of a value, in bytes; sometimes with a fault that no value has."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    while (at := text.find(f'"{RAW}')) >= 0:
        end = at
        while True:     # the closing quote
            end = text.index('"', end + 1)
            if text[end - 1] != "\\" or text[end - 2] == "\\":
                break
        text = text[:at] + json.loads(text[at:end + 1]).removeprefix(RAW) + text[end + 1:]
    data = text.encode("utf-8", "surrogatepass")
    kind = rng.random()
    if kind < 0.04 and text.startswith("{") and len(text) > 2:     # a key twice
        first = text[1:text.find(":") + 1] if ":" in text else '"x":'
        data = b"{" + first.encode("utf-8", "surrogatepass") + b'"twice",' + data[1:]
    elif kind < 0.12:
        data = blind(rng, data)
    elif kind < 0.14:
        data = rng.choice([b"\xef\xbb\xbf" + data, text.encode("utf-16", "surrogatepass"), b"", b"\0" * 100,
                           b"[" * 200_000, data + data,
                           LFS, b"<html>", b"PK\x03\x04" + data])
    return data


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def blind(rng, data, first=None):
    """Bytes with bits flipped, bytes replaced, pieces cut out, doubled or put elsewhere; mostly within the ``first``
    ones."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        if not data:
            break
        at = rng.randrange(min(first or len(data), len(data)) if rng.random() < 0.9 else len(data))
        length = rng.choice([1, 2, 4, 8, 16, 64])
        kind = rng.randrange(7)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at:at + length]
        elif kind == 3:
            data[at:at] = data[at:at + length]
        elif kind == 4:
            data[at:at + 8] = struct.pack("<Q", rng.choice([0, 1, 2**16, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 10**6]))
        elif kind == 5 and rng.random() < 0.3:
            del data[at:]
        else:
            data[at:at + length] = rng.randbytes(length)
    return bytes(data)


def damaged(rng, value):
    """JSON text of a value with some changes."""
    for _ in range(rng.choice([0, 1, 1, 1, 1, 2, 3])):
        value = changed(rng, value)
    return text_of(rng, value)


# -- targets: each makes files (name -> bytes, or None: it is missing) from a random generator, and uses the folder that
# they are in

class Target:
    """``attempts(folder, rng)`` yields functions: each reads or refuses."""
    weight = 1

    def __init__(self, work):
        self.base = work / f"base-{type(self).__name__}"
        write_folder(self.base, SHAPE)
        self.files = {path.name: path.read_bytes() for path in self.base.iterdir()}

    def json(self, name):
        return json.loads(self.files[name])


def use_model(path, need_tokenizer=False):
    checkpoint = load(path, need_tokenizer=need_tokenizer)
    for name in checkpoint.names()[:8]:
        checkpoint.tensor(name)
    if checkpoint.tokenizer is not None:
        use_tokenizer(checkpoint.tokenizer)
    return checkpoint


def use_tokenizer(tokenizer):
    for text in TEXTS:
        ids = tokenizer.encode(text)
        tokenizer.decode(ids), tokenizer.decode(ids, special=True)
        stream = tokenizer.stream()
        "".join(stream.push(token) for token in ids) + stream.end()
    tokenizer.decode(range(0, 270, 7))
    if tokenizer.chat_template is not None:
        tokenizer.encode_chat([{"role": "system", "content": "x"}, {"role": "user", "content": "the"}])


def use_shape(shape):
    with checked_input():
        return Design(model=shape, hw=hw_shape("tiny", shape), recipe=recipe())


class Safetensors(Target):
    weight = 4

    def make(self, rng):
        whole = self.files["model.safetensors"]
        length = int.from_bytes(whole[:8], "little")
        if rng.random() < 0.35:
            return {"model.safetensors": blind(rng, whole, rng.choice([8 + length, None]))}
        header = damaged(rng, json.loads(whole[8:8 + length]))
        length = rng.choice([len(header)] * 9 + [0, len(header) + 1, 2**63, 100_000_001])
        return {"model.safetensors": length.to_bytes(8, "little") + header
                + whole[8 + int.from_bytes(whole[:8], "little"):]}

    def attempts(self, folder, rng):
        def every_tensor():
            file = SafetensorsFile(folder / "model.safetensors")
            for name in file.shapes:
                with contextlib.suppress(ModelError):
                    file.read(name)
        yield every_tensor
        yield lambda: use_model(folder)


class Config(Target):
    weight = 4

    def __init__(self, work):
        super().__init__(work)
        write_folder(self.base, SHAPE, shards=2)
        (self.base / "model.safetensors").unlink()
        self.files = {path.name: path.read_bytes() for path in self.base.iterdir()}
        self.config = self.json("config.json") | {
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 32},
            "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}, "attention_bias": False,
            "sliding_window": None, "torch_dtype": "float32",
            "partial_rotary_factor": 1.0, "pretraining_tp": 1}

    def make(self, rng):
        config = {key: value for key, value in self.config.items() if key not in ("rope_scaling", "quantization_config")
                  or rng.random() < 0.5}
        files = {"config.json": damaged(rng, config)}
        if rng.random() < 0.3:
            files["generation_config.json"] = damaged(rng,
                                                      {"eos_token_id": [2, 3], "bos_token_id": 1, "temperature": 0.6})
        if rng.random() < 0.3:
            files["config.json"] = json.dumps(self.json("config.json")).encode()
            files["model.safetensors.index.json"] = damaged(rng, self.json("model.safetensors.index.json"))
        return files

    def attempts(self, folder, rng):
        yield lambda: use_shape(folder_shape(folder))
        yield lambda: use_model(folder)


class Gguf(Target):
    weight = 3

    def __init__(self, work):
        self.bases = []
        for kind in ("gpt2", "llama"):
            path = work / f"{kind}.gguf"
            write_gguf(path, kind)
            self.bases.append(path.read_bytes())
        self.files = {}

    def make(self, rng):
        whole = rng.choice(self.bases)
        if rng.random() < 0.03:
            return {"model.gguf": rng.choice([b"", b"GGUF", LFS, whole[:rng.randrange(len(whole))],
                                              b"GGUF" + rng.randbytes(500)])}
        if rng.random() < 0.6:      # another value, of the same type or not, for a key; a key twice or not at all
            fields, rest = gguf_fields(whole)
            for _ in range(rng.choice([1, 1, 2])):
                i = rng.randrange(len(fields))
                key, value = fields[i]
                wrong = [[(key, rng.choice(GGUF_VALUES))]] * 6
                wrong += [[], [(key, value)] * 2, [(key + b"x", value)], [(key, fields[rng.randrange(len(fields))][1])]]
                fields[i:i + 1] = rng.choice(wrong)
            return {"model.gguf": gguf_file(whole, fields, rest)}
        return {"model.gguf": blind(rng, whole, len(whole) - 8000)}

    def attempts(self, folder, rng):
        yield lambda: use_shape(use_model(folder / "model.gguf", need_tokenizer=True).shape)


class TokenizerFiles(Target):
    weight = 3
    TEMPLATES = ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "{{ 'a' * 10**9 }}",
                 "{{ [0] * 10**10 }}", "{{ 10**10**8 }}",
                 "{% include 'x' %}", "{{ messages.foo.bar }}", "{{ messages[0].content.format(*messages) }}",
                 "{{ raise_exception('a\nb') }}", "{{ raise_exception() }}",
                 "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "{" * 5000,
                 "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "{% if %}",
                 "{{ 1 / 0 }}", "{{ messages | tojson(indent=-1) }}",
                 "{{ strftime_now(1) }}", "{{ strftime_now('%') }}", "{{ messages.__class__.__mro__ }}",
                 "{{ ''.join(messages) }}",
                 "{{ [] | first }}", "{{ 'x' | indent('y') }}",
                 "{{ '%999999999d' % 1 }}", "{{ lipsum(n=10**9) }}", "{{ messages | batch(0) | list }}",
                 "{% set ns = namespace(x=messages) %}{% set ns.x = ns %}{{ ns | tojson }}", "\ud800")

    def make(self, rng):
        files, kind = {}, rng.random()
        if kind < 0.5:
            core = self.json("tokenizer.json")
            files["tokenizer.json"] = damaged(rng,
                                              core) if rng.random() < 0.9 else blind(rng, self.files["tokenizer.json"])
        if kind > 0.3:
            options = self.json("tokenizer_config.json") | {
                "added_tokens_decoder": {str(i): {"content": token, "special": True, "lstrip": False, "rstrip": False,
                                                  "normalized": False,
                                                  "single_word": False}
                                         for i, token in enumerate(("<unk>", "<s>", "</s>"))}, "add_bos_token": True,
                                         "model_max_length": int(1e30)}
            if rng.random() < 0.3:
                options["chat_template"] = [{"name": "default", "template": options["chat_template"]}]
            if rng.random() < 0.2:
                options["chat_template"] = rng.choice(self.TEMPLATES)
            files["tokenizer_config.json"] = damaged(rng, options)
        if rng.random() < 0.15:
            if rng.random() < 0.5:
                template = rng.choice(self.TEMPLATES).encode("utf-8", "surrogatepass")
            else:
                template = blind(rng, self.json("tokenizer_config.json")["chat_template"].encode())
            files["chat_template.jinja"] = template
        return files

    def attempts(self, folder, rng):
        def use():
            tokenizer = Tokenizer.from_folder(folder)
            tokenizer.check_vocabulary(SHAPE.vocab_size, folder)
            use_tokenizer(tokenizer)
        yield use


class Manifest(Target):
    weight = 1

    def __init__(self, work):
        self.files = {"top.v": b"module top; endmodule\n"}
        self.about = {"generator": {"hwgen": "0.1.0", "amaranth": "0.5"}, "top": "top",
                      "files": {"top.v": "the machine", "manifest.json": "shape"}, "model": {"name": "x"}}

    def make(self, rng):
        return {"manifest.json": damaged(rng, self.about)}

    def attempts(self, folder, rng):
        def check():
            with writing(folder), checked_input():
                check_output(folder, "top")
        yield check


class Trace(Target):
    weight = 3
    LINES = ({"tokens": [1, 2, 3], "output_length": 4, "arrival": 0.001, "seed": 3, "stop": True, "name": "a"},
             {"prompt_length": 9, "cycle": 1000}, {"text": "the rein", "output_length": 2})
    SPECS = ("requests=9,prompt=3:6,output=~4,rate=100,longest=20,seed=2", "prompt=~9",
             "decode-first,budget=8,chunk=4,full=keep")

    def __init__(self, work):
        self.files = {}
        self.design = Design(model=SHAPE, hw=hw_shape("tiny", SHAPE), recipe=recipe())
        self.tokenizer = Tokenizer(byte_tokenizer())

    def make(self, rng):
        rows = [damaged(rng, rng.choice(self.LINES)) for _ in range(rng.choice([1, 1, 2, 5]))]
        data = rng.choice([b"\n", b"\n", b"\r\n", b"\n\n", b" \n", b"\x0b"]).join(rows)
        return {"trace.jsonl": blind(rng, data) if rng.random() < 0.1 else data}

    def attempts(self, folder, rng):
        def play():
            with checked_input():
                requests = requests_of(read_trace(folder / "trace.jsonl"), SHAPE, 100.0, self.tokenizer,
                                       context=self.design.hw.context)
                trial = Scheduler(TimingLink(self.design))
                for request in requests:
                    trial.add(request)

        def spec():
            text = rng.choice(self.SPECS)
            with checked_input():
                words = text.split(",")
                i = rng.randrange(len(words))
                key, _, value = words[i].partition("=")
                value = rng.choice([value, "9" * rng.choice([3, 9, 10, 11, 5000]), "-1", "nan", "1e400", "1e-320", "~",
                                    ":", "１２", "1:",
                                    "~1:2", "", " 3 ", "0x10", "1_0", "2**31"])
                words[i] = rng.choice([key, key + "=" + value, "=" + value, value])
                text = ",".join(words)
                (Policy if "budget" in text
                 else Synthetic).parse(text) if rng.random() < 0.5 else list(Synthetic.parse(text).lines())
        yield play
        yield spec


class Uart(Target):
    weight = 2

    def __init__(self, work):
        self.files = {}
        model = ModelShape(name="tiny", vocab_size=37, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                           num_attention_heads=2,
                           num_key_value_heads=1,
                           head_dim=8, rms_norm_eps=1e-5, max_position_embeddings=64, tie_word_embeddings=True)
        self.design, self.axi = Design(model=model, hw=hw_shape("tiny,source=stream", model),
                                       recipe=recipe()), AxiShape(host="queue")
        self.model = quantize(random_checkpoint(model), self.design.recipe)
        self.map = register_map(self.design, self.axi)

    def make(self, rng):
        return {"seed": str(rng.getrandbits(64)).encode()}      # what comes depends on what is sent

    def attempts(self, folder, rng):
        rng = random.Random(int((folder / "seed").read_text()))
        kind = rng.choice(["mixed"] * 4 + ["noise", "frames", "lengths", "echo"])

        def operations():
            port = FramePort(_Line(rng, kind), timeout=0.002, attempts=3)
            for _ in range(5):
                wanted = [Read(4 * rng.randrange(99), rng.randint(1, 63), rng.random() < 0.2) if rng.random() < 0.6 else
                          Write(4 * rng.randrange(99), tuple(rng.getrandbits(32) for _ in range(rng.randint(1, 62))))
                          for _ in range(rng.randint(0, 9))]
                found = port.transact(wanted)
                if [None if isinstance(op, Write) else op.count
                    for op in wanted] != [None if words is None else len(words) for words in found]:
                    raise AssertionError(f"{wanted} were answered with {found}")

        def machine():
            port = FramePort(_Line(rng, "mixed", self._bridge(rng), faults=rng.choice([0, 0, 0.02])),
                             timeout=0.01, attempts=3)
            link = RegisterLink(port, self.design, self.axi, self.model, patience=0.02)
            link.run_pass([Entry(0, 0, 1), Entry(0, 1, 2)][:rng.choice([1, 2])])
            link.operate(rng.choice([0, 1, 2]), 0)
            for _ in zip(range(20), link.follow([Entry(0, 0, 1)], 5)):
                pass
        yield operations
        yield machine

    def _bridge(self, rng):
        """A machine that says it is the right one; its other registers hold anything."""
        name = self.design.model.name.encode().ljust(16, b"\0")
        known = {"ID": MAGIC, "VERSION": VERSION, "DESIGN_ID": design_id(self.design, self.axi),
                 "WEIGHTS_ID": model_id(self.model),
                 "STATUS": 0,
                 **{f"NAME{i}": int.from_bytes(name[4 * i:4 * i + 4], "little") for i in range(4)}}
        words = {self.map[register].offset: word for register, word in known.items() if rng.random() < 0.99}
        results = {self.map[r].offset: r for r in ("QUEUE", "RESULT_LO", "RESULT_HI", "KV_ANSWER", "LOOP")}

        def read(address):
            if address in results:
                return {"QUEUE": rng.choice([0, 1, 1, 2, 255]) << 8,
                        "RESULT_LO": rng.choice([0, 5, 36, 37, rng.getrandbits(32)]),
                        "RESULT_HI": rng.choice([0, 1, 1 << 16, 1 << 24, 1 << 30, rng.getrandbits(32)])
                        | rng.choice([0, 1, 1]) << 31,
                        "KV_ANSWER": rng.choice([0, 0, 3 << 8, rng.getrandbits(16)]),
                        "LOOP": rng.choice([0, 0, 1 << 16])}[results[address]], 0
            return words.get(address,
                             rng.choice([0, rng.getrandbits(32)])), 0 if rng.random() < 0.999 else rng.randrange(4)
        return UartBridge(read, lambda address, word: 0, read_cycles=3, write_cycles=3)


class _Line:
    """A line at whose other end is a bridge, or noise, or frames that nobody asked for."""
    name = "fuzzed"

    def __init__(self, rng, kind, bridge=None, faults=0.1):
        self.rng, self.kind, self.faults, self.out = rng, kind, faults, b""
        self.bridge = bridge or UartBridge(lambda address: (rng.getrandbits(32), 0 if rng.random() < 0.9999
                                                            else rng.randrange(4)),
                                           lambda address, word: 0, read_cycles=3, write_cycles=3)

    def write(self, data):
        rng, found = self.rng, self.bridge.receive(data)
        answer = found[0] if found else b""
        kind = self.kind if self.kind != "mixed" else rng.choice(["noise", "frames", "lengths",
                                                                  "echo"]) if rng.random() < self.faults else "right"
        if len(data) <= 5 and rng.random() < 0.9:       # connecting succeeds mostly
            kind = "right"
        self.out += {"right": lambda: answer, "noise": lambda: rng.choice([rng.randbytes(rng.randrange(400)),
                                                                           b"\xa5" * 300,
                                                                           blind(rng, answer)]),
                     "frames": lambda: frame(rng.choice([data[1], rng.randrange(256)]),
                                             rng.randbytes(rng.randrange(256)))
                     * rng.choice([1, 3]),
                     "lengths": lambda: frame(data[1], bytes(rng.randrange(256))), "echo": lambda: data}[kind]()

    def read(self, seconds):
        data, self.out = self.out[:64], self.out[64:]
        if not data:
            time.sleep(min(seconds, 0.002))
        return data

    def close(self):
        pass


def _gguf_value(data, at):
    """Where the value (type and bytes) ends that begins at a byte of a GGUF file."""
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def end(kind, at):
        return at + (sizes[kind] if kind != 8 else 8 + int.from_bytes(data[at:at + 8], "little"))
    kind, at = int.from_bytes(data[at:at + 4], "little"), at + 4
    if kind != 9:
        return end(kind, at)
    kind, count = struct.unpack_from("<IQ", data, at)
    at += 12
    for _ in range(count):
        at = end(kind, at)
    return at


def gguf_fields(data):
    """([(key, type and value)], where the tensors' descriptions begin) of a GGUF file."""
    at, fields = 24, []
    for _ in range(int.from_bytes(data[16:24], "little")):
        length = int.from_bytes(data[at:at + 8], "little")
        key, at = data[at + 8:at + 8 + length], at + 8 + length
        end = _gguf_value(data, at)
        fields.append((key, data[at:end]))
        at = end
    return fields, at


def gguf_file(whole, fields, tensors):
    """The file with other fields. Its tensors begin at the next multiple of 32, so what is between is moved with
    them."""
    described = int.from_bytes(whole[8:16], "little")
    at = tensors
    for _ in range(described):
        at += 8 + int.from_bytes(whole[at:at + 8], "little")
        at += 4 + 8 * int.from_bytes(whole[at:at + 4], "little") + 12
    head = whole[:16] + struct.pack("<Q", len(fields)) + b"".join(struct.pack("<Q", len(key)) + key + value
                                                                  for key, value in fields) + whole[tensors:at]
    return head + bytes(-len(head) % 32) + whole[at + -at % 32:]


def _gguf_text(text):
    return struct.pack("<Q", len(text)) + text


#: Values of GGUF, as type and bytes.
GGUF_VALUES = [struct.pack("<I", kind) + value for kind, value in (
    (4, struct.pack("<I", 0)), (4, struct.pack("<I", 1)), (4, struct.pack("<I", 3)), (4, struct.pack("<I", 10**6)),
    (4, b"\xff" * 4),
    (5, struct.pack("<i", -1)), (0, b"\x02"), (1, b"\xff"),
    (6, struct.pack("<f", float("nan"))), (6, struct.pack("<f", float("inf"))), (6, struct.pack("<f", 0.5)),
    (6, struct.pack("<f", -1.0)),
    (6, bytes(4)), (7, b"\1"), (7, b"\0"), (7, b"\7"),
    (10, b"\xff" * 8), (10, struct.pack("<Q", 2**63)), (10, struct.pack("<Q", 10**9)), (11, struct.pack("<q", -2**63)),
    (12, struct.pack("<d", 1e300)), (12, struct.pack("<d", 64.0)),
    (8, _gguf_text(b"")), (8, _gguf_text(b"x")), (8, _gguf_text(b"\xff\xfe")), (8, _gguf_text(b"a\nb\x1b[2J")),
    (8, _gguf_text(b"linear")),
    (8, _gguf_text(b"yarn")), (8, _gguf_text(b"none")),
    (8, _gguf_text(b"a" * 10_000)), (8, _gguf_text(b"{{ 1 / 0 }}")), (8, _gguf_text(b"llama-bpe")),
    (8, _gguf_text(b"llama")),
    (8, _gguf_text(b"gpt2")), (8, _gguf_text(b"qwen2")),
    (9, struct.pack("<IQ", 8, 0)), (9, struct.pack("<IQ", 4, 0)), (9, struct.pack("<IQ", 8, 1) + _gguf_text(b"a b")),
    (9, struct.pack("<IQ", 8, 2) + _gguf_text(b"x") * 2),
    (9, struct.pack("<IQ", 8, 1) + _gguf_text(b"\xff")), (9, struct.pack("<IQII", 4, 2, 1, 2)),
    (9, struct.pack("<IQiii", 5, 3, -1, 9, 2**31 - 1)), (9, struct.pack("<IQ", 6, 270) + bytes(1080)),
    (9, struct.pack("<IQ", 6, 270) + struct.pack("<f", float("nan")) * 270),
    (9, struct.pack("<IQ", 8, 270) + _gguf_text(b"a") * 270),
    (9, struct.pack("<IQ", 5, 270) + b"\xff" * 1080),
    (9, struct.pack("<IQ", 9, 1) + struct.pack("<IQI", 4, 1, 1)), (9, struct.pack("<IQ", 4, 2**40)),
    (9, struct.pack("<IQ", 8, 10**6)))]

TARGETS = {"safetensors": Safetensors, "config": Config, "gguf": Gguf, "tokenizer": TokenizerFiles,
           "manifest": Manifest, "trace": Trace,
           "uart": Uart}


def write_gguf(path, kind):
    """A small GGUF file with a byte-level or a SentencePiece tokenizer."""
    checkpoint = random_checkpoint(SHAPE)
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (("context_length", 64), ("embedding_length", 16), ("block_count", 1),
                       ("feed_forward_length", 24), ("head_count", 2),
                       ("head_count_kv", 1), ("key_length", 8),
                       ("rope_dimension_count", 8), ("rope_freq_base", 1e4), ("layer_norm_rms_eps", 1e-5),
                       ("tokenizer_model", kind),
                       ("bos_token_id", 1), ("eos_token_id", 2),
                       ("chat_template", "{% for m in messages %}{{ m['content'] }}{% endfor %}")):
        getattr(writer, f"add_{add}")(value)
    if kind == "gpt2":
        ids = byte_tokenizer().get_vocab()
        tokens = sorted(ids, key=ids.get)
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_types([2, 3, 3] + [1] * (len(tokens) - 3))
        writer.add_token_merges(["t h", "th e", "Ġ the", "e r", "i n", "Ã ©"])
    else:
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "t", "h", "e", "th",
                  "the", "▁the"]
        writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * 7)
        writer.add_token_scores([float(-i) for i in range(len(tokens))])
    writer.add_token_list(tokens)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
             "model.layers.0.input_layernorm": "blk.0.attn_norm",
             "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm",
             **{f"model.layers.0.self_attn.{m}_proj": f"blk.0.attn_{'output' if m == 'o' else m}" for m in "qkvo"},
             **{f"model.layers.0.mlp.{m}_proj": f"blk.0.ffn_{m}" for m in ("gate", "up", "down")}}
    for name in checkpoint.names():
        writer.add_tensor(names[name.removesuffix(".weight")] + ".weight", checkpoint.tensor(name).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# -- one input

class TooSlow(BaseException):
    """An input that takes too long."""


@dataclass
class Finding:
    target: str
    number: int
    place: str      # findings of one place are one
    text: str
    size: int = 0


def place_of(error):
    """Where an exception came from: its type and the innermost line of hwgen."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}hwgen{os.sep}" in f.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
    return f"{type(error).__name__} in {where}"


class Bench:
    """A target with its base files and a folder to put inputs into."""

    def __init__(self, name, seed, work, targets=TARGETS):
        self.name, self.seed = name, seed
        self.target = targets[name](work)
        self.folder = work / f"input-{name}"

    def rng(self, number):
        return random.Random(f"{self.seed}/{self.name}/{number}")

    def files(self, number):
        return self.target.make(self.rng(number))

    def try_input(self, number):
        """(whether anything of it was accepted, Finding or None)."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        files = self.files(number)
        for name, data in (self.target.files | files).items():
            if data is not None:
                (self.folder / name).write_bytes(data)
        accepted, finding = False, None
        for attempt in self.target.attempts(self.folder, self.rng(-1 - number)):
            try:
                attempt()
                accepted = True
            except REFUSALS as error:
                text = str(error)
                if not text.isprintable() or not text or len(text) > LONGEST:
                    finding = (f"{place_of(error)}: not one line", ascii(text))
            except KeyboardInterrupt:
                raise
            except BaseException as error:      # the tokenizers library panics with one
                finding = (place_of(error), f"{type(error).__name__}: {ascii(str(error))}")
            if finding:
                return accepted, Finding(self.name, number, finding[0], finding[1][:300], sum(map(len, files.values())))
        return accepted, None


def memory():
    """Peak of this process's memory since the last call, in MB."""
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("VmHWM")) / 1000
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def limited(bench, number, stderr):
    """`Bench.try_input` within the bounds of time and memory."""
    def stop(*_):
        raise TooSlow

    signal.signal(signal.SIGPROF, stop)
    signal.signal(signal.SIGALRM, stop)
    memory()
    stderr.seek(0)
    stderr.truncate()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAIT)
    try:
        accepted, finding = bench.try_input(number)
    except TooSlow:
        accepted, finding = False, Finding(bench.name, number, "too slow outside of an attempt", "")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    peak = memory()
    if finding is None and peak > MEGABYTES:
        finding = Finding(bench.name, number, "too much memory", f"{peak:.0f} MB")
    stderr.seek(0)
    words = stderr.read()
    if finding is None and words:
        finding = Finding(bench.name, number, "words on stderr", ascii(words[:200]))
    return accepted, finding


# -- many

def worker(pipe, seed, targets):
    """Take (target, number) from a pipe until None comes; answer each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # what is beyond is a MemoryError, not the machine's end
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work, tempfile.TemporaryFile("w+", errors="replace") as stderr:
        os.dup2(stderr.fileno(), 2)
        benches = {}
        while (task := pipe.recv()) is not None:
            name, number = task
            if name not in benches:
                benches[name] = Bench(name, seed, Path(work), targets)
            pipe.send(limited(benches[name], number, stderr))


class Worker:
    def __init__(self, seed, targets):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=worker, args=(theirs, seed, targets),
                                                                    daemon=True)
        self.process.start()
        theirs.close()
        self.task = self.since = None

    def give(self, task):
        self.task, self.since = task, time.monotonic()
        self.pipe.send(task)

    def end(self):
        self.process.kill()
        self.process.join()
        self.pipe.close()


def fuzz(tasks, seed, jobs, say, targets=TARGETS):
    """Try all (target, number) in worker processes. Returns (Counter of (target, outcome), [Finding])."""
    counts, findings, tasks = Counter(), [], iter(tasks)
    workers = [Worker(seed, targets) for _ in range(jobs)]
    try:
        busy = [w for w in workers if (task := next(tasks, None)) is not None and (w.give(task) or True)]
        while busy:
            ready = wait([w.pipe for w in busy] + [w.process.sentinel for w in busy], timeout=1)
            for w in list(busy):
                died = late = False
                if w.pipe in ready:
                    try:
                        accepted, finding = w.pipe.recv()
                    except EOFError:
                        died = True
                elif w.process.sentinel in ready:
                    died = True
                else:
                    late = time.monotonic() - w.since > 3 * WAIT
                    if not late:
                        continue
                name, number = w.task
                if died or late:
                    w.process.join(1)
                    what = "the process answered no more"
                    if died:
                        what = f"the process died with code {w.process.exitcode}"
                    accepted, finding = False, Finding(name, number, what.split(" with")[0], what)
                    busy.remove(w)
                    w.end()
                    workers[workers.index(w)] = w = Worker(seed, targets)
                    busy.append(w)
                counts[name, "finding" if finding else "accepted" if accepted else "refused"] += 1
                findings += [finding] if finding else []
                say(counts)
                task = next(tasks, None)
                if task is None:
                    busy.remove(w)
                else:
                    w.give(task)
    finally:
        for w in workers:
            w.end()
    return counts, findings


def tasks_of(names, inputs, first=0):
    """(target, number) of so many inputs, by the targets' weights, in turns."""
    weights = {name: TARGETS[name].weight for name in names}
    left = {name: inputs * weight // sum(weights.values()) for name, weight in weights.items()}
    left[names[0]] += inputs - sum(left.values())
    tasks = [(number / left[name], name, first + number) for name in names for number in range(left[name])]
    return [(name, number) for _, name, number in sorted(tasks)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000, help="so many, over all targets (default: 20000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(TARGETS), metavar="TARGETS", help=f"some of {','.join(TARGETS)}")
    parser.add_argument("--first", type=int, default=0, metavar="N",
                        help="number of each target's first input: to make a finding again")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    names = options.only.split(",")
    if options.inputs < 1 or not set(names) <= set(TARGETS):
        parser.error(f"inputs must be at least 1 and targets some of {','.join(TARGETS)}")
    start, shown = time.monotonic(), [0.0]

    def say(counts):
        if time.monotonic() - shown[0] > 10:
            shown[0] = time.monotonic()
            found = sum(count for (_, outcome), count in counts.items() if outcome == "finding")
            print(f"{counts.total():,} of {options.inputs:,} inputs, {found} findings, "
                  f"{time.monotonic() - start:.0f} s", flush=True)

    counts, findings = fuzz(tasks_of(names, options.inputs, options.first), options.seed, options.jobs, say)
    places = {}
    for finding in sorted(findings, key=lambda f: f.size):
        places.setdefault((finding.target, finding.place), []).append(finding)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        for (name, place), (smallest, *others) in sorted(places.items()):
            folder = FOLDER / f"{name}-{options.seed}-{smallest.number}"
            folder.mkdir(parents=True, exist_ok=True)
            for file, data in Bench(name, options.seed,
                                    Path(tempfile.mkdtemp(dir=work))).files(smallest.number).items():
                (folder / file).write_bytes(data)
            print(f"\n{name}: {place} ({1 + len(others)} inputs)\n  {smallest.text}\n  {folder}: python -m tools.fuzz "
                  f"--only {name} "
                  f"--seed {options.seed} "
                  f"--first {smallest.number} --inputs 1")
    print(f"\n{'target':12} {'inputs':>8} {'accepted':>9} {'refused':>8} {'findings':>9}")
    for name in names:
        row = [counts[name, outcome] for outcome in ("accepted", "refused", "finding")]
        print(f"{name:12} {sum(row):8,} {row[0]:9,} {row[1]:8,} {row[2]:9,}")
    print(f"\nfuzz: {counts.total():,} inputs with seed {options.seed} in {time.monotonic() - start:.0f} s: "
          f"{len(findings)} findings at "
          f"{len(places)} places")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
