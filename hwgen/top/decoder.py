"""The decoder: every engine, and the wires between them."""
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.layouts import adapter_layout, command_layout, kv_answer_layout, kv_command_layout, kv_fault_layout, outcome_layout
from ..lib.skid import Skid, SkidRegister, cut
from ..lib.steps import matrices, phase_shape
from ..lib.verilog import shared
from ..models.wires import matrix_name
from ..params.block import Norm, Project
from ..params.phases import EVENTS, member
from ..params.stream import FINAL_NORM, HEAD
from ..units.adapters import AdaptedFeeder, AdapterSums, AdapterTiles
from ..units.admission import Admission
from ..units.attention import Attention
from ..units.convert import Convert
from ..units.counters import Counters
from ..units.dispatcher import Dispatcher
from ..units.feeder import Feeder
from ..units.kv_cache import KvCache, KvWriter
from ..units.mac_array import MacArray
from ..units.qk_norm import QkNorm
from ..units.residual import Residual
from ..units.rmsnorm import RmsNorm
from ..units.rope import Rope
from ..units.sampler import Sampler
from ..units.swiglu import SwiGlu
from ..units.vector_buffer import VectorBuffer
from ..units.wired import Wired
from ..units.weights import RomSource, beat_layout, request_layout
from .alternating import AlternatingSequencer
from .sequencer import Sequencer

__all__ = ["Decoder"]


