"""The memory path of a board: LiteDRAM's controller, what starts it, and the module ``memory`` around both
(docs/dram.md)."""
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..lib.verilog import emit_design
from ..params.dram import QUEUE, StartPlan
from ..params.kv_port import KV_PREFIX
from ..units.axi_crossing import AxiCrossing
from .dram_phys import PHYS, check_clock, pin_ports
from .tools import ToolError

__all__ = ["Controller", "PREFIXES", "axi_ports", "controller", "memory_settings", "memory_verilog"]

#: The package that makes controllers, and the extra that has it.
PACKAGE, EXTRA = "litedram", "dram"
CORE = "memory_controller"
#: Before LiteDRAM's generator where the controller has a clock of its own. Registers on both ways of a port's commands:
#: of itself LiteDRAM decides in one cycle whether a port has data for a command, which port a bank takes, and whether
#: that has room. And timers of refreshes that know a cycle ahead when they end, not by looking at all of their bits
#: then.
_CUT = """\
import litedram.common, litedram.core.crossbar, litedram.core.refresher, litex.soc.interconnect.stream
from migen import If, Module, Signal, bits_for
crossbar = litedram.core.crossbar.LiteDRAMCrossbar
get_port = crossbar.get_port
def cut(self, *words, **more):
    port = get_port(self, *words, **more)
    same = port.mode, port.address_width, port.data_width, port.clock_domain, port.id
    ours = litedram.common.LiteDRAMNativePort(*same)
    its = litedram.common.cmd_description(port.address_width)
    self.submodules += (buffer := litex.soc.interconnect.stream.Buffer(its, pipe_ready=True))
    self.comb += [ours.cmd.connect(buffer.sink), buffer.source.connect(port.cmd), ours.wdata.connect(port.wdata),
                  port.rdata.connect(ours.rdata)]
    return ours
crossbar.get_port = cut
class Timer(Module):
    def __init__(self, interval):
        self.wait, self.done, self.count = Signal(), Signal(), Signal(bits_for(interval), reset=interval - 1)
        self.sync += [self.done.eq(self.wait & ~self.done & (self.count == 1)),
                      If(self.wait & ~self.done, self.count.eq(self.count - 1)).Else(
                         self.count.eq(self.count.reset))]
litedram.core.refresher.RefreshTimer = Timer
"""


@dataclass(frozen=True)
class Controller:
    """LiteDRAM's controller for a memory.

    verilog     its module `CORE`
    start       [StartStep], or a StartPlan: what starts it
    """
    verilog: str
    start: tuple | StartPlan


