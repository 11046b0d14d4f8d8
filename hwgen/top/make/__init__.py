"""Units of a design: here, and nowhere below, the sizes that a unit needs are read from the whole `Design`.

A unit's constructor takes what it needs and no more, so it can be used and read alone. A function here is called like
the module of its unit, and makes that unit as the machine of a design has it.
"""
from .attention import attention, kv_blocks, kv_cache, kv_sizes, kv_writer
from .requests import admission, decode_loop, request_sizes

__all__ = ["admission", "attention", "decode_loop", "kv_blocks", "kv_cache", "kv_sizes", "kv_writer", "request_sizes"]
