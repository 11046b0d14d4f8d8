"""A model's files as they are found: pointers, web pages, pipes; JSON and its typed values."""
import os

import pytest

from hwgen.models import ModelError
from hwgen.models.files import open_file
from hwgen.models.json_file import read_json, take

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 2471645608\n"


def refusal(call, *arguments, **options):
    """The sentence with which something is refused, and one line of it."""
    with pytest.raises((ModelError, ValueError, TypeError)) as caught:
        call(*arguments, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


def content(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("data, words", [
    (POINTER, "not a Git LFS pointer to 2471645608 bytes: fetch it with git lfs pull"),
    (POINTER.replace(b"git-lfs.github", b"hawser.github"), "not a Git LFS pointer to 2471645608 bytes"),
    (POINTER[:60], "not a Git LFS pointer: fetch it"),
    (b"", "must be at least one byte long: it is truncated"),
    (b"\n<!DOCTYPE html><title>404</title>", "not a web page"),
    (b"PK\x03\x04" + bytes(60), "not a zip archive"),
    (b"\x80\x02}q\x00" + bytes(60), "not a pickle"),
    (b"\x1f\x8b\x08" + bytes(60), "not compressed by gzip"),
])
def test_what_is_in_a_files_place_is_named(data, words, tmp_path):
    assert words in refusal(open_file, content(tmp_path / "model.safetensors", data))
    assert words in refusal(read_json, content(tmp_path / "config.json", data))


def test_a_header_length_that_looks_like_another_formats_mark_is_none(tmp_path):
    header = b"{" + b" " * (0x088B1F - 2) + b"}"
    open_file(content(tmp_path / "a.safetensors", len(header).to_bytes(8, "little") + header)).close()


def test_folders_pipes_and_devices_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a folder" in refusal(open_file, tmp_path)
    assert "not a pipe" in refusal(open_file, tmp_path / "pipe")
    assert "or a device" in refusal(open_file, "/dev/zero")


def test_a_name_that_no_file_can_have_is_refused():
    assert "null byte" in refusal(open_file, "a\0b")
    assert "too long" in refusal(open_file, "a" * 300)


@pytest.mark.parametrize("data, words", [
    (b"[1]", "must be a JSON object, not [1]"),
    (b'"x"', "must be a JSON object, not 'x'"),
    (b"{", "must be JSON (Expecting property name"),
    (b'{"a": "\xff"}', "must be JSON (not UTF-8 at byte 7)"),
    (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
    (b'{"a": ' * 100_000, "nested too deeply"),
    (b'{"a": NaN}', "NaN is no number"),
    (b'{"a": 1e999}', "1e999 is no finite number"),
    (b'{"a": ' + b"9" * 5000 + b"}", "an integer of 5000 digits"),
    (b'{"a": {"b": 1, "b": true}}', "key 'b' stands twice"),
    (b'{"a": "\\ud83d"}', "half of a surrogate pair"),
    (b'{"a": 1}' + b" " * (17 << 20), "must be at most 16777216 bytes"),
])
def test_json_that_is_refused(data, words, tmp_path):
    assert words in refusal(read_json, content(tmp_path / "config.json", data))


@pytest.mark.parametrize("data, value", [
    (b'{"a": 1000000000000000019884624838656}', {"a": int(1e30)}),
    (b'{"a": 1, "a": 1, "b": "\\ud83d\\ude00\\\\ud83d"}', {"a": 1, "b": "\U0001f600\\ud83d"}),
])
def test_json_that_is_read(data, value, tmp_path):
    assert read_json(content(tmp_path / "config.json", data)) == value


def test_a_missing_file_is_its_default_or_named(tmp_path):
    assert read_json(tmp_path / "generation_config.json", default={}) == {}
    assert "config.json is missing: a model folder has" in refusal(read_json, tmp_path / "config.json")


@pytest.mark.parametrize("value, kind, bounds, words", [
    ("x", int, {}, "Option a must be an integer, not 'x'"),
    (True, int, {}, "Option a must be an integer, not True"),
    (2.0, int, {}, "Option a must be an integer, not 2.0"),
    (0, int, {"low": 1}, "Option a must be at least 1, not 0"),
    (10**90, int, {"low": 1, "high": 9}, "Option a must be 1 to 9, not 1000"),
    (False, float, {}, "Option a must be a number, not False"),
    (float("nan"), float, {}, "Option a must be a finite number, not nan"),
    (10**999, float, {}, "Option a must be a finite number"),
    (1, bool, {}, "Option a must be true or false, not 1"),
    (["x"] * 9999, str, {}, "Option a must be a string, not ['x', 'x',"),
    ({"b": 1}, dict, {"of": str}, "Option a['b'] must be a string, not 1"),
    ([1, -1], list, {"of": int, "low": 0}, "Option a[1] must be at least 0, not -1"),
])
def test_values_of_another_kind_are_refused(value, kind, bounds, words):
    assert words in refusal(take, {"a": value}, "a", kind, **bounds)


def test_values_of_their_kind_are_taken():
    assert take({"a": 2}, "a", float) == 2.0 and type(take({"a": 2}, "a", float)) is float
    assert take({"a": None}, "a", int, 7) == take({}, "a", int, 7) == 7
    assert take({"a": [1, 2]}, "a", list, of=int, low=1, high=2) == [1, 2]
    assert "Option a is missing" in refusal(take, {}, "a", int)
    assert "Option a must be an integer, not None" in refusal(take, {"a": None}, "a", int)
