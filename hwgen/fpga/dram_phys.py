"""What differs between LiteDRAM's PHYs: the words of its generator, the clocks of its PLL, pins, and the start-up
(docs/dram.md)."""
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..params.dram import A7DDRPHY
from ..units.ddr3_start import Ddr3Start
from ..units.sdram_start import SdramStart
from .dram_start import SLOWER, artix_plan, start_plan, start_steps
from .tools import ToolError

__all__ = ["PHYS", "PhyWords", "check_clock", "pin_ports"]

#: LiteDRAM's generator, told how many cycles may be between refreshes: of itself it rounds their number up, to 64.08 ms
#: for all rows at 45 MHz instead of 64.
_GENERATOR = """\
import sys
import litedram.gen, litedram.modules
name, interval = sys.argv.pop(1), float(sys.argv.pop(1))
getattr(litedram.modules, name).technology_timings.tREFI = interval
litedram.gen.main()
"""
#: Beside that, how many ns a refresh of DDR3 takes: LiteDRAM has it in cycles of the fastest clock.
_GENERATOR_3 = _GENERATOR.replace("litedram.gen.main()", """\
getattr(litedram.modules, name).speedgrade_timings["default"].tRFC = (None, float(sys.argv.pop(1)))
litedram.gen.main()""")


@dataclass(frozen=True, kw_only=True)
class PhyWords:
    """A PHY as LiteDRAM's generator has it.

    config      of the generator, beside the chip and the clocks
    generator   a program that runs it: its words are the chip's name, ns between refreshes, and those of ``limits``
    limits      of the chip, which the program is told too
    power_up    cycles that the start-up waits before CKE
    plan        (sdram_phy.h, {register: address}) -> the start-up
    start       (that, whether its steps are in a memory) -> the unit that does it
    pins        memory -> [(name, bits, direction)] of the chip's pins that it has
    made        (its Verilog, MHz of the oscillator) -> MHz that its PLL makes of the oscillator's for the controller;
                None where it has no PLL
    """
    config: dict
    generator: str = _GENERATOR_3
    limits: tuple = ("t_rfc",)
    power_up: int
    plan: Callable
    start: Callable = lambda plan, table: Ddr3Start(plan, table=table)
    pins: Callable
    made: Callable | None = None


def pin_ports(memory):
    """[(name, bits, direction)] of the chip's pins, but for the clock of SDR."""
    return PHYS[memory.phy.name].pins(memory)


def check_clock(memory, text, clock, oscillator):
    """Refuse a clock that LiteDRAM's PLL misses: it takes the first within 1 %."""
    made = PHYS[memory.phy.name].made(text, oscillator)
    if made is None:
        raise ToolError("LiteDRAM must be the one that the extra names: its Verilog has no PLL of the kind that is "
                        "known")
    if abs(made / clock - 1) > 1e-4:
        raise ToolError(f"Clock of a memory can be {made:.7g} MHz of {oscillator:g} MHz, not {clock:g}: "
                        f"take {made:.7g}")


def _bits(count):
    return count.bit_length() - 1


# -- SDR

