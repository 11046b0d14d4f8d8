"""Machines whose keys and values are outside, as Verilator models with the memory of the cycle model (kv_bus.h): values
and cycles are golden's, and a wrong bit of that memory is named."""
import pytest

from hwgen.host.diagnosis.diagnose import diagnose
from hwgen.host.diagnosis.faults import FlippingLink, KvFault
from hwgen.host.driver import CheckedLink, Mismatch, selftest
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Entry
from hwgen.host.links.verilated import VerilatedLink, build_model
from hwgen.lib.verilog import emit_design
from hwgen.models.pack import pack
from hwgen.params.errors import ErrorCode, KvOp
from hwgen.top.decoder import Decoder
from sim.designs import small_design
from sim.passes import History, random_model, run_step

# slots that share blocks, of which there are too few; a window in one layer; words of the bus narrower than beats
DESIGN = small_design(lanes=4, columns=4, vector_lanes=2, attention_lanes=4, entries=2, slots=3, kv_block=4,
                      kv_blocks=9, context=16, hidden_size=10, intermediate_size=6, num_attention_heads=2,
                      num_key_value_heads=2, head_dim=4, vocab_size=29, layer_types=[{}, {"window": 6}],
                      source="stream", kv_port=16)
MODEL = random_model(DESIGN)


def entries(slot, tokens, first=0):
    return [Entry(slot, first + i, token, True) for i, token in enumerate(tokens)]


@pytest.fixture(scope="module")
def connect(tmp_path_factory):
    weights = tmp_path_factory.mktemp("outside") / "weights.bin"
    weights.write_bytes(pack(MODEL, DESIGN).tobytes())
    model = build_model(emit_design(Decoder(DESIGN), "decoder"), "decoder", DESIGN, opt="-O0")
    return lambda **more: VerilatedLink(DESIGN, model, weights=weights, **more)


@pytest.mark.parametrize("stall, seed", [(0, 1), (0, 2), (0.4, 3)])
def test_equal_to_golden(connect, stall, seed):
    """Wherever the memory begins, which the seed says."""
    with CheckedLink(connect(stall=stall, seed=seed), GoldenLink(DESIGN, MODEL), values_only=stall > 0) as link:
        for step in History(DESIGN, seed, operations=0.5, wrong=0.1).steps(10):
            run_step(link, step)
        link.reset()
        for step in History(DESIGN, seed + 10).steps(2):
            run_step(link, step)


def test_a_copy_takes_the_rows_along(connect):
    """Of a block that two slots share, when one of them goes on: in the cycles that golden says."""
    with CheckedLink(connect(), GoldenLink(DESIGN, MODEL)) as link:
        for at in (0, 2, 4):
            link.run_pass(entries(0, [at, at + 1], at))
        assert link.operate(KvOp.FORK, 0, 1, 6).error == ErrorCode.OK
        copies, writes = (link.run_pass(entries(slot, [9], 6)).phases[1][0] for slot in (1, 0))
        assert copies > writes + DESIGN.kv_places.lines * 2 * 2      # two rows of K and V of each head


@pytest.mark.parametrize("memory, element, bit", [
    ("k_codes", 3, 6), ("v_exps", None, 0), pytest.param("v_codes", 2, 5, marks=pytest.mark.nightly),
    pytest.param("k_exps", None, 1, marks=pytest.mark.nightly)])
def test_a_wrong_bit_outside_is_named(connect, memory, element, bit):
    fault = KvFault.at(DESIGN, memory, 1, 1, 0, 2, element, bit)
    with connect() as machine, GoldenLink(DESIGN, MODEL) as golden:
        link = FlippingLink(machine, [fault])
        with pytest.raises(Mismatch) as caught:
            selftest(link, golden)
        found = diagnose(link, MODEL, golden, caught.value)
    said = "\n".join([fault.where(DESIGN), *found.lines()])
    assert found.unit == "kv_port" and fault in [s.fault for s in found.suspects] and not found.again, said
    assert "KV memory outside, byte {}, bit {}, which is".format(*fault.outside(DESIGN)) in said
