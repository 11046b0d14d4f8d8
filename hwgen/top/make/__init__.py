"""Units of a design: here, and nowhere below, the sizes that a unit needs are read from the whole `Design`.

A unit's constructor takes what it needs and no more, so it can be used and read alone. A function here is called like
the module of its unit, and makes that unit as the machine of a design has it.
"""
from .array import (
    adapter_sums, adapter_tiles, array_grid, array_params, feeder, grid_params, mac_array, rom_grid, rom_grid_params,
    wired,
)
from .attention import attention, axi_writer, kv_blocks, kv_cache, kv_port, kv_reader, kv_sizes, kv_writer
from .requests import admission, decode_loop, request_sizes
from .vectors import convert, qk_norm, residual, rmsnorm, rope, sampler, swiglu
from .weights import axi_reader, dispatcher, rom_source, stream_params, stream_port

__all__ = ["adapter_sums", "adapter_tiles", "admission", "array_grid", "array_params", "attention", "axi_reader",
           "axi_writer", "convert", "decode_loop", "dispatcher", "feeder", "grid_params", "kv_blocks", "kv_cache",
           "kv_port", "kv_reader", "kv_sizes", "kv_writer", "mac_array", "qk_norm", "request_sizes", "residual",
           "rmsnorm", "rom_grid", "rom_grid_params", "rom_source", "rope", "sampler", "stream_params", "stream_port",
           "swiglu", "wired"]
