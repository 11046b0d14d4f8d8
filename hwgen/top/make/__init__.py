"""Units of a design: here, and nowhere below, the sizes that a unit needs are read from the whole `Design`.

A unit's constructor takes what it needs and no more, so it can be used and read alone. A function here is called like
the module of its unit, and makes that unit as the machine of a design has it.
"""
from .array import (
    adapter_sums, adapter_tiles, array_grid, array_params, feeder, grid_params, mac_array, rom_grid, rom_grid_params,
    wired,
)
from .weights import axi_reader, dispatcher, rom_source, stream_params, stream_port

__all__ = ["adapter_sums", "adapter_tiles", "array_grid", "array_params", "axi_reader", "dispatcher",
           "feeder", "grid_params", "mac_array", "rom_grid", "rom_grid_params", "rom_source", "stream_params",
           "stream_port", "wired"]
