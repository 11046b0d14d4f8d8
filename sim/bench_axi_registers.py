"""Bench of registers on AXI4-Lite: random software against random hardware, through someone else's bus master."""
import logging
import random

import cocotb
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from hwgen.golden.axi_registers import READ_CYCLES, WRITE_CYCLES, RegisterModel
from hwgen.params.axi import AxiShape
from hwgen.params.registers import register_map
from sim.designs import small_design
from sim.stream_bench import bench_params, start_clock_reset, value_of

PARAMS = bench_params()
MAP = register_map(small_design(source="stream", **PARAMS["changes"]), AxiShape(**PARAMS["axi"]))


class Bench:
    """Software, and hardware that shows random values; all of it is compared with the golden model."""

    def __init__(self, dut, clock, rng, hesitate):
        self.dut, self.clock, self.rng = dut, clock, rng
        self.model = RegisterModel(MAP)
        # of the bus model: a line for each access
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        if hesitate:
            write, read = self.master.write_if, self.master.read_if
            for channel in (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel):
                pattern = random.Random(rng.random())
                channel.set_pause_generator(iter(lambda pattern=pattern: pattern.random() < hesitate, None))
        self.inputs, self.pulses, self.refused = {}, [], set()
        cocotb.start_soon(self._watch())
        cocotb.start_soon(self._serve())
        self.change()

    def change(self):
        """The hardware shows something else, and refuses or not."""
        for register in MAP.registers:
            for field in register.fields:
                if field.access == "ro" and not register.window:
                    value = self.inputs[register.name, field.name] = self.rng.getrandbits(field.width)
                    getattr(self.dut, f"{register.name}_{field.name}".lower()).value = value
                elif field.access == "push":
                    self.refuse(register, self.rng.random() < 0.3)
            if register.window:
                for i in range(register.count):
                    self.inputs[register.name, i] = self.rng.getrandbits(32)

    def refuse(self, register, refuse):
        """A push to a register has a place from now on, or none."""
        (self.refused.add if refuse else self.refused.discard)(register.name)
        getattr(self.dut, f"{register.name}_refuse".lower()).value = int(refuse)

    async def _serve(self):
        """Memories behind the windows: data one cycle after the address."""
        windows = [r for r in MAP.registers if r.window]
        while True:
            await self.clock.sample()
            at = {r.name: value_of(getattr(self.dut, f"{r.name}_address".lower())) if r.count > 1 else 0
                  for r in windows}
            await self.clock.edge()
            for name, address in at.items():
                getattr(self.dut, f"{name}_data".lower()).value = self.inputs.get((name, address), 0)

    async def _watch(self):
        """Note pulses and pushes."""
        names = [(r, f) for r in MAP.registers for f in r.fields if f.access in ("pulse", "push")]
        while True:
            await self.clock.sample()
            for register, field in names:
                port = f"{register.name}_{field.name}".lower()
                if value_of(getattr(self.dut, port if field.access == "pulse" else f"{register.name}_write".lower())):
                    self.pulses.append((register.name, field.name, value_of(getattr(self.dut, port))))
            await self.clock.edge()

    async def read(self, address):
        want = self.model.read(address, self.inputs)
        got = await self.master.read(address, 4)
        assert (int.from_bytes(got.data, "little"), int(got.resp)) == want, f"read of {address:#x}"

    async def write(self, address, data, size=4, lane=0):
        """``size`` bytes of a word, from its byte ``lane`` on."""
        want = self.model.write(address, data, (1 << size) - 1 << lane, self.refused)
        got = await self.master.write(address + lane, data.to_bytes(4, "little")[lane:lane + size])
        assert int(got.resp) == want, f"write of {address:#x}"
        # a register that turns over in each cycle is not always seen after an even number
        await self.clock.edge(2 + self.rng.randrange(2))
        assert self.pulses == self.model.pulses, f"write of {address:#x}"


def places(rng):
    """Addresses of registers, and some of none."""
    last = MAP.registers[-1]
    return [r.offset + 4 * rng.randrange(r.count) for r in MAP.registers] + [r.offset + 4 * r.count
                                                                             for r in MAP.registers] \
        + [rng.randrange(0, last.offset + 4 * last.count, 4) for _ in range(10)]


async def begin(dut, seed="", hesitate=0):
    clock = await start_clock_reset(dut)
    return clock, Bench(dut, clock, random.Random(f"{cocotb.RANDOM_SEED} {seed}"), hesitate)


