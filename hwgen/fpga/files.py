"""The files around a machine on a board: its top with clock and reset, and the script of the synthesis."""
from .dram import PREFIXES, axi_ports
from .dram_phys import pin_ports
from .families import FAMILIES

__all__ = ["divisor", "has_pll", "pll", "synthesis_script", "top"]

_TOP = """\
// {title}: clock and reset around the machine. Made by hwgen; make it again rather than change it.
module top (
    input  wire       clk,
    input  wire       rx,
    output wire       tx{led_port}{memory_ports}{card_ports}
);
  wire clock, locked;
{memory_wires}{clocking}
  // Reset while the PLL is not locked, and 16 cycles from then on.
  reg [4:0] settled;
  initial settled = 0;
  always @(posedge clock or negedge locked)
    if (!locked) settled <= 0;
    else if (!settled[4]) settled <= settled + 1'b1;

{led_wire}  {machine} machine (
      .clk(clock),
      .rst(!settled[4]),
      .rx(rx),
      .tx(tx),
      .led({led_use}){memory_use}{card_use}
  );
{memory}{card}endmodule
"""


#: The machine's clock beside that of its memory's controller: either's PLL that loses its lock resets both.
_TWO_CLOCKS = """\
{buffer}  wire made, memory_clock, memory_reset;
  pll pll (.clkin({clk}), .clkout0(clock), .locked(made));
  assign locked = made && !memory_reset;
"""
#: How a memory path that makes its clocks is joined with that.
_CLOCKS = {False: "      .rst(1'b0),\n      .memory_clock(clock),\n      .memory_reset(memory_reset)",
           True: "      .rst(!made),\n      .memory_clock(memory_clock),\n      .memory_reset(memory_reset),\n"
                 "      .machine_clock(clock),\n      .machine_reset(!settled[4])"}


def has_pll(board):
    """Whether the machine's clock is another one than the oscillator's, or there are two. A controller with its own
    gives the machine its clock, unless that has another one."""
    return (board.clock != board.oscillator or board.memory is not None) and not _gives_clock(board)


def _gives_clock(board):
    """Whether the memory's controller makes the machine's clock."""
    return board.memory is not None and board.memory.phy.own_clocks and not board.memory_clock


def _oscillator(board):
    """The wire that has the oscillator's clock for two PLLs."""
    return "oscillator" if board.memory_clock and FAMILIES[board.family].clock_buffer else "clk"


def divisor(board):
    """Cycles of the machine's clock per bit of the UART."""
    return round(board.clock * 1e6 / board.baud)


def top(board, machine, kv=False):
    """Verilog of the top module. With a memory it has the chip's pins, and a module ``memory`` (`hwgen.fpga.dram`)
    between machine and pins; ``kv``: the machine's keys and values are in it."""
    leds = board.pins()["led"]
    invert = "".join("1" if pin.inverted else "0" for pin in reversed(leds))
    more = "" if board.memory is None else ".clkout1(shifted), "
    clocking = _TWO_CLOCKS.format(buffer=FAMILIES[board.family].clock_buffer, clk=_oscillator(board)) \
        if board.memory_clock else \
        f"  pll pll (.clkin(clk), .clkout0(clock), {more}.locked(locked));\n" if has_pll(board) else \
        "  wire memory_reset;\n  assign locked = !memory_reset;\n" if board.memory else \
        "  assign clock = clk;\n  assign locked = 1'b1;\n"
    n = len(leds)
    return _TOP.format(title=board.title, machine=machine, clocking=clocking,
                       led_port=f",\n    output wire [{n - 1}:0] led" if n else "",
                       led_wire=f"  wire [7:0] light;\n  assign led = light[{n - 1}:0] ^ {n}'b{invert};\n" if n
                       else "  wire [7:0] light;\n",
                       led_use="light", **_memory(board, kv), **_card(board))


def _memory(board, kv):
    """What a memory adds to a top."""
    if board.memory is None:
        return dict.fromkeys(("memory_wires", "memory_ports", "memory_use", "memory"), "")
    pins, own = pin_ports(board.memory), board.memory.phy.own_clocks
    bus = [port for prefix in PREFIXES[:1 + kv] for port in axi_ports(board.memory, prefix)]
    wires = [*((name, bits) for name, bits, _ in bus), ("memory_ready", 1), ("memory_failed", 1)]
    joined = "".join(f",\n      .{name}({name})" for name, _ in wires)
    return {
        "memory_wires": "".join(f"  wire {f'[{bits - 1}:0] ' if bits > 1 else ''}{name};\n" for name, bits in wires)
        + ("" if own else "  wire shifted;\n"),
        "memory_ports": ("" if own else ",\n    output wire       sdram_clk")
        + "".join(f",\n    {kind:6} wire {f'[{bits - 1}:0]' if bits > 1 else '':6} {name}"
                  for name, bits, kind in pins),
        "memory_use": joined,
        "memory": (f"  memory memory (\n      .clk({_oscillator(board)}),\n{_CLOCKS[bool(board.memory_clock)]}"
                   if own else FAMILIES[board.family].clock_pin
                   + "  memory memory (\n      .clk(clock),\n      .rst(!settled[4])") + joined
        + "".join(f",\n      .{name}({name})" for name, _, _ in pins) + "\n  );\n"}


