"""The safetensors reader against the safetensors library, and files that are damaged on purpose."""
import copy
import json
import random
from functools import partial

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from hwgen.models import ModelError
from hwgen.models.safetensors_file import SafetensorsFile

#: Two matrices, a norm, a scalar, an empty tensor and one of a type that is no weight: name -> (dtype, shape, start,
#: stop).
ENTRIES = {"a": ("F32", [2, 3], 0, 24), "b": ("BF16", [4, 2], 24, 40), "norm": ("F16", [5], 40, 50),
           "one": ("F64", [], 50, 58),
           "none": ("F32", [0, 7], 58, 58), "ids": ("I64", [2], 58, 74), "codes": ("F8_E4M3", [3], 74, 77),
           "nibbles": ("F4", [6], 77, 80)}
DATA = bytes(random.Random(1).randbytes(80))
HEADER = {"__metadata__": {"format": "pt"},
          **{name: {"dtype": d, "shape": s, "data_offsets": [i, j]} for name, (d, s, i, j) in ENTRIES.items()}}


def packed(header, data=DATA):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def changed(name, **fields):
    header = copy.deepcopy(HEADER)
    header[name] |= fields
    return header


def written(tmp_path, data):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    return path


def refusal(path):
    with pytest.raises(ModelError) as caught:
        SafetensorsFile(path)
    line = str(caught.value)
    assert line.isprintable() and line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


def test_tensors_are_the_librarys(tmp_path):
    file = SafetensorsFile(written(tmp_path, packed(HEADER)))
    expected = {name: about["data"] for name, about in safetensors.deserialize(packed(HEADER))}
    assert file.shapes == {name: tuple(shape) for name, (_, shape, _, _) in ENTRIES.items()}
    types = {"F32": "<f4", "BF16": ml_dtypes.bfloat16, "F16": "<f2", "F64": "<f8", "F8_E4M3": ml_dtypes.float8_e4m3fn}
    with np.errstate(all="ignore"):
        for name in ("a", "b", "norm", "one", "none", "codes"):
            dtype, shape, *_ = ENTRIES[name]
            wanted = np.frombuffer(expected[name], types[dtype]).reshape(shape).astype(np.float32)
            np.testing.assert_array_equal(file.read(name), wanted)


@pytest.mark.parametrize("name, dtype", [("ids", "I64"), ("nibbles", "F4")])
def test_types_that_are_no_weights_are_refused_when_they_are_read(name, dtype, tmp_path):
    file = SafetensorsFile(written(tmp_path, packed(HEADER)))
    with pytest.raises(ModelError, match=f"tensor {name} must be one of .*, not {dtype}"):
        file.read(name)


@pytest.mark.parametrize("header, words", [
    (changed("b", data_offsets=[20, 36]),
     "Tensor b must begin at byte 24 of the data, where the one before it ends, not at 20"),
    (changed("b", data_offsets=[26, 42]), "Tensor b must begin at byte 24"),
    (changed("a", data_offsets=[1, 25]), "Tensor a must begin at byte 0"),
    ({**HEADER, "again": HEADER["a"]}, "Tensor again must begin at byte 24"),
    ({k: v for k, v in HEADER.items() if k != "a"}, "Tensor b must begin at byte 0"),
    ({k: v for k, v in HEADER.items() if k != "nibbles"}, "by its header, not"),
    (changed("a", data_offsets=[0, 20]),
     "Tensor a's data_offsets must be 24 bytes apart by its dtype and shape, not [0, 20]"),
    (changed("a", data_offsets=[24, 0]), "Tensor a's data_offsets must be 24 bytes apart"),
    (changed("a", shape=[2, 4]), "Tensor a's data_offsets must be 32 bytes apart"),
    (changed("a", dtype="F16"), "Tensor a's data_offsets must be 12 bytes apart"),
    (changed("nibbles", shape=[5]), "Tensor nibbles's data_offsets must be 2.5 bytes apart"),
    (changed("a", data_offsets=[0, 24, 24]), "data_offsets must be 24 bytes apart"),
    (changed("a", data_offsets=[-4, 20]), "Tensor a's data_offsets[0] must be at least 0, not -4"),
    (changed("a", data_offsets=[0.0, 24.0]), "Tensor a's data_offsets[0] must be an integer, not 0.0"),
    (changed("a", data_offsets=[False, 24]), "must be an integer, not False"),
    (changed("a", data_offsets="0:24"), "Tensor a's data_offsets must be a list, not '0:24'"),
    (changed("a", shape=[2.5, 3]), "Tensor a's shape[0] must be an integer, not 2.5"),
    (changed("a", shape=[-2, -3]), "Tensor a's shape[0] must be at least 0, not -2"),
    (changed("none", shape=[0, 2**40, 2**40]), "Tensor none's shape must be that of an array, not [0, 1099511627776,"),
    (changed("one", shape=[1] * 65), "Tensor one's shape must be that of an array, not [1, 1,"),
    (changed("a", dtype="F33"), "Tensor a's dtype must be one of F4, "),
    (changed("a", dtype=["F32"]), "Tensor a's dtype must be a string, not ['F32']"),
    (changed("a", strides=[3, 1]), "Tensor a's fields must be dtype, shape and data_offsets, not 'strides'"),
    (HEADER | {"a": {"dtype": "F32", "shape": [2, 3]}}, "Tensor a's data_offsets is missing"),
    (HEADER | {"a": 7}, "Tensor a must be an object, not 7"),
    (HEADER | {"a": None}, "Tensor a must be an object, not None"),
    (HEADER | {"__metadata__": {"format": 1}}, "Header's __metadata__['format'] must be a string, not 1"),
    (HEADER | {"__metadata__": "pt"}, "Header's __metadata__ must be an object, not 'pt'"),
    (json.dumps(HEADER).encode().replace(b'"b"', b'"a"'), "Header must be JSON (key 'a' stands twice)"),
    (b" " + json.dumps(HEADER).encode(), "Header must be that of a safetensors file"),
    (b"\xff" + json.dumps(HEADER).encode(), "Header must be that of a safetensors file"),
    (b'{"\xff": 1}', "Header must be JSON (not UTF-8 at byte 2)"),
    (b'{"a":' * 9999 + b"1" + b"}" * 9999, "Header must be JSON (it is nested too deeply)"),
    (b"{" + b" " * (17 << 20) + b"}", "Header must be at most 16777216 bytes long"),
])
def test_headers_that_are_refused(header, words, tmp_path):
    assert words in refusal(written(tmp_path, packed(header)))


