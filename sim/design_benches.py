"""Which benches run at the shape of an emitted design, and how: for sim/test_design.py."""
from pathlib import Path
from unittest import mock

from amaranth.hdl import Fragment
import pytest

from hwgen.lib.verilog import ports
from hwgen.models.pack import model_id
from hwgen.params.axi import AxiShape
from hwgen.top import decoder, engines, make
from hwgen.top.axi import AxiDecoder
from hwgen.top.kv_port import KvBus
from hwgen.units.vector_buffer import VectorBuffer
from sim import runner
from sim.admission_units import AdmissionToMemory
from sim.designs import changes_of, small_design
from sim.kv_units import HeadsToAttention
from sim.passes import SAMPLING, History, bus_steps, expected_steps
from sim.unpack import read_image, unpack
from sim.weights_units import Weights, image, random_stream

#: Unit: the component of a design, and the bench's parameters of the changes that make it.
UNITS = {
    "admission": (AdmissionToMemory, dict), "attention": (make.attention, dict),
    "convert": (lambda design: make.convert(design, banks(design)),
                lambda changes: {**changes, "banks": banks(small_design(**changes))}),
    "decode_loop": (make.decode_loop, dict), "feeder": (make.feeder, dict), "kv_cache": (make.kv_cache, dict),
    "kv_port": (KvBus, dict), "kv_writer": (HeadsToAttention, dict),
    "mac_array": (make.mac_array, lambda changes: {"design": changes, "quick": True}),
    "qk_norm": (lambda design: make.qk_norm(design, banks=design.hw.halves),
                lambda changes: {"design": changes, "banks": changes["halves"]}),
    "residual": (make.residual, dict), "rmsnorm": (make.rmsnorm, lambda changes: {"design": changes}),
    "rope": (make.rope, lambda changes: {"design": changes}),
    "sampler": (make.sampler, lambda changes: {"design": changes}),
    "sums": (lambda design: make.residual(design, sums=True), lambda changes: {**changes, "sums": True}),
    "swiglu": (make.swiglu, lambda changes: {"design": changes, "block": {}, "step": 61, "count": 100}),
    "weights": (lambda design: Weights(design, image(random_stream(design))), dict),
}
#: What is other than in the design: the bench of the weight stream has a ROM, and that of the array sums that need wide
#: accumulators.
#: Attention alone is that of rows in the machine: with a memory outside it runs with the KV writer.
CHANGED = {"weights": lambda changes: {"source": "rom", "kv_port": 0}, "attention": lambda changes: {"kv_port": 0},
           "mac_array": lambda changes: {"intermediate_size": max(512, changes["intermediate_size"])}}
#: What a design must have for a unit to be in it.
IN = {"kv_cache": lambda design: not design.hw.kv_port, "kv_port": lambda design: design.hw.kv_port > 0,
      "qk_norm": lambda design: design.block.qk_norm, "sums": lambda design: design.block.post_norms}
#: Units whose benches have no offsets of rows.
WITHOUT_OFFSETS = ("mac_array", "residual", "sampler", "sums")
#: Units that have another one's bench, and those on buses.
BENCHES, BUSES = {"sums": "residual"}, ("axi_reader", "axi_registers")
#: The decoder's vector buffers, in the order in which it makes them.
BUFFERS = ("xa", "xo", "xh", "qkv")
#: Cocotb tests of a unit, where not all of them can be run at any shape.
TESTS = {
    # history/pattern=0 sees to it that each error occurs, which long contexts do not let it
    "admission": [*(f"history/pattern={k}" for k in (1, 2, 3)), "more_than_a_full_pass", "all_wrong_and_nobody_listens",
                  "operations_wait_for_the_end_of_a_pass", "reset_in_flight"],
    # stalls make a long stream longer than the bench waits
    "weights": ["cycles", "values/pattern=0/apart=0", "values/pattern=0/apart=1", "requests", "reset_in_flight/when=9"],
}


def banks(design):
    """Banks of biases of the decoder's `Convert`."""
    return design.hw.halves if design.block.biased(*design.block.converted) else 1


