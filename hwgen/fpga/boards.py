"""The boards, and what fits on each. Pins come from amaranth-boards, or are ours."""
import importlib
from dataclasses import dataclass, field, fields

from ..params.dram import MT41K128M16, MT41K256M16, MT48LC16M16, Sdram
from ..plan.costs import Around

__all__ = ["BOARDS", "Board", "Pin", "board"]


#: {port of a top: its name in amaranth-boards}. What is there the inverse of a level is named by that level here.
SDRAM_PINS = {"sdram_clk": "clk", "sdram_cke": "clk_en", "sdram_cs_n": "cs", "sdram_ras_n": "ras", "sdram_cas_n": "cas",
              "sdram_we_n": "we", "sdram_ba": "ba",
              "sdram_a": "a", "sdram_dm": "dqm", "sdram_dq": "dq"}
#: The same of DDR3.
DDRAM_PINS = {"ddram_clk_p": "clk", "ddram_cke": "clk_en", "ddram_ras_n": "ras", "ddram_cas_n": "cas",
              "ddram_we_n": "we", "ddram_odt": "odt", "ddram_ba": "ba", "ddram_a": "a", "ddram_dm": "dm",
              "ddram_dqs_p": "dqs", "ddram_dq": "dq"}
#: The same of DDR3 that has all pins, of a pair both: ``_n`` is the other one.
DDRAM_ALL_PINS = DDRAM_PINS | {"ddram_cs_n": "cs", "ddram_reset_n": "rst", "ddram_clk_n": "clk", "ddram_dqs_n": "dqs"}
#: By PHY: the chip's name there, and its pins.
CHIP_PINS = {"GENSDRPHY": ("sdram", SDRAM_PINS), "ECP5DDRPHY": ("ddr3", DDRAM_PINS),
             "A7DDRPHY": ("ddr3", DDRAM_ALL_PINS)}
#: The same of a card, and what keeps others off its pins.
CARD_PINS = {"card_cs_n": "cs_n", "card_sck": "sck", "card_mosi": "mosi", "card_miso": "miso", "wifi_en": "wifi_en"}


#: ECP5's speed grades -> how much faster a machine is than in grade 6: two builds of ecpix-5-85f (62.67 MHz with 52,848
#: LUTs, 63.45 with 57,262) beside the planner's clock of grade 6.
GRADES = {"8": 1.16}


@dataclass(frozen=True)
class Pin:
    """A pin of the package, and its attributes in the words of the tools."""
    name: str
    inverted: bool
    attributes: tuple


@dataclass(frozen=True, kw_only=True, repr=False)
class Board:
    """A board, and the machine that is built for it unless somebody says otherwise.

    Parameters
    ----------
    title : str             as its maker calls it
    platform : str          module and class that has its pins
    family : str            which tools: one of `hwgen.fpga.families.FAMILIES`
    device : tuple          the FPGA, in the words of the family's tools
    capacity : dict         {resource: how many}, by nextpnr's names
    oscillator : float      MHz on the board
    clock : float           MHz of the machine, from a PLL (or the oscillator's own)
    baud : int              of the UART
    model : str             what it holds
    shape : str             hardware shape, as for --shape
    formats : str           as for --formats; None: the default
    seed : int              of the placement, one with which the clock is met
    programmer : tuple      words of openFPGALoader's command line
    memory : Sdram          what holds the weights; None: the FPGA's own
    note : str              what somebody should know before a build
    card : bool             weights come from an SD card by themselves, too. (Not in the repr, which names the folder of
        a build: those of boards without a card go on)
    asked : float           MHz that place and route are asked for, if that is more than ``clock``: they end a little
        below. (Not in the repr either)
    memory_clock : float    MHz of the memory's controller, if that is not the machine's. (In the repr if it is there)
    constraints : tuple     lines of the family's constraints that its pins do not say. (Not in the repr: in the folder)
    arranged : bool         its multipliers get registers and sites before the rest is placed (`hwgen.fpga.multipliers`;
        ECP5). (In the repr if so)
    """
    name: str
    title: str
    platform: str
    family: str
    device: tuple
    capacity: dict = field(hash=False)
    oscillator: float
    clock: float
    baud: int
    model: str = "demo"
    shape: str
    formats: str = None
    seed: int = 1
    programmer: tuple
    memory: Sdram | None = None
    note: str = ""
    card: bool = field(default=False, repr=False)
    asked: float | None = field(default=None, repr=False)
    memory_clock: float | None = field(default=None, repr=False)
    constraints: tuple = field(default=(), repr=False)
    arranged: bool = field(default=False, repr=False)

    def __post_init__(self):
        if self.memory_clock is not None and not (self.memory and self.memory.phy.own_clocks):
            there = self.memory.title if self.memory else "no memory"
            raise ValueError(f"Clock of a memory must be the machine's on a board with {there}, not "
                             f"{self.memory_clock:g} MHz")
        if self.arranged and self.family != "ecp5":
            raise ValueError(f"Multipliers can be arranged on an ECP5 alone, not on a chip of {self.family}")

    def __repr__(self):
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.repr}
        if self.memory_clock is not None:
            shown["memory_clock"] = self.memory_clock
        if self.arranged:
            shown["arranged"] = True
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def around(self):
        """What the planner must know of it beside its chip's family and size."""
        memory = {"memory": self.memory.phy.name} if self.memory else {}
        grade = self.device[self.device.index("--speed") + 1] if "--speed" in self.device else None
        return Around(**memory, crossed=self.memory_clock is not None, faster=GRADES.get(grade, 1.0))

    @property
    def memory_mhz(self):
        """MHz of the controller of its memory."""
        return self.memory_clock or self.clock

    def pins(self):
        """{"clk", "rx", "tx", "led": [Pin]}: what a machine needs of the board, and "sdram_*" or "ddram_*" of its
        memory's chip, "card_*" of its card. ``rx`` is what the machine receives. A pair is the first of its pins, but
        the second in a port ``_n``."""
        module, name = self.platform.split(":")
        platform = getattr(importlib.import_module(module), name)
        found = {(r.name, r.number): r for r in platform.resources}

        def pins(resource, part=None, second=False):
            its = resource if part is None else next(io for io in resource.ios if io.name == part)
            io, attributes = its.ios[0], {**resource.attrs, **its.attrs}
            io = getattr(io, "n" if second else "p", io)
            return [Pin(pin, io.invert, tuple(sorted(attributes.items()))) for pin in io.names]

        uart = found["uart", 0]
        chip, names = CHIP_PINS[self.memory.phy.name] if self.memory else ("", {})
        memory = {port: pins(found[chip, 0], part, port.endswith("_n")) for port, part in names.items()}
        card = {port: pins(found["card", 0], part) for port, part in CARD_PINS.items()} if self.card else {}
        return {"clk": pins(found[platform.default_clk, 0]), "rx": pins(uart, "rx"), "tx": pins(uart, "tx"),
                "led": [pin for number in range(8) if ("led", number) in found for pin in pins(found["led", number])],
                **memory, **card}


