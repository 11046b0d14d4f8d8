"""No combinational path leads from an input of an emitted machine's AXI interfaces to an output of one."""
import pytest
from amaranth.hdl import Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwgen.emit import emit
from hwgen.lib.verilog import emit_verilog
from hwgen.models import quantize, random_checkpoint
from hwgen.params.axi import AxiShape
from sim.designs import small_design
from tools.paths import combinational

SMALL = dict(source="stream", lanes=2, columns=2, vector_lanes=2, attention_lanes=2, num_hidden_layers=1)


@pytest.mark.parametrize("host, sampler", [("stream", "greedy"),
                                           pytest.param("queue", "gumbel", marks=pytest.mark.nightly)])
def test_of_a_decoder(tmp_path, host, sampler):
    design = small_design(**SMALL, sampler=sampler)
    emit(design, quantize(random_checkpoint(design.model), design.recipe), tmp_path / "chip", name="chip",
         axi=AxiShape(host=host))
    assert combinational(tmp_path / "chip", "chip") == {}


class Passes(wiring.Component):
    """One path through gates of a submodule, one through a memory that is read in the same cycle, and none through
    registers."""
    a: In(2)
    b: In(2)
    address: In(1)
    through: Out(1)
    read: Out(1)
    late: Out(1)

    def elaborate(self, platform):
        m, m.submodules.inner = Module(), (inner := Module())
        middle = Signal()
        inner.d.comb += middle.eq(self.a[1] & ~self.b[0])
        m.submodules.memory = memory = Memory(shape=1, depth=2, init=[0, 1])
        port, write = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [self.through.eq(middle), port.addr.eq(self.address), self.read.eq(port.data),
                     write.en.eq(self.a[0]),
                     write.data.eq(Const(1))]
        m.d.sync += self.late.eq(self.a[0])
        return m


def test_paths_are_found(tmp_path):
    (tmp_path / "chip.v").write_text(emit_verilog(Passes(), "chip"))
    assert combinational(tmp_path, "chip") == {"through": ["a", "b"], "read": ["address"]}