def controller(memory, clock, ports=1, cut=False, **settings):
    """LiteDRAM's `Controller` for an `Sdram` at ``clock`` MHz, made by its own generator, with so many ``ports``; their
    commands are ``cut`` off the rest by registers. ``settings`` are those of its `ControllerSettings`.

    Raises
    ------
    ToolError       if LiteDRAM is not installed, fails, or has become another
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise ToolError(f"LiteDRAM is not installed: pip install 'hwgen[{EXTRA}]'")
    phy = PHYS[memory.phy.name]
    if memory.power_up * clock / 1000 > phy.power_up:
        raise ToolError(f"Clock of a memory must be at most {phy.power_up / memory.power_up * 1000:g} MHz, not "
                        f"{clock:g}: LiteDRAM leaves it {phy.power_up} cycles to power up")
    config = {"cpu": "None", **phy.config, "sdram_module": memory.name,
              "sdram_module_nb": memory.data_width // 8,
              "sys_clk_freq": clock * 1e6, "input_clk_freq": clock * 1e6,
              "user_ports": {str(number): {"type": "axi", "id_width": 1, "data_width": memory.port_width}
                             for number in range(ports)},
              "refresh_postponing": memory.phy.postponed, **settings}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "core.yml").write_text(json.dumps(config))      # which YAML contains
        interval = (memory.cycles("refi", clock) - 0.5) / clock * 1000
        program = [_CUT * cut + phy.generator, memory.name, str(interval),
                   *(str(getattr(memory, limit)) for limit in phy.limits)]
        done = subprocess.run([sys.executable, "-c", *program, "core.yml", "--name", CORE, "--output-dir", "made",
                               "--csr-csv", "csr.csv"], cwd=work, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise ToolError(f"LiteDRAM failed: {(done.stdout.strip().splitlines() or ['it said nothing'])[-1]}")
        text = (work / f"made/gateware/{CORE}.v").read_text()
        header = (work / "made/software/include/generated/sdram_phy.h").read_text()
        rows = [line.split(",") for line in (work / "csr.csv").read_text().splitlines()]
        registers = {words[1]: int(words[2], 16) for words in rows if words[0] == "csr_register"}
    if (latency := re.search(r"#define SDRAM_PHY_CL (\d+)", header)) is None or int(latency[1]) != memory.cas_latency:
        raise ToolError(f"Clock of a memory must be one at which LiteDRAM has a CAS latency of {memory.cas_latency}, "
                        f"not {clock:g} MHz")
    if cut:
        check_clock(memory, text, clock, config["input_clk_freq"] / 1e6)
    return Controller(_tidied(text, memory), phy.plan(header, registers))


def _tidied(text, memory):
    """LiteDRAM's Verilog as the same tools always make it, without a time scale, and with its data pins as pins of both
    directions.

    Three of its comments differ from run to run: the date, the commit of the repository in whose folders LiteX lies,
    and the list of primitives (``[OFS1P3BX]``) that closes its tree of modules. That list is a set of objects;
    PYTHONHASHSEED does not order it (LiteX 2024.12). Other modules have no time scale.
    """
    text = re.sub(r"^(?://.*(?:Date|LiteX sha1|Auto-Generated by LiteX on).*|`timescale.*|[│└─ ]+\[\w+\])\n", "", text,
                  flags=re.MULTILINE)
    both = [(name, bits) for name, bits, kind in pin_ports(memory) if kind == "inout"]
    found = 0
    for name, bits in both:
        text, times = re.subn(rf"\b(?:input|inout)( +)wire( +)\[{bits - 1}:0\] {name}\b",
                              rf"inout\1wire\2[{bits - 1}:0] {name}", text)
        found += times
    if memory.phy.own_clocks:
        text = _once(text)
    if found != len(both):
        raise ToolError("LiteDRAM must be the one that the extra names: its Verilog has no data pins of the kind "
                        "that are known")
    return text


def _once(text):
    """Each ``assign`` once: LiteX prints some of a DDR3 core's several times, and Yosys takes each for a driver."""
    seen = set()

    def kept(found):
        again = found[0] in seen
        seen.add(found[0])
        return "" if again else found[0]
    return re.sub(r"^assign [^;]*;\n", kept, text, flags=re.MULTILINE)


# -- The module around it

_MEMORY = """\
// A memory on AXI4, {name} behind LiteDRAM's controller, which is started without a CPU.
// Made by hwgen; make it again rather than change it.
module {module} (
    input  wire        clk,
    input  wire        rst,{clock_ports}
    output wire        memory_ready,
    output wire        memory_failed,
{ports}
);
  wire [29:0] wb_adr;
  wire [31:0] wb_dat_w{read_wire};
  wire wb_cyc, wb_stb, wb_we, wb_ack, wb_err;
  wire started, failed, {readies};{crossings}
  // Nothing gets in before the start is over: of itself LiteDRAM holds back addresses, and not the words of a write.
{told}{gates}

  {start} start (
      .clk({clock}),
      .rst({reset}),
      .wb_adr(wb_adr),
      .wb_dat_w(wb_dat_w),{read_port}
      .wb_cyc(wb_cyc),
      .wb_stb(wb_stb),
      .wb_we(wb_we),
      .wb_ack(wb_ack),
      .wb_err(wb_err),
      .ready(started),
      .failed(failed)
  );

  {core} controller (
      .clk(clk),
      .rst(rst),
      .init_done(),
      .init_error(),
      .user_clk({user_clock}),
      .user_rst({user_reset}),{locked}
      .wb_ctrl_adr(wb_adr),
      .wb_ctrl_dat_w(wb_dat_w),
      .wb_ctrl_dat_r({read}),
      .wb_ctrl_sel(4'hf),
      .wb_ctrl_cyc(wb_cyc),
      .wb_ctrl_stb(wb_stb),
      .wb_ctrl_we(wb_we),
      .wb_ctrl_ack(wb_ack),
      .wb_ctrl_err(wb_err),
      .wb_ctrl_cti(3'd0),
      .wb_ctrl_bte(2'd0),
      {users},
      {pins}
  );
endmodule
"""