class Decoder(wiring.Component):
    """A transformer that runs one model and nothing else.

    A pass: entries come in on ``command``; when ``last`` is there all of them go through every layer, and ``outcome`` returns one token
    per entry that wanted output. Entries that are wrong are left out, and answered with an error (docs/admission.md). Assembly only: what the engines compute, and
    how long they take, is theirs (docs/architecture.md).

    Parameters
    ----------
    design : Design
    rom_file : str      memory image of the weights, for source "rom" and what "wired" leaves of it
    wires : dict        for source "wired": {(name, layer): FixedMatrix} (`hwgen.models.wires.fixed_matrices`)

    Members
    -------
    command             In(stream)     entries of a pass (`command_layout`)
    outcome             Out(stream)    results (`outcome_layout`)
    kv_command          In(stream)     between passes: fork, truncate or free a slot (`kv_command_layout`) ...
    kv_answer           Out(stream)    ... and whether that was done (`kv_answer_layout`)
    weight_req          Out(stream)    only with source "stream": beats wanted, {address, count, stride}
    weight_beats        In(stream)     only with source "stream": the beats, in the order asked for
    inv_temperature     In(16)         only with sampler "gumbel": 1 / temperature in Q8.8, 0 for greedy
    seed                In(32)         only with sampler "gumbel"
    model_id            Out(32)        which weights the latest pass read, from their header; 0 before
    phase, layer        Out            where the pass is (`hwgen.params.phases.phases`)
    counter_address     In             selects a counter (`hwgen.params.phases.EVENTS`, by number) ...
    counter_data        Out(32)        ... read one cycle later; counters restart with the first entry of a pass
    signature_address   In             layer * T + row; rows are the entries that were not left out ...
    signature_data      Out(32)        ... the CRC-32 of that row's residual after that layer, one cycle later
    adapter             In(stream)     only with adapters: beats of one that is loaded (`adapter_layout`), between passes
    kv_corrected        Out(32)        only with kv_ecc: rows of the KV memory in which an error was corrected, since reset
    kv_failed           Out(32)        only with kv_ecc: those in which an error could not be corrected ...
    kv_fault            Out            only with kv_ecc: ... and where the first of them was (`kv_fault_layout`)
    """

    def __init__(self, design, *, rom_file=None, wires=None):
        if design.hw.wired and wires is None:
            raise ValueError("Matrices must be given to a machine in which they are logic")
        self._design, self._rom_file, self._wires = design, rom_file, wires
        members = {
            "command": In(stream.Signature(command_layout(design))),
            "outcome": Out(stream.Signature(outcome_layout(design))),
            "kv_command": In(stream.Signature(kv_command_layout(design))), "kv_answer": Out(stream.Signature(kv_answer_layout())),
            "phase": Out(phase_shape(design.block)), "layer": Out(range(design.layers)), "model_id": Out(32),
            "counter_address": In(range(len(EVENTS))), "counter_data": Out(32),
            "signature_address": In(range(design.layers * design.hw.entries)), "signature_data": Out(32),
        }
        if design.hw.source == "stream":
            members |= {"weight_req": Out(stream.Signature(request_layout(design))),
                        "weight_beats": In(stream.Signature(unsigned(beat_layout(design).size)))}
        if design.hw.sampler == "gumbel":
            members |= {"inv_temperature": In(16), "seed": In(32)}
        if design.hw.adapters:
            members |= {"adapter": In(stream.Signature(adapter_layout(design)))}
        if design.hw.kv_ecc:
            members |= {"kv_corrected": Out(32), "kv_failed": Out(32), "kv_fault": Out(kv_fault_layout(design))}
        super().__init__(members)

    @property
    def design(self):
        return self._design

    def elaborate(self, platform):
        m = Module()
        design, hw, block = self._design, self._design.hw, self._design.block
        heads, PhaseShape = design.qkv_heads, phase_shape(block)

        # Where two half-batches alternate, an engine sees one of them at a time, and its rows are those of that; but each has its residual.
        alternating, part = hw.halves == 2, design.half_batch()
        rows = part.hw.entries
        m.submodules.admission = admission = Admission(design)
        m.submodules.sequencer = seq = (AlternatingSequencer if alternating else Sequencer)(design)
        m.submodules.dispatcher = dispatcher = Dispatcher(design)
        m.submodules.array = array = Wired(part, {matrix_name(*key): matrix for key, matrix in self._wires.items()}) if hw.wired else MacArray(part)
        m.submodules.feeder = feeder = (AdaptedFeeder if hw.adapters else Feeder)(part)
        biased = block.biased(*block.converted)
        m.submodules.convert = convert = Convert(part, banks=hw.halves if biased else 1)
        residuals = [Residual(part) for _ in range(hw.halves)]
        for name, residual in zip(("residual", "residual_1"), residuals):
            m.submodules[name] = residual
        # where sums are normed before they are added
        sums = [Residual(part, sums=True) for _ in range(hw.halves)] if block.post_norms else []
        for name, unit in zip(("sums", "sums_1"), sums):
            m.submodules[name] = unit
        adders = sums or residuals          # what takes the sums of `Block.added`
        m.submodules.rmsnorm = rmsnorm = RmsNorm(part)
        if block.qk_norm:
            m.submodules.qk_norm = qk_norm = QkNorm(part, banks=hw.halves)
        m.submodules.rope = rope = Rope(design)
        m.submodules.swiglu = swiglu = SwiGlu(part)
        m.submodules.kv_cache = kv = KvCache(design)
        m.submodules.kv_writer = kv_writer = KvWriter(part)
        m.submodules.attention = attention = Attention(part)
        m.submodules.sampler = sampler = Sampler(part)
        commanded, norm_half = (seq.half, seq.norm_half) if alternating else (Const(0), Const(0))

        def steady(value, name):
            """A value of the phase, a cycle later, which is before the phase's first data come and not after its last have gone: so what chooses
            the way of data is a register."""
            signal = Signal.like(Value.cast(value), name=name)
            m.d.sync += signal.eq(value)
            return signal

        half = steady(commanded, "half") if alternating else commanded

        def within(entry, half):
            """Row of the pass -> row of its half-batch."""
            return Mux(half, entry - rows, entry) if alternating else entry

        def whole(row, half):
            """Row of a half-batch -> row of the pass."""
            return row + Mux(half, rows, 0) if alternating else row

        act, op = design.recipe.activation_format, feeder.o.p.meta.shape()

        def buffer(name, **shape):
            """A vector buffer; those of activations are one module where their shapes are the same."""
            made = VectorBuffer(write_lanes=shape.pop("write_lanes", hw.vector_lanes), **shape)
            m.submodules[name] = shared(made, made.module_name) if shape["meta"] is op else made
            return made

        xa = buffer("xa", rows=hw.entries, length=design.hidden, read_lanes=hw.lanes, fmt=act, meta=op)
        xo = buffer("xo", rows=rows, length=design.attn, read_lanes=hw.lanes, fmt=act, meta=op)
        xh = buffer("xh", rows=rows, length=design.ff, write_lanes=hw.vector_lanes // (2 if block.gated else 1), read_lanes=hw.lanes, fmt=act, meta=op)
        qkv = buffer("qkv", rows=rows * heads, length=design.head, read_lanes=hw.attention_lanes, fmt=design.recipe.kv_format,
                     meta=attention.q_r.p.meta.shape())

        def phase_is(*steps):
            return seq.phase.as_value().matches(*(member(PhaseShape, step).value for step in steps))

        # -- commands and results of the pass
        for ours, theirs in ((self.command, admission.command), (self.kv_command, admission.kv_command)):
            connect(m, flipped(ours), theirs)
        for theirs, ours in ((admission.outcome, self.outcome), (admission.kv_answer, self.kv_answer)):
            connect(m, theirs, flipped(ours))
        connect(m, admission.entry, seq.command)
        m.submodules.result_register = result = SkidRegister(seq.outcome.payload.shape())
        connect(m, seq.outcome, result.i)
        connect(m, result.o, admission.result)
        connect(m, admission.ask, kv.ask)
        m.d.comb += admission.error.eq(kv.error)
        if hw.kv_ecc:
            m.d.comb += [self.kv_corrected.eq(kv.corrected), self.kv_failed.eq(kv.failed), self.kv_fault.eq(kv.fault)]
        m.d.comb += [self.phase.eq(seq.phase), self.layer.eq(seq.layer)]
        connect(m, seq.dispatch, dispatcher.cmd)
        connect(m, seq.angle, rope.angle)
        connect(m, seq.norm, rmsnorm.cmd)
        connect(m, seq.kv_write, kv_writer.cmd)
        connect(m, seq.attend, attention.cmd)
        connect(m, seq.feed, feeder.cmd)
        connect(m, seq.convert, convert.cmd)
        _to_one(m, seq.add, [residual.cmd for residual in residuals], norm_half if sums else commanded)
        if sums:
            _to_one(m, seq.sum, [unit.cmd for unit in sums], commanded)
            m.d.comb += seq.sum_done.eq(Cat(unit.done for unit in sums).any())
        connect(m, seq.sample, sampler.cmd)
        connect(m, sampler.o, seq.sampled)
        m.d.comb += [seq.embed_done.eq(Cat(r.embed_done for r in residuals).any()), seq.angle_done.eq(rope.angle_done), seq.norm_done.eq(rmsnorm.done),
                     seq.kv_write_done.eq(kv_writer.done), seq.attend_done.eq(attention.done), seq.add_done.eq(Cat(r.done for r in residuals).any()),
                     seq.sample_done.eq(sampler.done)]
        heads_out = qk_norm.o if block.qk_norm and block.qk_norm.after_rotary else rope.o
        m.d.sync += [seq.qkv_done.eq(qkv.w.valid & qkv.w.ready & heads_out.p.last),
                     seq.swiglu_done.eq(xh.w.valid & xh.w.ready & swiglu.o.p.last)]
        exps = seq.exps
        if hw.wired:
            exps = self._select(m, seq, array, phase_is)
        m.d.comb += [seq.exps_in.eq(dispatcher.exps), convert.exps.eq(exps)]
        # each in the record of the norm before it
        first, second = (exps[block.record_of(step.matrices[0])[1]] for step in block.added)
        m.d.comb += [adder.exp.eq(Mux(phase_is(block.from_heads), first, second)) for adder in adders]
        m.d.comb += sampler.exp.eq(exps[0])

        if alternating:
            m.d.comb += seq.convert_idle.eq(convert.cmd.ready)

        # -- weights
        if hw.source != "stream":
            m.submodules.weights = source = RomSource(design, file=self._rom_file)
            connect(m, cut(m, "request_skid", dispatcher.req), source.req)
            connect(m, source.beats, dispatcher.beats)
        else:
            connect(m, cut(m, "request_skid", dispatcher.req), flipped(self.weight_req))
            connect(m, flipped(self.weight_beats), dispatcher.beats)
        if hw.adapters:
            _, z_sums, xz = self._adapters(m, admission, seq, feeder, dispatcher.tile, array.tile)
        elif not hw.wired:
            connect(m, dispatcher.tile, array.tile)
        connect(m, dispatcher.gain, rmsnorm.gain)
        m.d.comb += [residual.embed_exp.eq(dispatcher.embed_exp) for residual in residuals]
        # (not where the exponent is of the granule: it would not wait with it)
        embed = dispatcher.embed if design.scaled or design.model.learned_positions else cut(m, "embed_skid", dispatcher.embed)
        _to_one(m, embed, [residual.embed for residual in residuals], embed.p.entry >= rows)
        if alternating:
            m.d.comb += [residual.embed.p.entry.eq(within(embed.p.entry, k)) for k, residual in enumerate(residuals)]
        m.d.comb += self.model_id.eq(dispatcher.model_id)
        if "vector" in dispatcher.signature.members:
            _vectors(m, design, dispatcher, convert, adders, qk_norm if block.qk_norm else None, rmsnorm)

        # -- activations: the feeder asks the buffer that holds the matrix's input, and its answers go to the array
        requests = cut(m, "feeder_skid", feeder.o)
        m.submodules.operation_skid = operations = Skid(array.x.payload.shape())
        connect(m, operations.o, array.x)
        for name, buffer, steps in (("xa", xa, (*block.converted, HEAD)), ("xo", xo, (block.from_heads,)), ("xh", xh, (block.from_ff,))):
            selected = Signal(init=buffer is xa, name=f"{name}_selected")
            with m.If(seq.feed.valid & seq.feed.ready):
                m.d.sync += selected.eq(seq.feed.p.matrix.as_value().matches(*(member(matrices(block), step).value for step in steps)))
            row = whole(requests.p.row, half) if buffer is xa else requests.p.row
            m.d.comb += [buffer.r.valid.eq(requests.valid & selected), buffer.r.p.row.eq(row),
                         buffer.r.p.part.eq(requests.p.part), buffer.r.p.meta.eq(requests.p.meta)]
            with m.If(selected):
                m.d.comb += [requests.ready.eq(buffer.r.ready), buffer.o.ready.eq(operations.i.ready), operations.i.valid.eq(buffer.o.valid),
                             operations.i.p.codes.eq(buffer.o.p.codes), operations.i.p.exp.eq(buffer.o.p.exp)]
                m.d.comb += [operations.i.p[name].eq(buffer.o.p.meta[name]) for name in ("entry", "first", "last", "tile_end")]
                if hw.adapters:
                    m.d.comb += operations.i.p.a.eq(buffer.o.p.meta.a)
        if hw.adapters:     # beside each of them, and in step, is the one that holds A's sums
            m.d.comb += [xz.r.valid.eq(requests.valid & requests.ready), xz.r.p.row.eq(requests.p.row), xz.r.p.part.eq(requests.p.part), xz.r.p.meta.eq(requests.p.meta),
                         xz.o.ready.eq(operations.i.valid & operations.i.ready), z_sums.entry.eq(xz.o.p.meta.entry), z_sums.exp.eq(xz.o.p.exp)]
            with m.If(xz.o.p.meta.z):
                m.d.comb += [operations.i.p.codes.eq(xz.o.p.codes), operations.i.p.exp.eq(xz.o.p.exp), operations.i.p.shift.eq(z_sums.shift)]

        # -- results of the array: to the sink of the phase
        to_convert = steady(phase_is(*block.converted, block.store, block.attend), "to_convert")
        to_add = steady(phase_is(*block.added), "to_add")
        to_half = [to_add & ~half, to_add & half] if alternating else [to_add]
        for sink, selected in ((convert.i, to_convert), *zip((adder.i for adder in adders), to_half),
                               (sampler.i, steady(phase_is(HEAD), "to_sampler"))):
            m.d.comb += [sink.valid.eq(array.o.valid & selected), sink.payload.eq(array.o.payload)]
            with m.If(selected):
                m.d.comb += array.o.ready.eq(sink.ready)

        if hw.adapters:
            of_a = array.o.p.a
            m.d.comb += [z_sums.i.valid.eq(array.o.valid & of_a), z_sums.i.payload.eq(array.o.payload)]
            with m.If(of_a):
                m.d.comb += [array.o.ready.eq(z_sums.i.ready), *(sink.valid.eq(0) for sink in (convert.i, *(adder.i for adder in adders), sampler.i))]

        # -- what convert makes of them: heads to RoPE and the qkv buffer, gates and ups to SwiGLU and xh
        gate_up = steady(phase_is(block.into_ff), "to_activation")
        c = convert.o
        if block.qk_norm is None:
            m.d.comb += [rope.i.valid.eq(c.valid & ~gate_up), swiglu.i.valid.eq(c.valid & gate_up),
                         c.ready.eq(Mux(gate_up, swiglu.i.ready, rope.i.ready))]
            m.d.comb += [rope.i.p[name].eq(c.p[name]) for name in ("x", "head", "part", "last")]
            m.d.comb += rope.i.p.entry.eq(whole(c.p.entry, half))
            m.d.comb += [swiglu.i.p[name].eq(c.p[name]) for name in ("x", "entry", "part", "last")]
            m.d.comb += [qkv.w.valid.eq(rope.o.valid), rope.o.ready.eq(qkv.w.ready), qkv.w.p.x.eq(rope.o.p.x),
                         qkv.w.p.row.eq(within(rope.o.p.entry, half) * heads + rope.o.p.head), qkv.w.p.part.eq(rope.o.p.part)]
        else:
            fields = ("x", "head", "part", "last")
            first, second = (rope, qk_norm) if block.qk_norm.after_rotary else (qk_norm, rope)
            m.d.comb += [first.i.valid.eq(c.valid & ~gate_up), swiglu.i.valid.eq(c.valid & gate_up),
                         c.ready.eq(Mux(gate_up, swiglu.i.ready, first.i.ready)), second.i.valid.eq(first.o.valid), first.o.ready.eq(second.i.ready),
                         qkv.w.valid.eq(second.o.valid), second.o.ready.eq(qkv.w.ready), qkv.w.p.x.eq(second.o.p.x), qkv.w.p.part.eq(second.o.p.part)]
            m.d.comb += [first.i.p[name].eq(c.p[name]) for name in fields] + [second.i.p[name].eq(first.o.p[name]) for name in fields]
            m.d.comb += [swiglu.i.p[name].eq(c.p[name]) for name in ("x", "entry", "part", "last")]
            # RoPE has the angles of the whole pass
            inner, outer = (c.p.entry, within(rope.o.p.entry, half)) if second is qk_norm else (qk_norm.o.p.entry, c.p.entry)
            m.d.comb += [rope.i.p.entry.eq(whole(inner, half)), qk_norm.i.p.entry.eq(outer)]
            row = qk_norm.o.p.entry if second is qk_norm else within(rope.o.p.entry, half)
            m.d.comb += qkv.w.p.row.eq(row * heads + second.o.p.head)
            if alternating:
                m.d.comb += qk_norm.bank.eq(commanded)
        if biased and alternating:
            m.d.comb += convert.bank.eq(commanded)
        rope_of = [design.model.rope_of(layer) for layer in range(design.layers)]
        for port, of_layer in (("rope", [index or 0 for index in rope_of]), ("turn", [index is not None for index in rope_of])):
            if port in rope.signature.members:
                m.d.comb += getattr(rope, port).eq(Array(map(int, of_layer))[seq.layer])
        m.d.comb += [xh.w.valid.eq(swiglu.o.valid), swiglu.o.ready.eq(xh.w.ready), xh.w.p.x.eq(swiglu.o.p.x),
                     xh.w.p.row.eq(swiglu.o.p.entry), xh.w.p.part.eq(swiglu.o.p.part)]

        # -- norm
        # of a residual into xa; where it is one of sums, of those into the residual
        of_sums = (seq.norm_sums if alternating else phase_is(*(norm for norm in block.of(Norm) if norm.reads == "sums"))) if sums else None
        source = norm_half if of_sums is None else Cat(norm_half, of_sums) if alternating else of_sums
        _to_one(m, cut(m, "norm_skid", rmsnorm.read), [unit.read for unit in (*residuals, *sums)], source)
        m.submodules.residual_skid = granules = Skid(rmsnorm.read_i.payload.shape())
        _from_one(m, [unit.read_o for unit in (*residuals, *sums)], granules.i, source)
        connect(m, granules.o, rmsnorm.read_i)
        m.d.comb += [xa.w.valid.eq(rmsnorm.o.valid), rmsnorm.o.ready.eq(xa.w.ready), xa.w.p.x.eq(rmsnorm.o.p.x),
                     xa.w.p.row.eq(whole(rmsnorm.o.p.row, norm_half)), xa.w.p.part.eq(rmsnorm.o.p.part)]
        if sums:
            with m.If(of_sums):
                m.d.comb += xa.w.valid.eq(0)
                for k, residual in enumerate(residuals):
                    m.d.comb += [residual.i.p[name].eq(rmsnorm.o.p[name]) for name in ("x", "row", "part")]
                    with m.If(norm_half == k):
                        m.d.comb += [residual.i.valid.eq(rmsnorm.o.valid), rmsnorm.o.ready.eq(residual.i.ready)]

        # -- attention
        writing = seq.writing if alternating else steady(phase_is(block.store), "writing")
        for user, selected in ((kv_writer.r, writing), (cut(m, "query_skid", attention.q_r), ~writing)):
            with m.If(selected):
                m.d.comb += [qkv.r.valid.eq(user.valid), user.ready.eq(qkv.r.ready), qkv.r.p.row.eq(user.p.row),
                             qkv.r.p.part.eq(user.p.part), qkv.r.p.meta.eq(user.p.meta)]
        for user, selected in ((kv_writer.i, writing), (attention.q_i, ~writing)):
            m.d.comb += [user.valid.eq(qkv.o.valid & selected), user.payload.eq(qkv.o.payload)]
            with m.If(selected):
                m.d.comb += qkv.o.ready.eq(user.ready)
        connect(m, kv_writer.write, kv.write)
        connect(m, attention.k_req, kv.k_req)
        connect(m, kv.k_o, attention.k_o)
        connect(m, attention.v_req, kv.v_req)
        connect(m, kv.v_o, attention.v_o)
        m.d.comb += [xo.w.valid.eq(attention.o.valid), attention.o.ready.eq(xo.w.ready), xo.w.p.x.eq(attention.o.p.x),
                     xo.w.p.row.eq(attention.o.p.entry), xo.w.p.part.eq(attention.o.p.part)]

        # -- sampler's configuration
        if hw.sampler == "gumbel":
            m.d.comb += [sampler.inv_temperature.eq(self.inv_temperature), sampler.seed.eq(self.seed), sampler.key.eq(seq.keys)]

        # -- what a person asks for: signatures and counters
        m.submodules.signatures = signatures = memory.Memory(shape=unsigned(32), depth=design.layers * hw.entries, init=[])
        write, read = signatures.write_port(), signatures.read_port()
        m.d.comb += [residual.sig.ready.eq(1) for residual in residuals]
        # of the half whose down projection has the array, or whose sums are normed
        sig_half, sig_layer = (norm_half, seq.norm_layer) if sums and alternating else (half, seq.layer)
        m.d.comb += [write.en.eq(residuals[0].sig.valid), write.data.eq(residuals[0].sig.p.crc),
                     write.addr.eq(sig_layer * hw.entries + residuals[0].sig.p.entry)]
        for residual in residuals[1:]:
            with m.If(sig_half):
                m.d.comb += [write.en.eq(residual.sig.valid), write.data.eq(residual.sig.p.crc),
                             write.addr.eq(sig_layer * hw.entries + whole(residual.sig.p.entry, sig_half))]
        m.d.comb += [read.addr.eq(self.signature_address), self.signature_data.eq(read.data)]
        m.submodules.counters = counters = Counters(EVENTS)
        m.d.comb += counters.clear.eq(admission.opens)
        events = {"cycles": admission.opened, "mac_busy": array.busy, "mac_starved": Const(0) if hw.wired else array.starved, "mac_blocked": array.blocked,
                  "norm": seq.norming if alternating else phase_is(*block.of(Norm), FINAL_NORM),
                  "attention": seq.attending if alternating else phase_is(block.store, block.attend), "embed": phase_is("embed"),
                  "weight_beats": dispatcher.beats.valid & dispatcher.beats.ready,
                  "weight_waits": dispatcher.beats.ready & ~dispatcher.beats.valid,
                  "saturated": _saturated(m, residuals, sums, design)}
        m.d.comb += [counters.events[name].eq(events[name]) for name in EVENTS]
        m.d.comb += [counters.address.eq(self.counter_address), self.counter_data.eq(counters.data)]
        return m

    def _select(self, m, seq, array, phase_is):
        """Tell a unit of wired matrices which one is wanted. Returns the exponents of its record, which are logic too: records come without a pause,
        and the dispatcher has the next one's before this one's matrices are done."""
        design, block = self._design, self._design.block
        exps = Signal(seq.exps.shape(), name="exps")
        numbers = {key: number for number, key in enumerate(self._wires)}
        projects = [(project, block.exponents(block.record_of(project.matrices[0])[0])) for project in block.of(Project)]
        for project, names in projects:
            with m.If(phase_is(project)):
                m.d.comb += array.matrix.eq(Array(numbers[project.name, layer] for layer in range(design.layers))[seq.layer])
                for index, name in enumerate(names):
                    m.d.comb += exps[index].eq(Array(self._wires[self._project_of(name), layer].exponents[name] for layer in range(design.layers))[seq.layer])
        with m.If(phase_is(HEAD)):
            m.d.comb += [array.matrix.eq(numbers[HEAD, None]), exps[0].eq(self._wires[HEAD, None].exponents[HEAD])]
        return exps

    def _project_of(self, name):
        return next(project.name for project in self._design.block.of(Project) if name in project.matrices)


    def _adapters(self, m, admission, seq, feeder, base, tile):
        """Adapters, between the base's tiles and the array's: their tiles, A's sums, and the buffer of these."""
        design, hw = self._design, self._design.hw
        m.submodules.adapters = tiles = AdapterTiles(design)
        m.submodules.adapter_sums = sums = AdapterSums(design)
        count = max(design.adapter_matmuls(project)[1].cols for project in design.block.of(Project))
        xz = VectorBuffer(rows=hw.entries, length=count, write_lanes=hw.vector_lanes, read_lanes=hw.lanes, fmt=design.recipe.activation_format,
                          meta=feeder.o.p.meta.shape(), least=True)
        m.submodules.xz = xz
        connect(m, flipped(self.adapter), tiles.load)
        connect(m, base, tiles.base)
        connect(m, tiles.tile, tile)
        start = seq.feed.valid & seq.feed.ready
        m.d.comb += [tiles.clear.eq(admission.opens), tiles.enter.eq(admission.entry.valid & admission.entry.ready & ~admission.entry.p.none),
                     tiles.number.eq(admission.entry.p.adapter), tiles.layer.eq(seq.layer), feeder.runs.eq(tiles.runs), feeder.ready.eq(sums.ready),
                     sums.runs.eq(tiles.runs), sums.exponents.eq(tiles.exponents), sums.o.ready.eq(1)]
        for unit in (tiles, sums):
            m.d.comb += [unit.start.eq(start), unit.matrix.eq(seq.feed.p.matrix)]
        m.d.comb += [xz.w.valid.eq(sums.o.valid & (sums.o.p.part < count // hw.vector_lanes)),
                     *(xz.w.p[name].eq(sums.o.p[name]) for name in ("x", "row", "part", "least"))]
        return tiles, sums, xz


def _saturated(m, residuals, sums, design):
    """A granule had a number that was clipped, a cycle for each."""
    found = Cat(unit.saturated for unit in (*residuals, *sums)).any()      # never of two in a cycle ...
    if not sums or len(sums) == 1:
        return found
    # ... but for the sums of one half-batch and what the norm adds to the other: these wait
    waiting = Signal(range(design.hw.entries * design.hidden // design.hw.vector_lanes + 1))
    both = Cat(unit.saturated for unit in residuals).any() & Cat(unit.saturated for unit in sums).any()
    m.d.sync += waiting.eq(waiting + both - (~found & (waiting != 0)))
    return found | (waiting != 0)


def _vectors(m, design, dispatcher, convert, adders, qk_norm, rmsnorm):
    """The vectors of records go to the units that use them."""
    block, vector = design.block, dispatcher.vector
    m.d.comb += vector.ready.eq(1)
    records = [(block.vectors(norm.name), design.stream[norm.name, 0]) for norm in block.of(Norm)]
    records.append((block.final_vectors, design.stream[FINAL_NORM]))
    for number, (vectors, record) in enumerate(records):
        start = 0
        for of, (name, count) in zip(vectors, record.vectors):
            here, part = Signal(name=f"here_{name}"), Signal(range(max(2, count)), name=f"part_{name}")
            m.d.comb += [here.eq(vector.valid & (vector.p.norm == number) & (vector.p.part >= start) & (vector.p.part < start + count)),
                         part.eq(vector.p.part - start)]
            if of.matrix:
                ports, fields = [qk_norm.gain], {"key": int(of.matrix == block.keys.name)}
            elif of.project in [step.name for step in block.converted]:
                ports, fields = [convert.bias], {block.into_ff.name: int(of.project == block.into_ff.name)}
            elif of.project:
                ports, fields = [adder.bias for adder in adders], {block.from_ff.name: int(of.project == block.from_ff.name)}
            else:
                ports, fields = [rmsnorm.bias], {}
            for k, port in enumerate(ports):
                with m.If(here & (vector.p.half == k if len(ports) > 1 else 1)):
                    m.d.comb += [port.valid.eq(1), port.p.x.eq(vector.p.x), port.p.part.eq(part)]
                    m.d.comb += [port.p[field].eq(value) for field, value in fields.items()]
                    if "bank" in dict(port.p.shape()):
                        m.d.comb += port.p.bank.eq(vector.p.half)
            start += count


def _to_one(m, source, sinks, number):
    """Items of a stream to one of several sinks. (Their payloads may differ in fields that the caller overrides.)"""
    if len(sinks) == 1:
        connect(m, source, sinks[0])
        return
    for k, sink in enumerate(sinks):
        m.d.comb += [sink.valid.eq(source.valid & (number == k)), *(sink.p[name].eq(source.p[name]) for name, _ in sink.p.shape())]
        with m.If(number == k):
            m.d.comb += source.ready.eq(sink.ready)


def _from_one(m, sources, sink, number):
    """Items of one of several streams to a sink."""
    if len(sources) == 1:
        connect(m, sources[0], sink)
        return
    for k, source in enumerate(sources):
        with m.If(number == k):
            m.d.comb += [sink.valid.eq(source.valid), sink.payload.eq(source.payload), source.ready.eq(sink.ready)]
