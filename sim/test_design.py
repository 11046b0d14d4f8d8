"""Benches at the shape of an emitted design: ``pytest sim/ --design rtl_out/mine``; only these tests run then, and without it none of them.

Units are built from the manifest's shape and formats, each with its own bench. The system bench runs on the Verilog of the folder itself,
with random weights of that shape in the place of its own. What has no bench at a given shape: see docs/benches.md.
"""
from pathlib import Path

import pytest

from hwgen.models.pack import pack
from hwgen.units.attention import Attention
from hwgen.units.convert import Convert
from hwgen.units.decode_loop import DecodeLoop
from hwgen.units.feeder import Feeder
from hwgen.units.kv_cache import KvCache
from hwgen.units.residual import Residual
from hwgen.units.rmsnorm import RmsNorm
from hwgen.units.rope import Rope
from hwgen.units.sampler import Sampler
from hwgen.units.swiglu import SwiGlu
from sim import runner
from sim.admission_units import AdmissionToMemory
from sim.designs import changes_of, small_design
from sim.kv_units import HeadsToAttention
from sim.passes import History, expected_steps, random_model
from sim.weights_units import Weights, image, random_stream

#: Unit: the component of a design, and the bench's parameters of the changes that make it.
UNITS = {
    "admission": (AdmissionToMemory, dict), "attention": (Attention, dict), "convert": (Convert, dict), "decode_loop": (DecodeLoop, dict),
    "feeder": (Feeder, dict), "kv_cache": (KvCache, dict), "kv_writer": (HeadsToAttention, dict), "residual": (Residual, dict),
    "rmsnorm": (RmsNorm, lambda changes: {"design": changes}), "rope": (Rope, lambda changes: {"design": changes}),
    "sampler": (Sampler, lambda changes: {"design": changes}),
    "swiglu": (SwiGlu, lambda changes: {"design": changes, "block": {}, "step": 61, "count": 100}),
    "weights": (lambda design: Weights(design, image(random_stream(design))), dict),
}
#: Cocotb tests of a unit, where not all of them can be run at any shape.
TESTS = {
    # history/pattern=0 sees to it that each error occurs, which long contexts do not let it
    "admission": [*(f"history/pattern={k}" for k in (1, 2, 3)), "more_than_a_full_pass", "all_wrong_and_nobody_listens",
                  "operations_wait_for_the_end_of_a_pass", "reset_in_flight"],
    # stalls make a long stream longer than the bench waits
    "weights": ["cycles", "values/pattern=0/apart=0", "values/pattern=0/apart=1", "requests", "reset_in_flight/when=9"],
}


@pytest.fixture(scope="module")
def mine(request):
    """(folder, manifest, changes) of the design that is asked for."""
    folder = Path(request.config.getoption("--design"))
    return folder, *changes_of(folder)


@pytest.mark.parametrize("unit", UNITS)
def test_unit(mine, unit):
    _, about, changes = mine
    design = small_design(**changes)
    if unit == "weights" and design.hw.source != "rom":
        pytest.skip("the bench of the weight stream's source needs a ROM")
    make, params = UNITS[unit]
    runner.run(make(design), f"{about['top']}_{unit}", f"bench_{unit}", params=params(changes), testcase=TESTS.get(unit))


def test_system(mine):
    folder, about, changes = mine
    if changes["source"] != "rom" or "bus" in about:
        pytest.skip("the system bench needs a machine with its weights in a ROM and without buses: `hwgen run` tests the others")
    design, name = small_design(**changes), about["top"]
    quantized = random_model(design)
    steps = list(expected_steps(design, quantized, History(design).steps(3)))
    verilog = (folder / f"{name}.v").read_text(encoding="utf-8")
    macro = about["weights"]["macro"]
    runner.run(f'`define {macro} "{image(pack(quantized, design))}"\n{verilog}', name, "bench_decoder",
               params={"changes": changes, "steps": steps}, opt="-O2")
