"""An output takes the place of an earlier one, whole or not at all."""
import contextlib
import signal
import threading
from pathlib import Path

from ..models import ModelError
from ..models.json_file import read_json, take

__all__ = ["is_output", "replace", "rescue"]


def _manifest_of(folder):
    """The manifest of an earlier output, or None."""
    try:
        about = read_json(folder / "manifest.json", default={})
        take(take(about, "generator", dict), "hwgen", str)
        take(about, "files", dict)
        return about
    except (ModelError, ValueError, TypeError):
        return None


def is_output(folder: Path) -> bool:
    """Whether a folder is an earlier output."""
    return _manifest_of(folder) is not None


def replace(folder: Path, project: Path, old: Path) -> None:
    """Move ``project`` to the place of ``folder``, whose own files go to ``old``; others stay."""
    if not folder.exists():
        project.rename(folder)
        return
    with _uninterrupted():
        folder.rename(old)
        try:
            project.rename(folder)
            _keep_theirs(old, folder)
        except OSError:         # as of something in there that somebody else owns, or that is mounted
            if folder.exists():
                _keep_theirs(folder, old)
                folder.rename(project)
            old.rename(folder)
            raise


def _keep_theirs(old, folder):
    """Move what is in an output and is not of it to another one."""
    known = _manifest_of(old)
    ours = set(known["files"]) if known else set()
    for path in sorted(old.iterdir()):
        if path.name not in ours and not (folder / path.name).exists():
            path.rename(folder / path.name)


def rescue(folder: Path, old: Path) -> None:
    """End what a `replace` that was killed has begun."""
    if old.is_dir():
        if folder.exists():
            _keep_theirs(old, folder)
        else:
            old.rename(folder)


@contextlib.contextmanager
def _uninterrupted():
    """Ctrl-C, termination and the end of the terminal wait until the end of this.

    A mask would not do: it is one thread's, numpy and progress bars have others, and a signal that any of them gets
    strikes the main one.
    """
    came, before = [], {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if (threading.current_thread() is threading.main_thread()
                    and signal.getsignal(number) not in (None, signal.SIG_IGN)):
                before[number] = signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
