"""Memory that is free, back to the system."""
import ctypes
import gc

__all__ = ["give_back"]


def give_back() -> None:
    """Free what only cycles hold, and return pages that hold nothing: the C library keeps them, by the hundred
    megabytes, for what will never come."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)      # of glibc
    if trim:
        trim(0)
