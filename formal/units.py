"""The contract of streams, of every output stream of every unit."""
from types import SimpleNamespace

from amaranth.hdl import Cat, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout, View
from amaranth.lib.wiring import In, Out

from hwgen.lib.layouts import head_meta_layout
from hwgen.top import make
from hwgen.units import array_grid, residual, rom_grid, vector_buffer
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
            found = getattr(unit, name)
            yield from [(f"{name}{i}", one) for i, one in enumerate(found)] if member.dimensions else [(name, found)]


def watched(h, offered):
    """What is looked at of a stream. A break puts a spoiled one here: then it is a run in which an offer waits that
    refutes the property."""
    return offered


def spoiled(h, offered, what):
    """A stream that is withdrawn or changed at will."""
    flaw = h["flaw"]
    payload = Value.cast(offered.payload)
    return SimpleNamespace(valid=offered.valid & ~(flaw & (what == "withdrawn")), ready=offered.ready,
                           payload=payload ^ (flaw & (what == "changed")))


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


def _sums_in_order(h, unit):
    """A command is of 1 to T entries, and the sums come in the array's order: all groups of an entry, all entries of a
    tile, tile after tile.

    What makes it inductive: in the unit's stages they stand in that order, the oldest last, and of a final command as
    many rows are complete as entries stand before the oldest in the last tile.
    """
    own = SimpleNamespace(**h.inside.command._asdict(), **h.inside.line._asdict(), base=h.inside._place.base)
    hw, design = _design().hw, _design()
    sums, cmd = unit.i.payload, unit.cmd
    groups, parts = hw.columns // hw.vector_lanes, design.layer_hidden() // hw.vector_lanes
    # as a number, in that order
    place = StructLayout({"group": range(groups), "entry": range(hw.entries), "tile": range(parts // groups + 1)})
    coming, most = Signal(place), own.top_entry
    h.assume(~cmd.valid | (cmd.payload.n != 0) & (cmd.payload.n <= hw.entries))
    h.assume(~unit.i.valid | (sums.group == coming.group) & (sums.entry == coming.entry))

    def behind(at):
        tile_end = (at.group == groups - 1) & (at.entry == most)
        entry = Mux(at.group != groups - 1, at.entry, Mux(tile_end, 0, at.entry + 1))
        return Cat(Mux(at.group == groups - 1, 0, at.group + 1)[:len(at.group)], entry[:len(at.entry)],
                   (at.tile + tile_end)[:len(at.tile)])

    with h.m.If(cmd.valid & cmd.ready):
        h.m.d.sync += coming.eq(0)
    with h.m.Elif(unit.i.valid & unit.i.ready):
        h.m.d.sync += coming.eq(behind(coming))

    stages = [coming, *(Signal(place, name=f"place{k}") for k in range(1, 6))]
    h.m.d.sync += [after.eq(before) for before, after in zip(stages, stages[1:])]
    inside = [0, *(own.valid[k] & own.op[k].add for k in range(1, 6))]
    oldest, wrong = coming.as_value(), []
    for k in range(1, 6):
        wrong.append(inside[k] & (behind(stages[k]) != oldest))
        oldest = Mux(inside[k], stages[k].as_value(), oldest)
    oldest, end = View(place, oldest), coming.tile == parts // groups
    last = oldest.tile == parts // groups - 1
    for k in range(1, 6):
        part = stages[k].tile * groups + stages[k].group
        wrong += [inside[k] & ((own.op[k].entry != stages[k].entry) | (own.op[k].row_last != (part == parts - 1))
                               | (own.op[k].row_first != (part == 0))
                               | (own.op[k].last != ((part == parts - 1) & (stages[k].entry == most)))
                               | (stages[k].entry > most) | (stages[k].tile >= parts // groups))]
    any_inside = Cat(inside[1:]).any()
    h.never("out_of_order", Cat(wrong).any() | (coming.entry > most) | (coming.group >= groups)
            | (coming.tile > parts // groups)
            | (own.adding != (own.busy & ~end)) | own.adding & (own.base != coming.tile * groups) | ~own.adding
            & (own.base != 0))
    h.never("not_done", (any_inside | own.adding | unit.done) & ~own.busy | own.busy & ~own.adding & ~any_inside
            & ~unit.done
            | unit.done & (any_inside | own.adding))
    complete = Mux(own.final, Mux(any_inside | own.adding, Mux(last, oldest.entry, 0), most + 1), 0)
    h.never("miscounted", own.busy & (own.complete != complete) | (own.sent > own.complete)
            | (own.complete > hw.entries))


def _loop(h, unit):
    _loop_is_set_between(h, unit)
    follow = h.inside._follow
    # the machine has results of a pass only, and takes no entry of the next before the last of them
    h.assume((~unit.result.valid | h.inside.current.under_way & ~(follow.came & follow.seen.last))
             & ~(unit.command.ready & h.inside.current.under_way))


_SMALL = dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, head_dim=4, hidden_size=4, intermediate_size=4,
              num_hidden_layers=1,
              vocab_size=5,
              context=4, kv_block=2, max_position_embeddings=4, entries=2, slots=2)


def _design(**changes):
    return small_design(**_SMALL | changes)


def _vector_buffer():
    design = _design()
    return vector_buffer.VectorBuffer(rows=2, length=4, write_lanes=2, read_lanes=2, fmt=design.recipe.kv_format,
                                      meta=head_meta_layout(make.kv_sizes(design)))


_RESIDUAL = {
    "out_of_order": Break(residual.Residual, "base.eq(base + groups)", "base.eq(base)"),
    "not_done": Break(residual.Residual, "self.done.eq(valid[5] & op[5].last & op[5].add)",
                      "self.done.eq(valid[5] & op[5].row_last & op[5].add)"),
    "miscounted": Break(residual.Residual, "valid & op.add & final & op.row_last",
                        "valid & op.add & op.row_last"),
}

#: Unit -> how it is made, what is assumed beside the contract of its inputs, output streams that are not proved, what
#: is abstracted, and broken units of properties that its streams do not have.
_UNITS = {
    "KvCache": dict(make=lambda: make.kv_cache(_design())),
    "KvWriter": dict(make=lambda: make.kv_writer(_design())),
    "Feeder": dict(make=lambda: make.feeder(_design())),
    "DecodeLoop": dict(make=lambda: make.decode_loop(_design()), assume=_loop),
    "SwiGlu": dict(make=lambda: make.swiglu(_design())),
    "Convert": dict(make=lambda: make.convert(_design())),
    "Dispatcher": dict(make=lambda: make.dispatcher(_design())),
    "StreamPort": dict(make=lambda: make.stream_port(_design(source="stream"))),
    "RomSource": dict(make=lambda: make.rom_source(_design()), abstract=("t:$memrd* r:MEMID=*rom* %i",)),
    "VectorBuffer": dict(make=_vector_buffer),
    "Rope": dict(make=lambda: make.rope(_design())),
    "QkNorm": dict(make=lambda: make.qk_norm(_design(block=dict(qk_norm=dict(span="head"))))),
    "Sampler": dict(make=lambda: make.sampler(_design())),
    "Residual": dict(make=lambda: make.residual(_design()), assume=_sums_in_order, method="induction 1",
                     others=_RESIDUAL),
    "RmsNorm": dict(make=lambda: make.rmsnorm(_design())),
    "MacArray": dict(make=lambda: make.mac_array(_design())),
    "GridTile": dict(make=lambda: array_grid.GridTile(make.grid_params(_design(columns=4, tile_beats=2)))),
    "GridRow": dict(make=lambda: array_grid.GridRow(make.grid_params(_design()), 2)),
    "GridSum": dict(make=lambda: array_grid.GridSum(make.array_params(_design()).result_layout, 2, "grid")),
    "ArrayGrid": dict(make=lambda: make.array_grid(_design(), 2, 2)),
    "RomTile": dict(make=lambda: rom_grid.RomTile(make.rom_grid_params(_design(), 4))),
    "Attention": dict(make=lambda: make.attention(_design()), assume=_answers_follow_requests, unproved=("o",),
                      method="bounded 16"),
}


def _proof(name, make, assume=None, unproved=(), method="pdr", abstract=(), others=None):
    unit = make()
    unit._MustUse__used = True      # only its signature is looked at
    ports = [port for port, _ in streams(unit, Out) if port not in unproved]
    breaks = {f"{port}_{what}": Break(watched, "return offered", f'return spoiled(h, offered, "{what}")')
              for port in ports
              for what in ("withdrawn", "changed")}
    return Proof(f"{name}'s streams", "", lambda: _harness(make, assume, unproved), method,
                 breaks | (others or {}), depth=40,
                 abstract=abstract)


PROOFS = [_proof(name, **unit) for name, unit in _UNITS.items()]
