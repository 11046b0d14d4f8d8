"""What is the user's to mend, as one line."""
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..params.checks import one_line

__all__ = ["InputError", "check_letters", "check_no_device", "check_writable", "checked_input", "read_text",
           "try_to_write", "write_json", "write_text", "writing"]


class InputError(Exception):
    """Wrong input; the message is one line."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(str(message)))


@contextlib.contextmanager
def checked_input() -> Iterator[None]:
    """What is refused in here is the user's to mend, not a bug of ours."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from None


def check_letters(noun: str, text: str) -> None:
    """ValueError for a text with what is no letter: a command line's bytes that are not UTF-8, or ``\\ud800`` in
    JSON."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{noun} must be UTF-8, not with {text[error.start]!r} in it") from None


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Failures of the file system in here are about ``path``."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror or error}") from None


def try_to_write(path: Path) -> None:
    """OSError if a file cannot be written there. Leaves what is there as it is."""
    existed = path.exists()
    if existed and not path.is_file() and not path.is_dir():
        return          # a pipe or a device: whoever reads it would see it end
    with open(path, "ab"):
        pass
    if not existed:
        path.unlink()


def check_writable(*files: str | Path | None) -> None:
    """InputError for a file that cannot be written, before there is anything to write; None is none."""
    for file in (file for file in files if file):
        with writing(file):
            try_to_write(Path(file))


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all. InputError if that cannot be."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole or not at all. InputError if that cannot be."""
    given, path = path, Path(path)
    try:
        if path.exists() and not path.is_file():        # a pipe, /dev/stdout
            path.write_text(text, encoding="utf-8")
            return
        path = path.resolve()       # a link stays one
        partial = path.with_name(f"{path.name}.partial")
        try:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace")
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{given}: {error.strerror or error}") from None


def check_no_device(path: str | Path, noun: str) -> None:
    """InputError for a device: some never end. A pipe is fine."""
    path = Path(path)
    if path.is_char_device() or path.is_block_device():
        raise InputError(f"{path}: {noun} must be a file, not a device")


def read_text(path: str | Path, noun: str) -> str:
    """A whole file of UTF-8. InputError if it is none; ``noun`` is what it should be."""
    path = Path(path)
    check_no_device(path, noun)
    with writing(path):
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{path}: {noun} must be UTF-8") from None
