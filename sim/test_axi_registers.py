"""Registers on AXI4-Lite on simulators."""
from hwgen.params.axi import AxiShape
from hwgen.params.registers import register_map
from hwgen.units.axi_registers import AxiRegisters
from sim.designs import small_design
from sim.runner import run, simulators

SHAPES = {
    "queue": (dict(sampler="gumbel"), dict(host="queue", address_width=40)),
    "stream": (dict(num_hidden_layers=1, entries=1), dict(address_width=20)),
}


def simulate(name, simulator):
    changes, axi = SHAPES[name]
    registers = register_map(small_design(source="stream", **changes), AxiShape(**axi))
    run(AxiRegisters(registers), "axi_registers", "bench_axi_registers", params={"changes": changes, "axi": axi},
        sim=simulator)


def test_queue(simulator):
    simulate("queue", simulator)


def test_stream():
    simulate("stream", simulators()[-1])
