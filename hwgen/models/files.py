"""Opening a model's files: what is in the place of a file that was not fetched whole is named, and nothing is waited
for."""
import os
import re
import stat
from io import BufferedReader
from pathlib import Path

from .checkpoint import ModelError

__all__ = ["open_file"]

# How other things begin that are found under a model file's name.
_OTHERS = (
    (re.compile(rb"\s*<(!doctype|html|\?xml)", re.I), "a web page: the download failed, fetch the file again"),
    (re.compile(rb"PK\x03\x04"), "a zip archive (PyTorch's .bin and .pt are): save the model with safetensors"),
    (re.compile(rb"\x80[\x02-\x05][}c\x8a\x95]"), "a pickle (PyTorch's .bin and .pt are): save the model with "
                                                  "safetensors"),
    (re.compile(rb"\x1f\x8b"), "compressed by gzip: unpack it"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "compressed by zstd: unpack it"),
)


def open_file(path: str | Path) -> BufferedReader:
    """A regular file, open for reading in binary; the caller closes it.

    ModelError names what is there instead: a folder, a pipe or a device (opening these could wait for ever), an empty
    file, a Git LFS pointer, a web page, PyTorch's own format. FileNotFoundError is passed on, because what to do
    depends on the file.
    """
    try:
        found = os.stat(path)   # before it is opened: opening a device can do things
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
            raise ModelError(f"{path}: File must be a regular file, not {kind}")
        if not found.st_size:
            raise ModelError(f"{path}: File must be at least one byte long: it is truncated, fetch it again")
        file = open(path, "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    except ValueError as error:     # a zero byte, half of a surrogate pair
        raise ModelError(f"{str(path)!r}: File name must be one of a file ({error})") from None
    try:
        _check_start(path, file.read(1024))
        file.seek(0)
    except OSError as error:
        file.close()
        raise ModelError(f"{path}: {error.strerror}") from None
    except ModelError:
        file.close()
        raise
    return file


def _check_start(path, start):
    # https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: a few lines of "key value", the first the version
    if start.startswith((b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")):
        size = re.search(rb"^size ([0-9]{1,20})\s*$", start, re.M)
        count = f" to {int(size[1])} bytes" if size else ""
        raise ModelError(f"{path}: File must be the content itself, not a Git LFS pointer{count}: "
                         "fetch it with git lfs pull (or huggingface-cli download)")
    for pattern, what in _OTHERS:
        if pattern.match(start) and start[8:9] != b"{":     # behind any length, the header of safetensors starts so
            raise ModelError(f"{path}: File must be a model's, not {what}")