def _sdr_pins(memory):
    single = [(f"sdram_{name}", 1, "output") for name in ("cke", "cs_n", "ras_n", "cas_n", "we_n")]
    return [*single, ("sdram_ba", _bits(memory.banks), "output"), ("sdram_a", _bits(memory.rows), "output"),
            ("sdram_dm", memory.data_width // 8, "output"), ("sdram_dq", memory.data_width, "inout")]


_GENSDRPHY = PhyWords(
    config={"device": "LFE5U-85F-6BG381C", "memtype": "SDR", "sdram_phy": "GENSDRPHY"}, generator=_GENERATOR,
    limits=(), power_up=20_000, plan=start_steps, start=lambda plan, table: SdramStart(plan), pins=_sdr_pins)


# -- DDR3 of an ECP5: CS# and RESET# of the chip are not connected on its boards, and a pair of pins is a port

def _ecp5_pins(memory):
    single = [(f"ddram_{name}", 1, "output") for name in ("clk_p", "cke", "ras_n", "cas_n", "we_n", "odt")]
    lanes = memory.data_width // 8
    return [*single, ("ddram_ba", _bits(memory.banks), "output"), ("ddram_a", _bits(memory.rows), "output"),
            ("ddram_dm", lanes, "output"), ("ddram_dqs_p", lanes, "inout"), ("ddram_dq", memory.data_width, "inout")]


def _ecp5_clock(text, oscillator):
    """Twice the controller's clock leaves the PLL."""
    divider = {name: int(value) for name, value in re.findall(r"\.(CLK\w+_DIV) *\(\d+'d(\d+)\)", text)}
    feedback = re.search(r'\.FEEDBK_PATH *\("INT_O(P|S\d?)"\)', text)
    if feedback is None or not divider.keys() >= {"CLKI_DIV", "CLKFB_DIV", "CLKOP_DIV", f"CLKO{feedback[1]}_DIV"}:
        return None
    return oscillator / divider["CLKI_DIV"] * divider["CLKFB_DIV"] * divider[f"CLKO{feedback[1]}_DIV"] \
        / divider["CLKOP_DIV"] / 2


#: LiteDRAM makes the clocks of DDR3 itself: `init_clk_freq` is that of the sequence which locks its delays.
_ECP5DDRPHY = PhyWords(
    config={"device": "LFE5UM5G-85F-8BG554I", "memtype": "DDR3", "sdram_phy": "ECP5DDRPHY", "sdram_rank_nb": 1,
            "init_clk_freq": 25e6},
    power_up=50_000 * SLOWER, plan=start_plan, pins=_ecp5_pins, made=_ecp5_clock)



# -- DDR3 of an Artix-7: both pins of a pair are ports

def _artix_pins(memory):
    single = [(f"ddram_{name}", 1, "output") for name in ("clk_n", "cs_n", "reset_n")]
    return [*_ecp5_pins(memory), *single, ("ddram_dqs_n", memory.data_width // 8, "inout")]


#: Outputs of the PLL, and MHz of the reference of the FPGA's delays: within 10 of that, by its data sheet.
_REFERENCE, _ARTIX_CLOCKS = 200, {"reference": 0, "controller": 1, "pins": 2, "strobes": 3}


def _artix_clock(text, oscillator):
    """Of the PLL's outputs; None also if the others are not what the controller's needs."""
    number = {name: int(value) for name, value in re.findall(
        r"\.(CLKFBOUT_MULT|DIVCLK_DIVIDE|CLKOUT\d_DIVIDE|CLKOUT\d_PHASE) *\(\d+'d(\d+)\)", text)}
    wanted = {"CLKFBOUT_MULT", "DIVCLK_DIVIDE", *(f"CLKOUT{output}_DIVIDE" for output in _ARTIX_CLOCKS.values())}
    if not number.keys() >= wanted:
        return None
    inside = oscillator * number["CLKFBOUT_MULT"] / number["DIVCLK_DIVIDE"]
    made = {name: inside / number[f"CLKOUT{output}_DIVIDE"] for name, output in _ARTIX_CLOCKS.items()}
    right = made["pins"] == made["strobes"] == A7DDRPHY.phases * made["controller"] and \
        abs(made["reference"] - _REFERENCE) <= 10 and number.get("CLKOUT3_PHASE") == 90
    return made["controller"] if right else None


_A7DDRPHY = PhyWords(
    config={"device": "xc7a100tcsg324-1", "memtype": "DDR3", "sdram_phy": "A7DDRPHY", "sdram_rank_nb": 1,
            "speedgrade": -1, "iodelay_clk_freq": _REFERENCE * 1e6, "cmd_latency": 0},
    power_up=50_000 * SLOWER, plan=artix_plan, pins=_artix_pins, made=_artix_clock)

PHYS = {"GENSDRPHY": _GENSDRPHY, "ECP5DDRPHY": _ECP5DDRPHY, "A7DDRPHY": _A7DDRPHY}