@cocotb.test()
async def each(dut):
    """Every register reads as described before it was written, and after; what is pushed without a place is lost; and
    all stay while others are written."""
    _, bench = await begin(dut)
    for address in places(bench.rng):
        await bench.read(address)
    for register in MAP.registers:
        for data, refuse in ((0xFFFFFFFF, False), (bench.rng.getrandbits(32), True), (0, False)):
            if any(field.access == "push" for field in register.fields):
                bench.refuse(register, refuse)
            await bench.write(register.offset, data)
            await bench.read(register.offset)
    for register in MAP.registers:
        await bench.write(register.offset, bench.rng.getrandbits(32))
    for address in places(bench.rng):
        await bench.read(address)


@cocotb.test()
@cocotb.parametrize(("hesitate", [0, 0.5, 0.9]))
async def software(dut, hesitate):
    """Random reads and writes, whole and in part, of hardware that changes."""
    clock, bench = await begin(dut, hesitate, hesitate)
    rng = bench.rng
    for _ in range(100 if hesitate < 0.9 else 40):
        address = rng.choice(places(rng))
        if rng.random() < 0.5:
            await bench.read(address)
        else:
            size = rng.choice([4, 4, 4, 1, 2, 3])
            await bench.write(address, rng.getrandbits(32), size, rng.randint(0, 4 - size))
        if rng.random() < 0.2:
            bench.change()
            await clock.edge(2)
        for register in MAP.registers:
            for field in register.fields:
                name = f"{register.name}_{field.name}".lower()
                if field.access in ("rw", "w1c"):
                    assert value_of(getattr(dut, name)) == bench.model.kept[register.name, field.name], name


@cocotb.test()
async def events(dut):
    """An event sets its bit, stays until software clears it, and wins over clearing in the same cycle."""
    clock, bench = await begin(dut)
    for register in MAP.registers:
        for field in register.fields:
            if field.access != "w1c":
                continue
            happen = getattr(dut, f"{register.name}_{field.name}_set".lower())
            happen.value = 1
            await clock.edge()
            happen.value = 0
            bench.model.happen(register.name, field.name)
            await bench.read(register.offset)
            await bench.write(register.offset, 0)
            await bench.read(register.offset)
            happen.value = 1
            await bench.write(register.offset, 0xFFFFFFFF)
            happen.value = 0
            bench.model.happen(register.name, field.name)
            await bench.read(register.offset)
            await bench.write(register.offset, field.mask)
            await bench.read(register.offset)


async def answers(dut, clock, valids, answer, ready, count, takes=1):
    """Cycles of ``count`` answers to accesses that are offered one after the other without a pause, from the first
    cycle on."""
    start, seen, open_ = clock.cycle, [], dict.fromkeys(valids, count)
    getattr(dut, ready).value = takes
    while len(seen) < count:
        for name in valids:
            getattr(dut, f"{name}valid").value = int(open_[name] > 0)
        await clock.sample()
        for name in valids:
            open_[name] -= open_[name] > 0 and value_of(getattr(dut, f"{name}ready"))
        if value_of(getattr(dut, answer)):
            seen.append(clock.cycle - start)
        await clock.edge()
    return seen


@cocotb.test()
async def pace(dut):
    """By hand, as no bus model lets nothing pass between: the cycles that `LiteSlave` promises. An answer does not wait
    for its taker."""
    clock = await start_clock_reset(dut)
    dut.s_axi_wstrb.value, dut.s_axi_awaddr.value, dut.s_axi_wdata.value = 15, 0, 0
    write, read = (["s_axi_aw", "s_axi_w"], "s_axi_bvalid", "s_axi_bready"), (["s_axi_ar"], "s_axi_rvalid",
                                                                              "s_axi_rready")
    for access, cycles in ((write, WRITE_CYCLES), (read, READ_CYCLES)):
        assert await answers(dut, clock, *access, 1, takes=0) == [cycles]
        getattr(dut, access[2]).value = 1
        await clock.edge()
    writes = await answers(dut, clock, *write, 4)
    assert writes == [WRITE_CYCLES + 2 * i for i in range(4)]
    reads = await answers(dut, clock, *read, 3)
    assert reads == [READ_CYCLES + 5 * i for i in range(3)]


@cocotb.test()
async def reset(dut):
    """A reset brings every register back."""
    clock, bench = await begin(dut)
    for register in MAP.registers:
        bench.model.write(register.offset, 0x5A5A5A5A, refused=bench.refused)
        await bench.master.write(register.offset, (0x5A5A5A5A).to_bytes(4, "little"))
    await clock.reset()
    bench.model.reset()
    bench.pulses.clear()
    await clock.edge(2)
    for address in places(bench.rng):
        await bench.read(address)
