"""What differs between families of FPGAs: tools, clock, constraints, and the words of their command lines."""
import re
from collections.abc import Callable
from dataclasses import dataclass

from .tools import ToolError, run_tool

__all__ = ["FAMILIES", "Family", "MEMORY_ASKED", "MEMORY_NET"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of FPGAs, and the open tools that make bitstreams for it.

    Parameters
    ----------
    resources : dict        {"lut", "ff", "bram", "dsp": the placer's name}, as in a board's capacity
    pll : callable          (board, folder) -> None; writes pll.v there: module ``pll``, ports clkin, clkout0, locked;
                            with a memory also clkout1, its clock
    clock_pin : str         Verilog that gives the clock ``shifted`` to the pin ``sdram_clk``; "" where no board has a
                            memory
    clock_buffer : str      Verilog that gives the pin ``clk`` to ``oscillator``, for more than one PLL; "" where they
                            may have the pin itself
    constraints : callable  board -> text of pins and clocks
    constraints_file : str  its name
    synthesis : str         Yosys' command
    multiplier : str        its techmap for 18 x 18 multipliers; "" leaves multipliers to the command, or to LUTs where
                            it has none ...
    product : str           ... but for the products of the array's columns with multipliers: a techmap of ours, in
                            Verilog, of those alone
    placer, packer : str    tools; empty where the vendor's make the bitstream (`hwgen.fpga.vivado`)
    place : callable        (board, netlist, constraints, output) -> words for the placer: it routes as well, unless
                            there is
    route : callable        (board, placed, constraints, output) -> words for the placer to route what it placed
    pack : callable         (board, placed, output) -> words for the packer
    places : callable       Yosys' netlist (JSON) -> LUTs whose places it takes at least, where the placer does not tell
                            but searches on
    suffix : str            of a bitstream
    """
    name: str
    resources: dict
    pll: Callable
    constraints: Callable
    constraints_file: str
    synthesis: str
    clock_pin: str = ""
    clock_buffer: str = ""
    multiplier: str = ""
    product: str = ""
    placer: str = ""
    packer: str = ""
    place: Callable = None
    route: Callable = None
    pack: Callable = None
    places: Callable = None
    suffix: str = ".bit"


def _ports(board):
    """(port, pin) of all that a machine needs of a board."""
    for port, pins in board.pins().items():
        for i, pin in enumerate(pins):
            yield f"{port}[{i}]" if port == "led" or len(pins) > 1 else port, pin


def _told(board, got):
    """Refuse a clock that the board cannot have: the UART would miss its bits."""
    if abs(got / board.clock - 1) > 0.005:
        raise ToolError(f"{board.title}: The clock can be {got:g} MHz of {board.oscillator:g} MHz, not "
                        f"{board.clock:g}: take --mhz {got:g}")


#: Degrees by which a memory's clock comes behind the machine's, as LiteX has it for the ULX3S: a quarter of a cycle for
#: a command to get there, and three for data to come back.
MEMORY_PHASE = 90

#: The clock of DDR3's controller, as Yosys calls it in a flat top.
MEMORY_NET = "memory.controller.sys_clk"
#: MHz that place and route are asked for, of those that it needs: the router ends as much below.
MEMORY_ASKED = 1.03

# -- Lattice ECP5, with Project Trellis

def _ecp5_pll(board, folder):
    shifted = ("--clkout1", f"{board.clock:g}", "--phase1", f"{MEMORY_PHASE}") \
        if board.memory and not board.memory_clock else ()
    run_tool("ecppll", "-i", f"{board.oscillator:g}", "-o", f"{board.clock:g}", *shifted, "-f", "pll.v", "--module",
             "pll", folder=folder, log="pll.log")
    _told(board, float(re.search(r"clkout0 frequency: *([\d.]+)", (folder / "pll.log").read_text())[1]))


def _lpf(board):
    lines = [f'FREQUENCY PORT "clk" {board.oscillator:g} MHZ;']
    if board.memory_clock:      # what nextpnr has placed it routes with no clocks but these, named by their buffers
        lines += [f'FREQUENCY NET "{before}{net}" {asked:g} MHZ;' for net, asked in
                  (("clock", board.asked or board.clock), (MEMORY_NET, MEMORY_ASKED * board.memory_clock))
                  for before in ("", "$glbnet$")]
    for name, pin in _ports(board):
        lines.append(f'LOCATE COMP "{name}" SITE "{pin.name}";')
        lines.append(f'IOBUF PORT "{name}" ' + " ".join(f"{key}={value}" for key, value in pin.attributes) + ";")
    return "\n".join(lines) + "\n"


# The analytic placer, `static`, makes wires a quarter shorter than the default one on a full chip. The router alone
# only counts wires that are wanted twice, and lets some go far around: a placement of the 12F with 82 MHz became 75.
# With `--tmg-ripup` it also takes up again wires that are too slow: 82 MHz stayed 82 (docs/boards.md).
ECP5 = Family(
    name="ecp5", resources={"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "bram": "DP16KD", "dsp": "MULT18X18D"},
    pll=_ecp5_pll, constraints=_lpf, constraints_file="top.lpf", synthesis="synth_lattice -family ecp5",
    multiplier="+/lattice/dsp_map_18x18.v",
    clock_pin="  ODDRX1F memory_clock (.SCLK(shifted), .RST(1'b0), .D0(1'b1), .D1(1'b0), .Q(sdram_clk));\n",
    placer="nextpnr-ecp5", packer="ecppack",
    place=lambda board, netlist, constraints, output: (*board.device, "--json", netlist, "--lpf", constraints,
                                                       "--placer", "static", "--no-route", "--write", output),
    route=lambda board, placed, constraints, output: (*board.device, "--json", placed, "--lpf", constraints,
                                                      "--no-pack", "--no-place", "--tmg-ripup",
                                                  "--textcfg", output),
    pack=lambda board, placed, output: ("--compress", "--input", placed, "--bit", output))


# -- Gowin LittleBee and Arora, with Project Apicula: a device is a part, its chip database and, for a PLL, gowin_pll's
# name of it

def _gowin_pll(board, folder):
    run_tool("gowin_pll", "-i", f"{board.oscillator:g}", "-o", f"{board.clock:g}", "-d", board.device[2], "-m", "pll",
             "-f", "pll.v", folder=folder, log="pll.log")
    text = (folder / "pll.v").read_text()
    _told(board, float(re.search(r"Achieved output frequency: *([\d.]+)", text)[1]))
    (folder / "pll.v").write_text(re.sub(r"\bclock_in\b", "clkin", re.sub(r"\bclock_out\b", "clkout0", text)))


def _cst(board):
    lines = []
    for name, pin in _ports(board):
        lines.append(f'IO_LOC "{name}" {pin.name};')
        lines.append(f'IO_PORT "{name}" ' + " ".join(f"{key}={value}" for key, value in pin.attributes) + ";")
    return "\n".join(lines) + "\n"


def _gowin_places(netlist):
    """Each LUT and ALU takes a place, a RAM16SDP4 the eight of its tile, and a register one, unless the LUT or ALU of
    its place drives it: it has no other input."""
    cells = [(cell["type"], cell["connections"]) for cell in netlist["modules"]["top"]["cells"].values()]
    driven = {bit for kind, nets in cells for port in ("F", "SUM") if kind.startswith(("LUT", "ALU"))
              for bit in nets.get(port, ())}
    return sum(8 if kind == "RAM16SDP4" else kind.startswith(("LUT", "ALU"))
               or (kind.startswith("DFF") and nets["D"][0] not in driven) for kind, nets in cells)


GOWIN = Family(
    name="gowin", resources={"lut": "LUT4", "ff": "DFF", "bram": "BSRAM", "dsp": "MULT18X18"},
    pll=_gowin_pll, constraints=_cst, constraints_file="top.cst", synthesis="synth_gowin -family gw2a",
    multiplier="+/gowin/dsp_map.v", placer="nextpnr-himbaechel-gowin", packer="gowin_pack", suffix=".fs",
    places=_gowin_places,
    place=lambda board, netlist, constraints, output: ("--device", board.device[0], "--vopt",
                                                       f"family={board.device[1]}", "--vopt", f"cst={constraints}",
                                                       "--json", netlist, "--write", output),
    pack=lambda board, placed, output: ("-d", board.device[1], "-o", output, placed))


# The published database of the GW5AST-138C (Apycula 0.32) has no PLL, and Yosys 0.70 no multipliers of the family.
# nextpnr 0.11.1 places them, two of 12 x 12 bits in a block, and times nothing that goes through one: so only products
# between registers take them, those of the array's columns (11 x 11 bits in E3M4). They are signed, and without
# registers so (Gowin, UG1253).

_MULT12X12 = """\
(* techmap_celltype = "$mul" *)
module product (A, B, Y);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  input [A_WIDTH-1:0] A;
  input [B_WIDTH-1:0] B;
  output [Y_WIDTH-1:0] Y;
  wire _TECHMAP_FAIL_ = !A_SIGNED || !B_SIGNED || A_WIDTH > 12 || B_WIDTH > 12 || Y_WIDTH > 24;
  wire [11:0] a = $signed(A), b = $signed(B);
  wire [23:0] y;
  MULT12X12 #(
      .AREG_CLK("BYPASS"), .BREG_CLK("BYPASS"), .PREG_CLK("BYPASS"), .OREG_CLK("BYPASS"),
      .AREG_CE("CE0"), .BREG_CE("CE0"), .PREG_CE("CE0"), .OREG_CE("CE0"),
      .AREG_RESET("RESET0"), .BREG_RESET("RESET0"), .PREG_RESET("RESET0"), .OREG_RESET("RESET0")
  ) _TECHMAP_REPLACE_ (.DOUT(y), .A(a), .B(b), .CLK(2'b00), .CE(2'b00), .RESET(2'b00));
  assign Y = y[Y_WIDTH-1:0];
endmodule
"""

_HALVES = """\
// {oscillator:g} MHz halved to {clock:g} MHz.
module pll (
    input  wire clkin,
    output wire clkout0,
    output wire locked
);
  reg [{last}:0] count;
  initial count = 0;
  always @(posedge clkin) count <= count + 1'd1;
  assign clkout0 = count[{last}];
  assign locked = 1'b1;
endmodule
"""


def _halves(board, folder):
    ratio = board.oscillator / board.clock
    times = min(range(9), key=lambda times: abs(2 ** times - ratio))
    _told(board, board.oscillator / 2 ** times)
    (folder / "pll.v").write_text(_HALVES.format(oscillator=board.oscillator, clock=board.clock, last=times - 1))


#: The part of a region's places that the placer fills at most. At its default, 0.9, nextpnr 0.11.1 found no legal
#: placement of machines that take half of a GW5AST-138 (fpga/tang-console-138k/README.md).
DENSITY = "0.5"

GOWIN5 = Family(
    name="gowin5", resources={"lut": "LUT4", "ff": "DFF", "bram": "BSRAM", "dsp": "MULT12X12"},
    pll=_halves, constraints=_cst, constraints_file="top.cst", synthesis="synth_gowin -family gw5a", product=_MULT12X12,
    placer="nextpnr-himbaechel-gowin", packer="gowin_pack", suffix=".fs",
    place=lambda *words: (*GOWIN.place(*words), "--placer-heap-beta", DENSITY),
    pack=lambda board, placed, output: ("--cpu_as_gpio", "--compress", "-d", board.device[1], "-o", output, placed))


# -- AMD 7 series: sources, constraints and a script for Vivado

_PLLE2 = """\
// {oscillator:g} MHz * {times} / {by} = {clock:g} MHz; the oscillator in it runs at {vco:g} MHz, of 800 to 1600.
module pll (
    input  wire clkin,
    output wire clkout0,
    output wire locked
);
  wire feedback, made;
  PLLE2_BASE #(
      .CLKIN1_PERIOD({period:g}),
      .CLKFBOUT_MULT({times}),
      .DIVCLK_DIVIDE(1),
      .CLKOUT0_DIVIDE({by})
  ) pll (
      .CLKIN1(clkin),
      .CLKFBIN(feedback),
      .CLKFBOUT(feedback),
      .CLKOUT0(made),
      .LOCKED(locked),
      .RST(1'b0),
      .PWRDWN(1'b0)
  );
  BUFG buffer (.I(made), .O(clkout0));
endmodule
"""


def _xilinx7_pll(board, folder):
    choices = [(abs(board.oscillator * times / by - board.clock), by, times) for times in range(2, 65)
               if 800 <= board.oscillator * times <= 1600
               for by in range(1, 129)]
    _, by, times = min(choices)
    vco = board.oscillator * times
    _told(board, vco / by)
    (folder / "pll.v").write_text(_PLLE2.format(oscillator=board.oscillator, times=times, by=by, clock=vco / by,
                                                vco=vco, period=1000 / board.oscillator))


def _xdc(board):
    lines = [f"create_clock -name clk -period {1000 / board.oscillator:g} [get_ports clk]"]
    for name, pin in _ports(board):
        properties = " ".join(f"{key} {value}" for key, value in (("PACKAGE_PIN", pin.name), *pin.attributes))
        lines.append(f"set_property -dict {{ {properties} }} [get_ports {{ {name} }}]")
    lines += ["# The UART's pins and the lights have no clock outside.", "set_false_path -from [get_ports rx]",
              "set_false_path -to [get_ports { tx led[*] }]",
              "set_property CFGBVS VCCO [current_design]", "set_property CONFIG_VOLTAGE 3.3 [current_design]",
              *board.constraints]
    return "\n".join(lines) + "\n"


XILINX7 = Family(
    name="xilinx7", resources={"lut": "LUT", "ff": "FF", "bram": "RAMB18E1", "dsp": "DSP48E1"},
    pll=_xilinx7_pll, constraints=_xdc, constraints_file="top.xdc", synthesis="synth_xilinx -family xc7",
    clock_buffer="  wire oscillator;\n  BUFG buffer (.I(clk), .O(oscillator));\n")


FAMILIES = {family.name: family for family in (ECP5, GOWIN, GOWIN5, XILINX7)}