def test_a_file_that_became_shorter_is_named(tmp_path):
    path = written(tmp_path, packed(HEADER))
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ModelError, match="File must stay as it was when it was opened"):
        file.read("codes")


def test_a_file_that_was_removed_is_named(tmp_path):
    path = written(tmp_path, packed(HEADER))
    file = SafetensorsFile(path)
    path.unlink()
    with pytest.raises(ModelError, match="model.safetensors: No such file"):
        file.read("a")


def mutated(rng):
    """A file of `HEADER` with one or two changes that know its structure, or some that do not."""
    header, data = copy.deepcopy(HEADER), DATA
    if rng.random() < 0.2:
        whole = bytearray(packed(header, data))
        for _ in range(rng.randint(1, 3)):
            whole[rng.randrange(len(whole) if rng.random() < 0.3 else 40)] ^= 1 << rng.randrange(8)
        return bytes(whole[:rng.choice([len(whole)] * 4 + [rng.randrange(len(whole))])])
    for _ in range(rng.randint(0, 2)):
        entry = header[rng.choice(list(ENTRIES))]
        field = rng.choice(["shape", "data_offsets", "dtype", "swap", "tail"])
        if field == "dtype":
            entry["dtype"] = rng.choice([about[0] for about in ENTRIES.values()] + ["U8", "F8_E5M2", "F33", 7, None])
        elif field == "swap":
            other = header[rng.choice(list(ENTRIES))]
            entry["data_offsets"], other["data_offsets"] = other["data_offsets"], entry["data_offsets"]
        elif field == "tail":
            data += bytes(rng.choice([0, 1, 4]))
        elif entry[field]:
            i = rng.randrange(len(entry[field]))
            entry[field][i] = rng.choice([entry[field][i] + rng.choice([-8, -4, -1, 1, 4, 8]), 0, 2**64, 2**63, -1, 1.0,
                                          True, "1", None])
            if rng.random() < 0.2:
                entry[field] = entry[field][::-1]
    return packed(header, data)


def accepts(call):
    try:
        call()
    except (ModelError, safetensors.SafetensorError):
        return False
    return True


def test_what_the_library_refuses_is_refused(tmp_path):
    """Of 1,500 damaged files, those that are read here are those that the library reads. It reads some more: see
    docs/models.md."""
    rng, both = random.Random(5), []
    for _ in range(1500):
        data = mutated(rng)
        path = written(tmp_path, data)
        both.append((accepts(partial(SafetensorsFile, path)), accepts(partial(safetensors.deserialize, data))))
    assert (True, False) not in both
    assert both.count((True, True)) > 300 and both.count((False, False)) > 300
    assert both.count((False, True)) < 15


@pytest.mark.parametrize("header", [
    b" " + json.dumps(HEADER).encode(),
    changed("a", strides=[3, 1]),
    HEADER | {"a": ["F32", [2, 3], [0, 24]]},
    # the later one wins
    json.dumps(HEADER).replace('"b": {', '"b": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}, "b": {').encode(),
])
def test_what_the_library_reads_and_is_refused(header, tmp_path):
    assert accepts(lambda: safetensors.deserialize(packed(header)))
    refusal(written(tmp_path, packed(header)))
