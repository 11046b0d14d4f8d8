"""The contract of streams, of every output stream of every unit."""
from types import SimpleNamespace

from amaranth.hdl import Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.lib.layouts import head_meta_layout
from hwgen.units import attention, convert, decode_loop, feeder, kv_cache, mac_array, qk_norm, residual, rmsnorm, rope, sampler, swiglu, vector_buffer, weights
from sim.designs import small_design

from .broken import Break
from .harness import Harness
from .proofs import Proof
from .stream import gives, takes

__all__ = ["PROOFS"]


def streams(unit, flow):
    """(name, stream) of the streams of a unit that go one way."""
    for name, member in unit.signature.members.items():
        signature = member.signature if member.is_signature else None
        if isinstance(signature, wiring.FlippedSignature):
            signature = signature.flip()
        if isinstance(signature, stream.Signature) and member.flow == flow:
            yield name, getattr(unit, name)


def watched(h, offered):
    """What is looked at of a stream. A break puts a spoiled one here: then it is a run in which an offer waits that refutes the property."""
    return offered


def spoiled(h, offered, what):
    """A stream that is withdrawn or changed at will."""
    flaw = h["flaw"]
    payload = Value.cast(offered.payload)
    return SimpleNamespace(valid=offered.valid & ~(flaw & (what == "withdrawn")), ready=offered.ready, payload=payload ^ (flaw & (what == "changed")))


def _harness(make, assume, unproved):
    unit = make()
    h = Harness(unit, flaw=1)
    for _, taken in streams(unit, In):
        takes(h, taken)
    for name, given in streams(unit, Out):
        if name not in unproved:
            gives(h, watched(h, given), name)
    if assume:
        assume(h, unit)
    return h


def _loop_is_set_between(h, unit):
    """``left`` is not set while an entry waits for the machine: it could take the offer back."""
    h.assume(~(unit.load & unit.command.valid & ~unit.command.ready))


def _answers_follow_requests(h, unit):
    for asked, answered in ((unit.k_req, unit.k_o), (unit.v_req, unit.v_o), (unit.q_r, unit.q_i)):
        owed = Signal(5)
        h.m.d.sync += owed.eq(owed + (asked.valid & asked.ready) - (answered.valid & answered.ready))
        h.assume(~answered.valid | (owed != 0))


def _loop(h, unit):
    _loop_is_set_between(h, unit)
    h.assume(~unit.result.valid | h.inside.under_way)       # the machine has results of a pass only


_SMALL = dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, head_dim=4, hidden_size=4, intermediate_size=4, num_hidden_layers=1, vocab_size=5,
              context=4, kv_block=2, max_position_embeddings=4, entries=2, slots=2)


def _design(**changes):
    return small_design(**_SMALL | changes)


def _vector_buffer():
    design = _design()
    return vector_buffer.VectorBuffer(rows=2, length=4, write_lanes=2, read_lanes=2, fmt=design.recipe.kv_format, meta=head_meta_layout(design))


#: Unit -> how it is made, what is assumed beside the contract of its inputs, output streams that are not proved, and what is abstracted.
_UNITS = {
    "KvCache": dict(make=lambda: kv_cache.KvCache(_design())),
    "KvWriter": dict(make=lambda: kv_cache.KvWriter(_design())),
    "Feeder": dict(make=lambda: feeder.Feeder(_design())),
    "DecodeLoop": dict(make=lambda: decode_loop.DecodeLoop(_design()), assume=_loop),
    "SwiGlu": dict(make=lambda: swiglu.SwiGlu(_design())),
    "Convert": dict(make=lambda: convert.Convert(_design())),
    "Dispatcher": dict(make=lambda: weights.Dispatcher(_design())),
    "StreamPort": dict(make=lambda: weights.StreamPort(_design(source="stream"))),
    "RomSource": dict(make=lambda: weights.RomSource(_design()), abstract=("t:$memrd*",)),
    "VectorBuffer": dict(make=_vector_buffer),
    "Rope": dict(make=lambda: rope.Rope(_design())),
    "QkNorm": dict(make=lambda: qk_norm.QkNorm(_design(block=dict(qk_norm=dict(span="head"))))),
    "Sampler": dict(make=lambda: sampler.Sampler(_design())),
    "Residual": dict(make=lambda: residual.Residual(_design()), unproved=("sig",)),
    "RmsNorm": dict(make=lambda: rmsnorm.RmsNorm(_design())),
    "MacArray": dict(make=lambda: mac_array.MacArray(_design())),
    "Attention": dict(make=lambda: attention.Attention(_design()), assume=_answers_follow_requests, unproved=("o",), method="bounded 16"),
}


def _proof(name, make, assume=None, unproved=(), method="pdr", abstract=()):
    unit = make()
    unit._MustUse__used = True      # only its signature is looked at
    ports = [port for port, _ in streams(unit, Out) if port not in unproved]
    breaks = {f"{port}_{what}": Break(watched, "return offered", f'return spoiled(h, offered, "{what}")') for port in ports for what in ("withdrawn", "changed")}
    return Proof(f"{name}'s streams", "", lambda: _harness(make, assume, unproved), method, breaks, depth=40, abstract=abstract)


PROOFS = [_proof(name, **unit) for name, unit in _UNITS.items()]