#: The ports of a memory: that of the weights, and the one of keys and values where they are in it too.
PREFIXES = ("m_axi_", KV_PREFIX)
#: Signals of a user port, in LiteDRAM's order.
_USER = ("awvalid", "awready", "awaddr", "awburst", "awlen", "awsize", "awid", "wvalid", "wready", "wlast", "wstrb",
         "wdata", "bvalid", "bready", "bresp", "bid", "arvalid", "arready", "araddr", "arburst", "arlen", "arsize",
         "arid", "rvalid", "rready", "rlast", "rresp", "rdata", "rid")


def _readies(prefix):
    """{signal: LiteDRAM's own} of those that are held back before the start."""
    return {name: prefix.replace("m_axi_", "") + name for name in ("awready", "wready", "arready")}


def _user_port(number, prefix):
    """Connections of LiteDRAM's user port of that number."""
    there = {name: f"{prefix}{name}" for name in _USER} | _readies(prefix)
    there |= {name: f"{prefix}{name} && started" for name in ("awvalid", "wvalid", "arvalid")}
    there |= {name: f"{{1'b0, {prefix}{name}}}" for name in ("awsize", "arsize")}
    return ",\n      ".join(f".user_port_{number}_{name}({there[name]})" for name in _USER)


def axi_ports(memory, prefix="m_axi_"):
    """[(name, bits, whether the memory drives it)] of a port ``m_axi_*``: what a memory needs of a master's."""
    address, data = memory.address_width, memory.port_width
    channel = {"addr": address, "len": 8, "size": 3, "burst": 2, "id": 1, "valid": 1}
    ports = [(f"{c}{name}", bits, False) for c in ("aw", "ar") for name, bits in channel.items()]
    ports += [("awready", 1, True), ("arready", 1, True)]
    ports += [("wdata", data, False), ("wstrb", data // 8, False), ("wlast", 1, False), ("wvalid", 1, False),
              ("wready", 1, True)]
    ports += [("bid", 1, True), ("bresp", 2, True), ("bvalid", 1, True), ("bready", 1, False)]
    ports += [("rid", 1, True), ("rdata", data, True), ("rresp", 2, True), ("rlast", 1, True), ("rvalid", 1, True),
              ("rready", 1, False)]
    return [(prefix + name, bits, out) for name, bits, out in ports]


_TOLD = "  assign memory_ready = started;\n  assign memory_failed = failed;\n"
#: Before the names of a controller's ports where the machine has another clock.
_FAR = "far_"
#: What differs around the controller: that of SDR has its clock from outside, and others make it.
_CLOCKED = dict(clock_ports="", read_wire="", clock="clk", reset="rst", read_port="", user_clock="", user_reset="",
                locked="", read="", crossings="", told=_TOLD)
_CLOCKING = dict(clock_ports="\n    output wire        memory_clock,\n    output wire        memory_reset,",
                 read_wire=", wb_dat_r", clock="memory_clock", reset="memory_reset",
                 read_port="\n      .wb_dat_r(wb_dat_r),", user_clock="memory_clock", user_reset="memory_reset",
                 locked="\n      .pll_locked(),", read="wb_dat_r", crossings="", told=_TOLD)
#: ... and what differs from that where the machine has another one.
_CROSSED = dict(clock_ports=_CLOCKING["clock_ports"] + "\n    input  wire        machine_clock,"
                "\n    input  wire        machine_reset,", told="")


def _crossings(memory, module, prefixes):
    """What is between the machine's ports and the controller's, ``far_*``, where they have two clocks. The first one
    carries what the start-up says, too."""
    text = "".join(f"\n  wire {f'[{bits - 1}:0] ' if bits > 1 else ''}{_FAR}{name};" for prefix in prefixes
                   for name, bits, _ in axi_ports(memory, prefix))
    told = {True: ("{failed, started}", "{memory_failed, memory_ready}"), False: ("2'd0", "")}
    for prefix in prefixes:
        status, seen = told[prefix == prefixes[0]]
        joined = {"clk": "machine_clock", "rst": "machine_reset", "m_clk": "memory_clock", "m_rst": "memory_reset",
                  "m_status": status, "status": seen}
        for name, _, _ in axi_ports(memory, ""):
            joined |= {f"s_axi_{name}": prefix + name, f"m_axi_{name}": f"{_FAR}{prefix}{name}"}
        text += f"\n  {module}_crossing {_FAR}{prefix.replace('m_axi_', '')}port (\n      " \
            + ",\n      ".join(f".{port}({wire})" for port, wire in joined.items()) + "\n  );"
    return text


def memory_verilog(memory, clock, module="memory", kv=False, crossing=False, **settings):
    """{file name: Verilog} of a memory path with top module ``module``, for an `Sdram` at ``clock`` MHz. ``kv``: keys
    and values are in it too, on a port of their own. ``crossing``: the machine has another clock. More are LiteDRAM's
    settings.

    Its ports are `clk`, `rst`, those of `axi_ports`, `memory_ready` and `memory_failed`, and the chip's of
    `pin_ports`. If its PHY has its own clocks `clk` is the oscillator's (``input_clk_freq``, in Hz, of the settings),
    and there are `memory_clock` and `memory_reset`, which all the others belong to, or, with a crossing,
    `machine_clock` and `machine_reset`, which all but the pins do.
    """
    prefixes = PREFIXES[:1 + kv]
    core = controller(memory, clock, len(prefixes), cut=crossing, **settings)
    start, pins = f"{module}_start", pin_ports(memory)
    ports = [*((name, bits, "output" if out else "input") for prefix in prefixes
               for name, bits, out in axi_ports(memory, prefix)), *pins]
    declared = ",\n".join(f"    {kind:6} wire {f'[{bits - 1}:0] ' if bits > 1 else ''}{name}"
                          for name, bits, kind in ports)
    near = [_FAR * crossing + prefix for prefix in prefixes]
    users = ",\n      ".join(_user_port(number, prefix) for number, prefix in enumerate(near))
    text = _MEMORY.format(name=memory.name, module=module, start=start, core=CORE, ports=declared, users=users,
                          **(_CLOCKING if memory.phy.own_clocks else _CLOCKED)
                          | (_CROSSED | {"crossings": _crossings(memory, module, prefixes)} if crossing else {}),
                          readies=", ".join(own for prefix in near for own in _readies(prefix).values()),
                          gates="\n".join(f"  assign {prefix}{name} = {own} && started;" for prefix in near
                                          for name, own in _readies(prefix).items()),
                          pins=",\n      ".join(f".{name}({name})" for name, _, _ in pins))
    units = {start: PHYS[memory.phy.name].start(core.start, crossing)}
    if crossing:
        units[f"{module}_crossing"] = AxiCrossing(memory.axi(), words=QUEUE)
    return {f"{module}.v": "\n".join([text, *(emit_design(unit, name) for name, unit in units.items())]),
            f"{CORE}.v": core.verilog}


def memory_settings(board):
    """Of `memory_verilog`, for the memory of a board: the oscillator that its clocks are made of, and whether the
    machine has another one."""
    return ({"input_clk_freq": board.oscillator * 1e6} if board.memory.phy.own_clocks else {}) \
        | ({"crossing": True} if board.memory_clock else {})