def buffers(design):
    """{name: parameters} of the decoder's vector buffers."""
    made = []
    with mock.patch.object(engines, "VectorBuffer", lambda **shape: made.append(shape) or VectorBuffer(**shape)):
        Fragment.get(decoder.Decoder(design), None)
    return dict(zip(BUFFERS, made, strict=True))


class Mine:
    """A design that was asked for: its folder, manifest, `Design`, the changes that make it, and its `AxiShape` or
    None."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.about, self.changes = changes_of(folder)
        self.design, self.top = small_design(**self.changes), self.about["top"]
        self.axi = AxiShape(**self.about["bus"]["axi"]) if "bus" in self.about else None
        # as benches on buses take them
        self.on_bus = {name: value for name, value in self.changes.items() if name != "source"}
        self.verilog = (self.folder / f"{self.top}.v").read_text(encoding="utf-8")
        self.component = AxiDecoder(self.design, self.axi) if self.axi else decoder.Decoder(self.design)
        theirs = {port.name for port in ports(self.verilog, self.top)} - {"clk", "rst", "aclk", "aresetn"}
        ours = {"__".join(map(str, path)) for path, _, _ in self.component.signature.flatten(self.component)}
        if theirs - ours:
            raise ValueError(f"Design must be a decoder on streams or on buses, not a top with "
                             f"{', '.join(sorted(theirs - ours)[:5])}")

    def model(self):
        """The folder's own weights, quantized as they are. ValueError if its image is not that of its manifest."""
        found = unpack(read_image(self.folder / self.about["weights"]["image"], self.design), self.design)
        model = self.design.model
        whole = not model.learned_positions or self.design.hw.context >= model.max_position_embeddings
        if whole and found.digest != self.about["model_id"]:
            raise ValueError(f"Weights of {self.folder.name} must be those of its manifest, "
                             f"{self.about['model_id'][:8]}, not "
                             f"{found.digest[:8]}")
        return found


def run_unit(mine, unit):
    """Run the bench of a unit of a `Mine`; skipped where the design has no such unit, or the bench not its recipe."""
    if unit in IN and not IN[unit](mine.design):
        pytest.skip(f"the machine of this design has no {unit}")
    if unit in WITHOUT_OFFSETS and mine.design.scaled:
        pytest.skip(f"the bench of {unit} has no offsets of rows or blocks, which this design's recipe asks for")
    make, params = UNITS[unit]
    changes = {**mine.changes, **CHANGED.get(unit, dict)(mine.changes)}
    runner.run(make(small_design(**changes)), f"{mine.top}_{unit}", f"bench_{BENCHES.get(unit, unit)}",
               params=params(changes),
               testcase=TESTS.get(unit))


def run_system(mine):
    """Run the folder's Verilog with the folder's weights."""
    if mine.design.scaled:
        pytest.skip("the reader of weights (sim/unpack.py) knows no offsets, which this recipe asks for: "
                    "make sweep has them")
    design, quantized = mine.design, mine.model()
    text, weights = mine.verilog, mine.folder / mine.about["weights"]["image"]
    if mine.axi:
        params = {"changes": mine.on_bus, "axi": mine.about["bus"]["axi"], "weights": str(weights.resolve()),
                  "weights_id": model_id(quantized), "sampling": SAMPLING,
                  "passes": list(bus_steps(design, quantized, History(design, operations=0).steps(5), SAMPLING)),
                  "steps": list(bus_steps(design, quantized,
                                          History(design, 2, operations=0.4, wrong=0.2).steps(6), SAMPLING))}
        bench, testcase = "bench_axi", ["passes", "history", "reset_by_software", "not_before_it_may"]
    else:
        if design.hw.source == "rom":
            text = f'`define {mine.about["weights"]["macro"]} "{weights.resolve()}"\n{text}'
        params = {"changes": mine.changes, "weights": str(weights.resolve()),
                  "steps": list(expected_steps(design, quantized, History(design).steps(3)))}
        bench, testcase = "bench_decoder", None
    runner.run(text, mine.top, bench, params=params, opt="-O2", component=mine.component, testcase=testcase)
