"""stdout and stderr that end a program in order where they are closed, full or gone, and where they lack a letter."""
import io
import os
import sys

__all__ = ["OutputError", "finish", "open_streams"]


class OutputError(OSError):
    """stdout has not taken all."""


class _Out(io.FileIO):
    """Fails once, with OutputError. What the interpreter still tries to write when it ends is lost without a word."""
    failed = None

    def write(self, data):
        try:
            return len(data) if self.failed else super().write(data)
        except OSError as error:
            self.failed = OutputError(error.errno, error.strerror)
            raise self.failed from None


class _Err(io.FileIO):
    """Loses what it cannot write: there is nobody to tell."""

    def write(self, data):
        try:
            return super().write(data)
        except OSError:
            return len(data)


def open_streams():
    """Open sys.stdout and sys.stderr anew, so that they behave. A closed one stays closed, but no file gets its
    number."""
    # stdout is opened so that nothing can be written
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)       # gets the smallest number that is free
    sys.stdout, sys.stderr = _text(sys.stdout, _Out(1, "w", closefd=False)), _text(sys.stderr,
                                                                                   _Err(2, "w", closefd=False),
                                                                                   lines=True)


def _text(old, raw, lines=False):
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=old.encoding if old else "utf-8",
                            errors="backslashreplace",
                            line_buffering=lines or raw.isatty())


def finish():
    """Flush stdout. OutputError if anything that was written to it has been lost."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Out) and raw.failed:
        raise raw.failed
