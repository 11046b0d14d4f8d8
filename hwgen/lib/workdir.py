"""Folders to work in that vanish with their owner: at the end, or when the next one is made after a kill -9 or a power
cut."""
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path

__all__ = ["MARK", "sweep", "work_folder"]

#: In a work folder: a file that its owner has locked. The kernel drops the lock with the process, in whatever container
#: it ran.
MARK = ".hwgen-work"


@contextlib.contextmanager
def work_folder(parent, prefix, rescue=None):
    """A new folder in ``parent``, whose name starts with ``prefix``; it is removed at the end. What dead ones have left
    goes first.

    ``rescue`` is as for `sweep`. OSError if the folder cannot be made.
    """
    sweep(parent, prefix, rescue)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        lock = _mark(folder)
    except BaseException:
        _remove(folder)
        raise
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def _mark(folder):
    """Lock the folder's mark. It has its name only when it is locked: a mark without a lock is a dead one's."""
    unnamed = folder / f"{MARK}.new"
    lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(folder / MARK)
    except OSError:     # a file system without locks: nobody will sweep this folder
        unnamed.unlink(missing_ok=True)
    except BaseException:
        os.close(lock)
        raise
    return lock


def sweep(parent, prefix, rescue=None):
    """Remove the work folders in ``parent`` whose names start with ``prefix``, and whose owners are dead.

    Folders without a mark are somebody else's and stay. ``rescue(folder)`` is called before one is removed, if
    something in it is dear. What cannot be removed stays.
    """
    ours = re.compile(re.escape(prefix) + "[a-z0-9_]{8}")
    with contextlib.suppress(OSError):
        for folder in [Path(entry) for entry in os.scandir(parent) if ours.fullmatch(entry.name)
                       and entry.is_dir(follow_symlinks=False)]:
            with contextlib.suppress(OSError):
                _bury(folder, rescue)


def _bury(folder, rescue):
    lock = os.open(folder / MARK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)        # OSError: its owner lives
        if os.path.samestat(os.fstat(lock), os.stat(folder / MARK)):
            if rescue:
                rescue(folder)
            _remove(folder)
    finally:
        os.close(lock)


def _remove(folder):
    """Remove a work folder, the mark last: if something stops this, the next sweep goes on."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name != MARK:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        if not [path for path in folder.iterdir() if path.name != MARK]:
            (folder / MARK).unlink(missing_ok=True)
            folder.rmdir()