def _card(board):
    """What a card adds to a top."""
    if not board.card:
        return dict.fromkeys(("card_ports", "card_use", "card"), "")
    return {"card_ports": "".join(f",\n    {kind:6} wire       {name}" for name, kind in
                                  (("card_cs_n", "output"), ("card_sck", "output"), ("card_mosi", "output"),
                                   ("card_miso", "input"), ("wifi_en", "output"))),
            "card_use": "".join(f",\n      .{name}({name})"
                                for name in ("card_cs_n", "card_sck", "card_mosi", "card_miso")),
            "card": "  // What else is at the card's pins is in reset.\n  assign wifi_en = 1'b0;\n"}


def pll(board, folder):
    """Write pll.v, the module ``pll``, by the vendor's or its open project's tool. Returns whether the board's clock
    needs one."""
    if has_pll(board):
        FAMILIES[board.family].pll(board, folder)
    return has_pll(board)


#: Multipliers narrower than this stay in LUTs: the products of FP8 codes are cheaper there, and there are more of them
#: than multipliers.
DSP_WIDTHS = {"A": 9, "B": 7}
#: ... but for those of column pairs, two weights of 4 to 6 bits by as many: no others are so oblong
#: (`hwgen.lib.fp8_dot.PairedProduct`).
PAIR_WIDTHS = {"A": 12, "B": 4}
#: A factor of a product of the array's columns with multipliers (`hwgen.units.mac_column.Column`).
PRODUCT = "lane*_weight"

#: Registers that hold the same and stay apart, each beside its multipliers: Yosys would make one of them, from which
#: wires go all over the chip.
APART = "w:*_given"


def synthesis_script(sources, output, family="ecp5", own=False, pairs=False):
    """Yosys' script: what a family's `synth_` command does, but for small multipliers, which its own DSP step would
    give a DSP each. ``own``: there are columns with multipliers of their own, ``pairs``: pairs of columns.

    Without PFU multiplexers (-nowidelut): the dispatcher's wide ones take a third of the LUTs so.
    """
    synthesis = f"{FAMILIES[family].synthesis} -top top -nodsp -nowidelut"
    if not FAMILIES[family].multiplier:
        products = [
            "design -save machine", "design -reset", f"read_verilog <<END\n{FAMILIES[family].product}END",
            "design -stash product", "design -load machine", "proc", f"select -set products w:{PRODUCT} %co1 t:$mul %i",
            "wreduce @products", "techmap -map %product @products"] if own and FAMILIES[family].product else []
        return "\n".join([f"read_verilog {' '.join(sources)}", *products, synthesis, f"write_json {output}", ""])

    def multipliers(least, which=""):
        widths = " ".join(f"-D DSP_{side}_MAXWIDTH=18 -D DSP_{side}_MINWIDTH={width}" for side, width in least.items())
        return f"techmap -map +/mul2dsp.v {widths} -D DSP_NAME=$__MUL18X18{which}"

    oblong = f" t:$mul r:A_WIDTH>={PAIR_WIDTHS['A']} %i r:A_WIDTH<=18 %i r:B_WIDTH<{DSP_WIDTHS['B']} %i"
    return "\n".join([
        f"read_verilog {' '.join(sources)}",
        f"{synthesis} -run begin:coarse",
        "proc", "flatten", f"setattr -set keep 1 {APART} %ci1 t:$dff %i", "tribuf -logic", "deminout", "opt_expr",
        "opt_clean", "opt -nodffe -nosdff", "fsm", "opt", "wreduce", "peepopt", "opt_clean", "share",
        "techmap -map +/cmp2lut.v -D LUT_WIDTH=4", "opt_expr", "opt_clean",
        *[multipliers(PAIR_WIDTHS, oblong)] * pairs,
        multipliers(DSP_WIDTHS),
        "chtype -set $mul t:$__soft_mul", f"techmap -map {FAMILIES[family].multiplier}",
        "alumacc", "opt", "memory -nomap", "opt_clean",
        f"{synthesis} -run map_ram:",
        f"write_json {output}", ""])