BOARDS = {b.name: b for b in (
    Board(name="ulx3s-85f", title="Radiona ULX3S, LFE5U-85F", platform="amaranth_boards.ulx3s:ULX3S_85F_Platform",
          family="ecp5", device=("--85k", "--package", "CABGA381", "--speed", "6"),
          capacity={"TRELLIS_COMB": 83640, "TRELLIS_FF": 83640, "DP16KD": 208, "MULT18X18D": 156},
          oscillator=25, clock=60, baud=1_000_000, programmer=("--board", "ulx3s"),
          shape="lanes=8,columns=16,vector_lanes=4,attention_lanes=8,entries=8,slots=8,halves=2,tile_beats=2,"
                "context=256,kv_blocks=16,sampler=greedy,dsp_columns=14,dsp_pairs=1"),
    Board(name="ulx3s-85f-sdram", title="Radiona ULX3S, LFE5U-85F, weights in its SDRAM",
          platform="amaranth_boards.ulx3s:ULX3S_85F_Platform", family="ecp5",
          device=("--85k", "--package", "CABGA381", "--speed", "6"),
          capacity={"TRELLIS_COMB": 83640, "TRELLIS_FF": 83640, "DP16KD": 208, "MULT18X18D": 156},
          oscillator=25, clock=45, baud=3_000_000, programmer=("--board", "ulx3s"), memory=MT48LC16M16,
          shape="lanes=8,columns=4,vector_lanes=4,attention_lanes=4,entries=8,slots=8,tile_beats=2,"
                "context=256,kv_blocks=48,sampler=greedy,source=stream"),
    Board(name="ulx3s-85f-sdram-card", title="Radiona ULX3S, LFE5U-85F, weights in its SDRAM, from an SD card",
          platform="hwgen.fpga.platforms:ULX3SCardPlatform",
          family="ecp5", device=("--85k", "--package", "CABGA381", "--speed", "6"),
          capacity={"TRELLIS_COMB": 83640, "TRELLIS_FF": 83640, "DP16KD": 208, "MULT18X18D": 156},
          oscillator=25, clock=45, baud=3_000_000, programmer=("--board", "ulx3s"), memory=MT48LC16M16, card=True,
          shape="lanes=8,columns=4,vector_lanes=4,attention_lanes=4,entries=8,slots=8,tile_beats=2,"
                "context=256,kv_blocks=48,sampler=greedy,source=stream"),
    Board(name="ecpix-5-85f", title="LambdaConcept ECPIX-5, LFE5UM5G-85F, weights in its DDR3",
          platform="amaranth_boards.ecpix5:ECPIX585Platform", family="ecp5",
          device=("--um5g-85k", "--package", "CABGA554", "--speed", "8"),
          capacity={"TRELLIS_COMB": 83640, "TRELLIS_FF": 83640, "DP16KD": 208, "MULT18X18D": 156},
          oscillator=100, clock=56, asked=58, baud=8_000_000, programmer=("--board", "ecpix5"), memory=MT41K256M16,
          memory_clock=93.75,
          shape="lanes=8,columns=8,vector_lanes=4,attention_lanes=4,entries=8,slots=8,tile_beats=2,"
                "context=256,kv_blocks=48,sampler=greedy,source=stream"),
    Board(name="ulx3s-85f-wired", title="Radiona ULX3S, LFE5U-85F, weights as logic",
          platform="amaranth_boards.ulx3s:ULX3S_85F_Platform", family="ecp5",
          device=("--85k", "--package", "CABGA381", "--speed", "6"),
          capacity={"TRELLIS_COMB": 83640, "TRELLIS_FF": 83640, "DP16KD": 208, "MULT18X18D": 156},
          oscillator=25, clock=62.5, baud=500_000, model="wire", formats="weights=e2m1",
          programmer=("--board", "ulx3s"),
          shape="tiny,lanes=8,columns=8,vector_lanes=4,attention_lanes=16,tile_beats=8,context=256,source=wired,"
                "wire_levels=3", seed=2),
    Board(name="ulx3s-12f", title="Radiona ULX3S, LFE5U-12F", platform="amaranth_boards.ulx3s:ULX3S_12F_Platform",
          family="ecp5",
          device=("--12k", "--package", "CABGA381", "--speed", "6"),
          capacity={"TRELLIS_COMB": 24288, "TRELLIS_FF": 24288, "DP16KD": 56, "MULT18X18D": 28},
          oscillator=25, clock=82.1429, baud=1_000_000, model="mini",
          shape="tiny,columns=8,dsp_pairs=2,context=64,attention_lanes=8", seed=3, programmer=("--board", "ulx3s")),
    Board(name="tang-nano-20k", title="Sipeed Tang Nano 20K, GW2AR-18",
          platform="hwgen.fpga.platforms:TangNano20KPlatform", family="gowin",
          device=("GW2AR-LV18QN88C8/I7", "GW2A-18C", "GW2AR-18 C8/I7"),
          capacity={"LUT4": 20736, "DFF": 15552, "BSRAM": 46, "MULT18X18": 48},
          oscillator=27, clock=27, baud=115_200, model="mini", shape="tiny,columns=2,attention_lanes=2,context=64",
          programmer=("--board", "tangnano20k"), note="does not fit"),
    Board(name="tang-console-138k", title="Sipeed Tang Console 138K, GW5AST-138",
          platform="hwgen.fpga.platforms:TangConsole138KPlatform", family="gowin5",
          device=("GW5AST-LV138PG484AC1/I0", "GW5AST-138C"),
          capacity={"LUT4": 138240, "DFF": 138240, "BSRAM": 340, "MULT12X12": 596},
          oscillator=50, clock=50, baud=1_000_000,
          shape="lanes=8,columns=32,vector_lanes=4,attention_lanes=8,entries=8,slots=8,halves=2,tile_beats=4,"
                "context=256,kv_blocks=16,sampler=greedy,dsp_columns=32,attention_hold=0",
          programmer=("--board", "tangconsole")),
    Board(name="arty-a7-35", title="Digilent Arty A7-35T, XC7A35T",
          platform="amaranth_boards.arty_a7:ArtyA7_35Platform", family="xilinx7", device=("xc7a35ticsg324-1L",),
          capacity={"LUT": 20800, "FF": 41600, "RAMB18E1": 100, "DSP48E1": 90},
          oscillator=100, clock=50, baud=1_000_000, model="mini", shape="tiny,context=64",
          programmer=("--board", "arty_a7_35t"), note="a Vivado project, not run"),
    Board(name="arty-a7-100", title="Digilent Arty A7-100T, XC7A100T, weights in its DDR3",
          platform="amaranth_boards.arty_a7:ArtyA7_100Platform", family="xilinx7", device=("xc7a100tcsg324-1",),
          capacity={"LUT": 63400, "FF": 126800, "RAMB18E1": 270, "DSP48E1": 240},
          oscillator=100, clock=64, baud=8_000_000, programmer=("--board", "arty_a7_100t"), memory=MT41K128M16,
          memory_clock=100, note="a Vivado project, not run",
          shape="lanes=8,columns=8,vector_lanes=4,attention_lanes=4,entries=8,slots=8,tile_beats=2,"
                "context=256,kv_blocks=48,sampler=greedy,source=stream",
          # half of the chip's 1.35 V, for what comes from it
          constraints=("set_property INTERNAL_VREF 0.675 [get_iobanks 34]",)),
)}


def board(name):
    """The board of that name. ValueError for others."""
    if name not in BOARDS:
        raise ValueError(f"Board must be one of {', '.join(BOARDS)}, not {name!r}")
    return BOARDS[name]
