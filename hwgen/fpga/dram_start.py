"""The start-up of a memory as LiteDRAM's files have it: register writes of its generator's sdram_phy.h, and what
LiteX's software does behind them (liblitedram/sdram.c)."""
import re

from ..params.dram import A7DDRPHY, ECP5DDRPHY, CheckStep, LaneStep, StartPlan, StartStep
from .tools import ToolError

__all__ = ["PATTERNS", "artix_plan", "start_plan", "start_steps"]

_SEQUENCE = re.compile(r"void init_sequence\(void\)\n\{(.*?)^\}", re.DOTALL | re.MULTILINE)
_WRITE, _DELAY = re.compile(r"(\w+)_write\(([\w|]+)\);"), re.compile(r"cdelay\((\d+)\);")
_COMMAND = re.compile(r"command_p0\(([\w|]+)\);")


class _Header:
    """sdram_phy.h, with the core's registers {name: byte address}."""

    def __init__(self, text, registers):
        self.text, self.registers = text, registers
        self.values = {name: int(value, 0) for name, value in re.findall(
            r"#define (\w+) (0x[0-9a-fA-F]+|\d+)$", text, re.MULTILINE)}

    def value(self, text):
        unknown = [word for word in text.split("|") if not word[0].isdigit() and word not in self.values]
        if unknown:
            raise ToolError(f"LiteDRAM's start-up must have names that it defines, not {unknown[0]}")
        return sum({self.values[word] if word in self.values else int(word, 0) for word in text.split("|")})

    def address(self, name):
        if name not in self.registers:
            raise ToolError(f"LiteDRAM's start-up must have registers that the core has, not {name}")
        return self.registers[name]

    def write(self, name, data, wait=0):
        return StartStep(self.address(name), data, wait)

    def command(self, phase, text, wait=0):
        """A command to the chip, in one of the phases of the controller's cycle."""
        return [self.write(f"sdram_dfii_pi{phase}_command", self.value(text)),
                self.write(f"sdram_dfii_pi{phase}_command_issue", 1, wait)]

    def sequence(self, slower=1):
        """The function ``init_sequence``; its pauses count ``slower`` cycles each."""
        found = _SEQUENCE.search(self.text)
        if found is None:
            raise ToolError("LiteDRAM's sdram_phy.h must have a function init_sequence, and this one has none")
        steps = []
        for line in re.sub(r"/\*.*?\*/", "", found[1]).split("\n"):
            line = line.strip()
            if not line:
                continue
            if told := _WRITE.fullmatch(line):
                steps.append(self.write(told[1], self.value(told[2])))
            elif told := _COMMAND.fullmatch(line):
                steps += self.command(0, told[1])
            elif told := _DELAY.fullmatch(line):
                steps[-1] = StartStep(steps[-1].address, steps[-1].data, slower * int(told[1]))
            else:
                raise ToolError(f"LiteDRAM's start-up must be writes, commands and delays, not {line}")
        return steps

    def end(self):
        """The pins are given back to the controller, and the memory is there."""
        return [self.write("sdram_dfii_control", self.value("DFII_CONTROL_SEL")), self.write("ddrctrl_init_done", 1)]


def start_steps(header, registers):
    """The `StartStep`s that LiteDRAM's sdram_phy.h says, and what its software does behind them.

    The sequence itself leaves the pins with the registers ("software control"): LiteX's BIOS then gives them back to
    the controller, and says that the memory is there. Without the former the controller answers reads and writes, and
    the chip sees none of them.

    Parameters
    ----------
    header : str            sdram_phy.h
    registers : dict        {name: byte address}

    Raises
    ------
    ToolError               for a line, name or register that is not known: nothing is left out silently
    """
    its = _Header(header, registers)
    return (*its.sequence(), *its.end())


#: Cycles of ours for one of ``cdelay``: its loop takes several of a CPU. With fewer the data sheet's 512 cycles of the
#: chip behind ZQCL and behind the reset of the DLL would not be over.
SLOWER = 2
#: What is written and read: a burst of eight words of 16 bits, four times 32 bits. They are the numbers that LiteX's
#: software makes of its seeds 42, 84 and 36 (`lfsr.h`, 32 bits), in the order of its bytes.
SEEDS, _TAPS = (42, 84, 36), 0x80200003
#: Cycles behind a command of a test, as ``cdelay(15)`` there, and how often a lane is set.
_SETTLED, TRIES = 15, 8


def _pattern(seed):
    """Four words of 32 bits."""
    words = []
    for _ in range(4):
        word = 0
        for shift in (24, 16, 8, 0):        # bytes come one behind the other, in big endian
            for bit in range(8):
                seed = seed >> 1 ^ (_TAPS if seed & 1 else 0)
                word |= (seed & 1) << shift + bit
        words.append(word)
    return tuple(words)


PATTERNS = tuple(_pattern(seed) for seed in SEEDS)


#: Cycles for which RESET# is low before all else, where it is connected: 200 us at least up to 250 MHz. The PHY is
#: reset behind them, for as many cycles as ``cdelay(1000)`` there.
_CHIP_RESET, _PHY_RESET = 50_000, 1000
#: What the start-up cannot do, by the names in sdram_phy.h.
_UNKNOWN = ("WRITE_LEVELING", "WRITE_LATENCY_CALIBRATION", "WRITE_DQ_DQS_TRAINING")


