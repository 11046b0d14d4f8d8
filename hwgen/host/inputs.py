"""What is the user's to mend, as one line."""
import contextlib

from ..params.checks import one_line

__all__ = ["InputError", "checked_input", "try_to_write", "writing"]


class InputError(Exception):
    """Wrong input; the message is one line."""

    def __init__(self, message):
        super().__init__(one_line(str(message)))


@contextlib.contextmanager
def checked_input():
    """What is refused in here is the user's to mend, not a bug of ours."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from None


@contextlib.contextmanager
def writing(path):
    """Failures of the file system in here are about ``path``."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror or error}") from None


def try_to_write(path):
    """OSError if a file cannot be written there. Leaves what is there as it is."""
    existed = path.exists()
    with open(path, "ab"):
        pass
    if not existed:
        path.unlink()
