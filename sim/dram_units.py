"""A memory path and its chip, as a bench has them: LiteDRAM's own Verilog, and what is behind its pins."""
from hwgen.fpga.dram import axi_ports, memory_verilog
from hwgen.fpga.dram_phys import pin_ports
from hwgen.host.links.sdram import chip_verilog, simulated
from hwgen.lib.verilog import emit_design, ports
from hwgen.top import make

__all__ = ["SEEN", "chip_address", "declared", "memory_and_chip", "power_up", "reader_and_memory", "reader_before",
           "seen_ports", "write_and_read"]

#: What a chip tells: {port of it: bits}.
SEEN = {"error": 8, "error_cycle": 32, "refreshes": 32, "activates": 32, "reads": 32, "writes": 32}

_TOP = """\
module {name} (
    input wire clk,
    input wire rst,
{ports},
    input wire flip,
    input wire [{place}:0] flip_address,
    input wire [{data}:0] flip_bits,
{seen},
    output wire memory_ready,
    output wire memory_failed
);
{body}
  {chip}
endmodule
"""


def declared(members):
    """Ports (name, bits, whether it is an output) of a module, as its header has them."""
    return ",\n".join(f"    {'output' if out else 'input'} wire [{bits - 1}:0] {name}" for name, bits, out in members)


def seen_ports():
    """The ports for what a chip tells."""
    return declared((f"chip_{seen}", bits, True) for seen, bits in SEEN.items())


def _top(name, memory, clock, members, body):
    return _TOP.format(name=name, ports=declared(members), seen=seen_ports(), body=body, data=memory.data_width - 1,
                       place=(memory.size // (memory.data_width // 8) - 1).bit_length() - 1,
                       chip=chip_verilog(memory, clock, cut="rst", flip="flip", flip_address="flip_address",
                                         flip_bits="flip_bits",
                                         **{seen: f"chip_{seen}" for seen in SEEN}))


def _memory(memory):
    own = ["clk", "rst", "memory_ready", "memory_failed", *(name for name, _, _ in axi_ports(memory)
                                                            + pin_ports(memory))]
    return f"  memory memory ({', '.join(f'.{name}({name})' for name in own)});"


def memory_and_chip(memory, clock, name, **settings):
    """Verilog of a module whose ports are the memory path's AXI4, and what a chip tells and suffers."""
    bus = axi_ports(memory)
    return simulated([_top(name, memory, clock, bus, _memory(memory)),
                      *memory_verilog(memory, clock, **settings).values()])


def power_up(memory, word):
    """What the chip has at a word of its own address (`chip_address`) behind power-up: numbers, or an array of them."""
    return (word * 40503 ^ word >> 8) & (1 << memory.data_width) - 1


def chip_address(memory, address):
    """Where LiteDRAM keeps a word of the bus: its number in the chip, bank, row and column one behind the other.
    Numbers, or arrays of them."""
    word = address // (memory.data_width // 8)
    column, line = word % memory.columns, word // memory.columns
    bank, row = line % memory.banks, line // memory.banks
    return (bank * memory.rows + row) * memory.columns + column


def reader_before(memory, design, axi, clock="clk", reset="rst"):
    """(Verilog of an `AxiReader`, its ports but for the bus, what a module has of it in front of a memory path), on the
    clock and the reset of these names."""
    reader = emit_design(make.axi_reader(design, axi), "reader")
    all_, bus = ports(reader, "reader"), axi_ports(memory)
    own = [port for port in all_ if not port.name.startswith("m_axi_") and port.name not in ("clk", "rst")]
    wires = "".join(f"  wire [{bits - 1}:0] {port};\n" for port, bits, _ in bus)
    held = "".join(f"  assign {port} = 0;\n" for port, _, out in bus
                   if port.startswith(("m_axi_aw", "m_axi_w", "m_axi_b")) and not out)
    there = {"clk": clock, "rst": reset, **{port.name: port.name for port in own}, **{port: port for port, _, _ in bus}}
    joined = ", ".join(f".{port.name}({there[port.name]})" for port in all_ if port.name in there)
    return (reader, [(port.name, port.width, port.direction == "output") for port in own],
            f"{wires}{held}  reader reader ({joined});\n")


def reader_and_memory(memory, clock, design, axi, name, **settings):
    """Verilog of an `AxiReader` in front of the memory path and its chip; its ports are the reader's but for the bus,
    and what a chip tells and suffers."""
    reader, own, body = reader_before(memory, design, axi)
    return simulated([_top(name, memory, clock, own, body + _memory(memory)),
                      *memory_verilog(memory, clock, **settings).values(), reader])


async def write_and_read(rng, draws, write, read, fresh):
    """Write or read bursts of ``draws``, (address, length), and in the end some again: what was written is read, and
    else what ``fresh`` (address, length) says."""
    written = {}

    async def checked(address, length):
        data = bytearray(fresh(address, length))
        for i in range(length):
            data[i] = written.get(address + i, data[i])
        assert await read(address, length) == data

    for address, length in draws:
        if rng.random() < 0.5:
            data = rng.randbytes(length)
            await write(address, data)
            written.update(enumerate(data, address))
        else:
            await checked(address, length)
    places = sorted(written)
    for _ in range(4):
        await checked(rng.choice(places), 100)
