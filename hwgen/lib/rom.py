"""A memory that reads its content from a file: Amaranth writes initial values into the Verilog, which no 100 MB
survive."""
from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .verilog import verbatim

__all__ = ["FileRom", "hex_lines"]

# Another place of the file: set the top's parameter, or define the macro (-D{module}_file='"path"' in every tool here).
_TEXT = """\
`ifndef {module}_file
`define {module}_file "{file}"
`endif

// FileRom: Read-only block memory, initialized by $readmemh when a simulation or a synthesis starts.
// Source: hwgen/lib/rom.py, docs/weights.md
module {module} #(
    parameter WIDTH = 8,
    parameter DEPTH = 2,
    parameter ADDRESS_WIDTH = 1,
    parameter FILE = `{module}_file
) (
    input  wire                     clk,
    input  wire                     en,
    input  wire [ADDRESS_WIDTH-1:0] address,
    output reg  [WIDTH-1:0]         data
);
  reg [WIDTH-1:0] rows [0:DEPTH-1];

  initial $readmemh(FILE, rows);

  always @(posedge clk)
    if (en) data <= rows[address];
endmodule
"""


class FileRom(wiring.Component):
    """Read-only block memory, initialized by ``$readmemh`` when a simulation or a synthesis starts.

    Data of the address of cycle c are at ``data`` in cycle c + 1 if ``en`` in cycle c, and stay otherwise. Not for
    Amaranth's own simulator. In an emitted design it is the module ``<top>_<name>``. Another file is named by the top's
    parameter ``<NAME>_FILE`` (in upper case) or by the macro ``<top>_<name>_file``.

    Parameters
    ----------
    width, depth : int      bits and rows
    file : str              image as `hex_lines` writes it; where the tool that reads the Verilog looks for it. Default:
        <top>_<name>.hex
    name : str              tells it from other file memories of a design
    own : bool              there are several of this name, each with a file of its own, which is a parameter of its
        instance
    """

    def __init__(self, width, depth, *, file=None, name="rom", own=False):
        if width < 1 or depth < 1:
            raise ValueError(f"Memory must have at least 1 row of 1 bit, not {depth} of {width}")
        if own and file is None:
            raise ValueError("Memory file must be given where each instance has one of its own")
        if file is not None and (not file or not file.isprintable() or set(file) & set('"\\{}')):
            raise ValueError(f"Memory file must have a plain name, not {file!r}")
        self._width, self._depth, self._file, self._name, self._own = width, depth, file, name, own
        super().__init__({"en": In(1), "address": In(range(depth)), "data": Out(width)})

    def elaborate(self, platform):
        m = Module()
        if self._own:
            module, files = verbatim(self._name, _TEXT.replace("{file}", "{module}.hex")), {"p_FILE": self._file}
        else:
            module, files = verbatim(self._name, _TEXT.replace("{file}", self._file or "{module}.hex"),
                                     raised={"FILE": (f"{self._name.upper()}_FILE", "`{module}_file")}), {}
        bits = max(1, len(self.address))
        m.submodules.memory = Instance(
            module, p_WIDTH=self._width, p_DEPTH=self._depth, p_ADDRESS_WIDTH=bits, **files, i_clk=ClockSignal(),
            i_en=self.en,
            i_address=Cat(self.address, Const(0, bits - len(self.address))), o_data=self.data)
        return m


def hex_lines(rows):
    """Bytes of an image for ``$readmemh``: one line per row of uint8 [rows, bytes], byte 0 the least significant."""
    rows = rows[:, ::-1]
    return b"".join(row.tobytes().hex().encode() + b"\n" for row in rows)
