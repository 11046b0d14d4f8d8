"""A large memory without initial values: Amaranth would write a zero for each row into the Verilog (minutes, at 10
MB)."""
from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .verilog import verbatim

__all__ = ["BlockRam"]

_TEXT = """\
// BlockRam: Memory with one write port and one read port, both clocked.
// Source: hwgen/lib/ram.py, docs/kv_cache.md
module {module} #(
    parameter WIDTH = 8,
    parameter DEPTH = 2,
    parameter ADDRESS_WIDTH = 1
) (
    input  wire                     clk,
    input  wire                     write_en,
    input  wire [ADDRESS_WIDTH-1:0] write_address,
    input  wire [WIDTH-1:0]         write_data,
    input  wire                     read_en,
    input  wire [ADDRESS_WIDTH-1:0] read_address,
    output reg  [WIDTH-1:0]         read_data
);
  reg [WIDTH-1:0] rows [0:DEPTH-1];

  always @(posedge clk) begin
    if (write_en) rows[write_address] <= write_data;
    if (read_en) read_data <= rows[read_address];
  end
endmodule
"""


class BlockRam(wiring.Component):
    """Memory with one write port and one read port, both clocked. Its content is undefined until it is written.

    Data of the address of cycle c are at ``read_data`` in cycle c + 1 if ``read_en`` in cycle c, and stay otherwise. A
    row that is read and written in the same cycle is read as it was. Not for Amaranth's own simulator.

    Parameters
    ----------
    width, depth : int      bits and rows
    """

    def __init__(self, width, depth):
        if width < 1 or depth < 1:
            raise ValueError(f"Memory must have at least 1 row of 1 bit, not {depth} of {width}")
        self._width, self._depth = width, depth
        address = range(depth)
        super().__init__({"write_en": In(1), "write_address": In(address), "write_data": In(width),
                          "read_en": In(1), "read_address": In(address), "read_data": Out(width)})

    def elaborate(self, platform):
        m = Module()
        bits = max(1, len(self.read_address))

        def padded(address):
            return Cat(address, Const(0, bits - len(address)))

        m.submodules.memory = Instance(
            verbatim("block_ram", _TEXT), p_WIDTH=self._width, p_DEPTH=self._depth, p_ADDRESS_WIDTH=bits,
            i_clk=ClockSignal(), i_write_en=self.write_en, i_write_address=padded(self.write_address),
            i_write_data=self.write_data, i_read_en=self.read_en, i_read_address=padded(self.read_address),
            o_read_data=self.read_data)
        return m