def start_plan(header, registers):
    """The `StartPlan` of a DDR3 chip of 16 bits behind LiteDRAM's ECP5DDRPHY: `start_steps`, and between them the read
    levelling of LiteX's software, ``sdram_leveling_center_module`` of each bitslip. Parameters and errors are those of
    `start_steps`; the latter also for other counts of lanes or data than are known, and for a PHY whose writes must be
    levelled."""
    its = _Header(header, registers)
    select, every = its.address("ddrphy_dly_sel"), (1 << its.value("SDRAM_PHY_MODULES")) - 1
    # the lane is released, then all lanes are held a moment, and run together
    release = [StartStep(select, data, 0) for data in (0, every, 0)]
    clear, seen = (its.address(f"ddrphy_burstdet_{name}") for name in ("clr", "seen"))
    return _plan(its, ECP5DDRPHY, (), release, [StartStep(clear, 1, 0)], [CheckStep(seen, 3, 0, (1, 2))])


def artix_plan(header, registers):
    """The same behind LiteDRAM's A7DDRPHY. It has 32 delays and 8 bitslips a lane, and detects no bursts. The chip's
    RESET# is low first, and the PHY is reset."""
    its = _Header(header, registers)
    before = [its.write("sdram_dfii_control", 0, _CHIP_RESET), its.write("ddrphy_rst", 1, SLOWER * _PHY_RESET),
              its.write("ddrphy_rst", 0, SLOWER * _PHY_RESET),
              *(its.write(f"ddrphy_{phase}", its.value(f"SDRAM_PHY_{phase.upper()}")) for phase in ("rdphase",
                                                                                                    "wrphase"))]
    return _plan(its, A7DDRPHY, before, [its.write("ddrphy_dly_sel", 0, SLOWER * _SETTLED)])


def _plan(its, phy, before, release, clear=(), seen=()):
    """``before`` comes before the sequence, and ``release`` behind what is done with a lane; ``clear`` before a test's
    read, and ``seen`` behind the test."""
    lanes, width = its.value("SDRAM_PHY_MODULES"), 128 // phy.phases
    if (lanes, its.value("SDRAM_PHY_DFI_DATABITS"), its.value("SDRAM_PHY_PHASES")) != (2, width, phy.phases):
        raise ToolError(f"LiteDRAM's PHY must have 2 lanes and {phy.phases} phases of {width} bits, and this one has "
                        "others")
    for name in _UNKNOWN:
        if f"SDRAM_PHY_{name}_CAPABLE" in its.text:
            raise ToolError(f"LiteDRAM's PHY must have no {name.lower().replace('_', ' ')}, and this one has: take "
                            "the LiteDRAM that the extra names")

    def on_lane(*names):
        return (LaneStep(its.address("ddrphy_dly_sel"), 0, 0),
                *(its.write(f"ddrphy_rdly_dq_{name}", 1) for name in names), *release)

    row = [its.write(f"sdram_dfii_pi{phase}_{name}", 0) for phase in range(phy.phases)
           for name in ("address", "baddress")]
    return StartPlan(
        lanes=lanes, bitslips=its.value("SDRAM_PHY_BITSLIPS"), delays=its.value("SDRAM_PHY_DELAYS"), tries=TRIES,
        first=(*before, *its.sequence(SLOWER), *row), reset=on_lane("rst", "bitslip_rst"), delay=on_lane("inc"),
        bitslip=on_lane("bitslip"),
        test=tuple(step for words in PATTERNS for step in (*_test(its, words, phy.phases, clear), *seen)),
        last=tuple(its.end()), failure=(its.write("ddrctrl_init_error", 1), its.write("ddrctrl_init_done", 1)))


def _test(its, words, phases, clear):
    """A burst is written and read: row 0 of bank 0, which `row` has named."""
    wait = SLOWER * _SETTLED
    data = [(phase, part) for phase in range(phases) for part in range(4 // phases)]
    return [
        *its.command(0, "DFII_COMMAND_RAS|DFII_COMMAND_CS", wait),
        *(StartStep(its.address(f"sdram_dfii_pi{phase}_wrdata") + 4 * part, word, 0)
          for (phase, part), word in zip(data, words, strict=True)),
        *its.command(its.value("SDRAM_PHY_WRPHASE"),
                     "DFII_COMMAND_CAS|DFII_COMMAND_WE|DFII_COMMAND_CS|DFII_COMMAND_WRDATA", wait),
        *clear,
        *its.command(its.value("SDRAM_PHY_RDPHASE"), "DFII_COMMAND_CAS|DFII_COMMAND_CS|DFII_COMMAND_RDDATA", wait),
        *its.command(0, "DFII_COMMAND_RAS|DFII_COMMAND_WE|DFII_COMMAND_CS", wait),
        *(CheckStep(its.address(f"sdram_dfii_pi{phase}_rddata") + 4 * part, word, 0, (0x00FF00FF, 0xFF00FF00))
          for (phase, part), word in zip(data, words, strict=True))]
