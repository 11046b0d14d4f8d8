"""The paths of data between the engines of a decoder: each function here connects one of them."""
from amaranth.hdl import Array, Cat, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import connect

from ..lib.skid import Skid, cut
from ..lib.steps import matrices
from ..params.block import Norm
from ..params.phases import member
from ..params.stream import FINAL_NORM, HEAD

__all__ = ["connect_array_input", "connect_array_results", "connect_attention", "connect_commands", "connect_converted",
           "connect_embedding", "connect_gains", "connect_norm", "connect_vectors"]


def connect_commands(m, engines):
    """The sequencer's commands to the engines, and what it is told when they have done them."""
    seq, residuals, sums = engines.sequencer, engines.residuals, engines.sums
    connect(m, seq.dispatch, engines.dispatcher.cmd)
    connect(m, seq.angle, engines.rope.angle)
    connect(m, seq.norm, engines.rmsnorm.cmd)
    connect(m, seq.kv_write, engines.kv_writer.cmd)
    connect(m, seq.attend, engines.attention.cmd)
    connect(m, seq.feed, engines.feeder.cmd)
    connect(m, seq.convert, engines.convert.cmd)
    _to_one(m, seq.add, [residual.cmd for residual in residuals], engines.norm_half if sums else engines.commanded)
    if sums:
        _to_one(m, seq.sum, [unit.cmd for unit in sums], engines.commanded)
        m.d.comb += seq.sum_done.eq(Cat(unit.done for unit in sums).any())
    connect(m, seq.sample, engines.sampler.cmd)
    connect(m, engines.sampler.o, seq.sampled)
    m.d.comb += [seq.embed_done.eq(Cat(residual.embed_done for residual in residuals).any()),
                 seq.angle_done.eq(engines.rope.angle_done), seq.norm_done.eq(engines.rmsnorm.done),
                 seq.kv_write_done.eq(engines.kv_writer.done), seq.attend_done.eq(engines.attention.done),
                 seq.add_done.eq(Cat(residual.done for residual in residuals).any()),
                 seq.sample_done.eq(engines.sampler.done)]
    qk_norm = engines.design.block.qk_norm
    heads = engines.qk_norm.o if qk_norm and qk_norm.after_rotary else engines.rope.o
    qkv, xh = engines.qkv.w, engines.xh.w
    m.d.sync += [seq.qkv_done.eq(qkv.valid & qkv.ready & heads.p.last),
                 seq.swiglu_done.eq(xh.valid & xh.ready & engines.swiglu.o.p.last)]


def connect_embedding(m, engines):
    """Rows of the embedding table, with their exponent, to the residual of their half-batch."""
    design, dispatcher, residuals = engines.design, engines.dispatcher, engines.residuals
    m.d.comb += [residual.embed_exp.eq(dispatcher.embed_exp) for residual in residuals]
    embed = dispatcher.embed
    # with one of these the exponent is of the granule: it would not wait with it
    if not (design.scaled or design.model.learned_positions):
        embed = cut(m, "embed_skid", embed)
    _to_one(m, embed, [residual.embed for residual in residuals], embed.p.entry >= engines.rows)
    if engines.alternating:
        for half, residual in enumerate(residuals):
            m.d.comb += residual.embed.p.entry.eq(engines.within(embed.p.entry, half))


def connect_gains(m, engines):
    """The gains of records to the norm.

    Where matrices are logic no tiles keep one record from the next, whose vectors would take the place of those that
    are still needed: a record waits for the phase of its norm.
    """
    seq, gain, rmsnorm = engines.sequencer, engines.dispatcher.gain, engines.rmsnorm
    if not engines.waits_for_vectors:
        connect(m, gain, rmsnorm.gain)
        return
    before = Signal.like(seq.phase, name="phase_before")
    given, due = Signal(name="gains_given"), Signal(name="gains_due")
    steady = seq.phase == before
    m.d.sync += [before.eq(seq.phase), given.eq(steady & (given | rmsnorm.gains_ready))]
    m.d.comb += [due.eq(engines.phase_is(*engines.design.block.of(Norm), FINAL_NORM) & steady & ~given),
                 rmsnorm.gain.valid.eq(gain.valid & due), rmsnorm.gain.payload.eq(gain.payload),
                 gain.ready.eq(rmsnorm.gain.ready & due)]


def connect_vectors(m, engines):
    """The vectors of records to the units that use them."""
    design, block, vector = engines.design, engines.design.block, engines.dispatcher.vector
    m.d.comb += vector.ready.eq(1)
    records = [(block.vectors(norm.name), design.stream[norm.name, 0]) for norm in block.of(Norm)]
    records.append((block.final_vectors, design.stream[FINAL_NORM]))
    for number, (vectors, record) in enumerate(records):
        start = 0
        for of, (name, count) in zip(vectors, record.vectors):
            here, part = Signal(name=f"here_{name}"), Signal(range(max(2, count)), name=f"part_{name}")
            m.d.comb += [here.eq(vector.valid & (vector.p.norm == number)
                                 & (vector.p.part >= start) & (vector.p.part < start + count)),
                         part.eq(vector.p.part - start)]
            ports, fields = _users(engines, of)
            for k, port in enumerate(ports):
                with m.If(here & (vector.p.half == k if len(ports) > 1 else 1)):
                    m.d.comb += [port.valid.eq(1), port.p.x.eq(vector.p.x), port.p.part.eq(part)]
                    m.d.comb += [port.p[field].eq(value) for field, value in fields.items()]
                    if "bank" in dict(port.p.shape()):
                        m.d.comb += port.p.bank.eq(vector.p.half)
            start += count


def _users(engines, vector):
    """(Ports that a vector of a record goes to, {field of them: what it says of that vector})."""
    block = engines.design.block
    if vector.matrix:
        return [engines.qk_norm.gain], {"key": int(vector.matrix == block.keys.name)}
    if vector.project in [step.name for step in block.converted]:
        return [engines.convert.bias], {block.into_ff.name: int(vector.project == block.into_ff.name)}
    if vector.project:
        return [adder.bias for adder in engines.adders], {block.from_ff.name: int(vector.project == block.from_ff.name)}
    return [engines.rmsnorm.bias], {}


def connect_array_input(m, engines, adapters=None):
    """Activations: the feeder asks the buffer that holds the matrix's input, and its answers go to the array.

    Where there are ``adapters``, the buffer of A's sums is beside each of them, and in step.
    """
    seq, block = engines.sequencer, engines.design.block
    requests = cut(m, "feeder_skid", engines.feeder.o)
    shape = engines.multipliers[0].x.payload.shape()
    if adapters and engines.wired:      # which of the two an operation is for
        shape = StructLayout({name: field.shape for name, field in shape} | {"z": 1})
    m.submodules.operation_skid = operations = Skid(shape)
    _connect_operations(m, engines, operations.o)
    out = operations.i
    for name, buffer, steps in (("xa", engines.xa, (*block.converted, HEAD)), ("xo", engines.xo, (block.from_heads,)),
                                ("xh", engines.xh, (block.from_ff,))):
        selected = Signal(init=buffer is engines.xa, name=f"{name}_selected")
        with m.If(seq.feed.valid & seq.feed.ready):
            numbers = (member(matrices(block), step).value for step in steps)
            m.d.sync += selected.eq(seq.feed.p.matrix.as_value().matches(*numbers))
        row = engines.whole(requests.p.row, engines.half) if buffer is engines.xa else requests.p.row
        m.d.comb += [buffer.r.valid.eq(requests.valid & selected), buffer.r.p.row.eq(row),
                     buffer.r.p.part.eq(requests.p.part), buffer.r.p.meta.eq(requests.p.meta)]
        with m.If(selected):
            m.d.comb += [requests.ready.eq(buffer.r.ready), buffer.o.ready.eq(out.ready), out.valid.eq(buffer.o.valid),
                         out.p.codes.eq(buffer.o.p.codes), out.p.exp.eq(buffer.o.p.exp)]
            m.d.comb += [out.p[field].eq(buffer.o.p.meta[field]) for field in ("entry", "first", "last", "tile_end")]
            if adapters:
                m.d.comb += out.p.a.eq(buffer.o.p.meta.a)
                if engines.wired:
                    m.d.comb += out.p.z.eq(buffer.o.p.meta.z)
    if adapters:
        xz, sums = adapters.buffer, adapters.sums
        m.d.comb += [xz.r.valid.eq(requests.valid & requests.ready), xz.r.p.row.eq(requests.p.row),
                     xz.r.p.part.eq(requests.p.part), xz.r.p.meta.eq(requests.p.meta),
                     xz.o.ready.eq(out.valid & out.ready), sums.entry.eq(xz.o.p.meta.entry), sums.exp.eq(xz.o.p.exp)]
        with m.If(xz.o.p.meta.z):
            m.d.comb += [out.p.codes.eq(xz.o.p.codes), out.p.exp.eq(xz.o.p.exp), out.p.shift.eq(sums.shift)]


def _connect_operations(m, engines, operations):
    """Operations to the array, or to what has the phase's matrix as logic, but for those of adapters. To that one when
    all vectors of the record are in, which come without a gap. (Tiles come behind the vectors.)"""
    wired, to_array = engines.wired, operations
    if engines.array and wired:
        to_array, to_wired = (stream.Signature(unit.x.payload.shape()).create(path=(f"to_{name}",))
                              for name, unit in (("array", engines.array), ("wired", wired)))
        of_wired = engines.steady(engines.phase_is(*engines.wired_steps), "of_wired")
        if engines.design.hw.adapters:
            of_wired &= ~(operations.p.a | operations.p.z)
        _to_one(m, operations, [to_array, to_wired], of_wired)
    else:
        to_wired = operations
    if engines.array:
        connect(m, to_array, engines.array.x)
    if engines.waits_for_vectors:
        here = ~engines.dispatcher.vector.valid
        m.d.comb += [wired.x.valid.eq(to_wired.valid & here), wired.x.payload.eq(to_wired.payload),
                     to_wired.ready.eq(wired.x.ready & here)]
    elif wired:
        connect(m, to_wired, wired.x)


def _results(m, engines, adapters):
    """Results of the array, or of what has the phase's matrix as logic, with what adapters add to them. Padding behind
    the last head may come while these are stored."""
    if len(engines.multipliers) == 1:
        return engines.multipliers[0].o
    block, steps = engines.design.block, engines.wired_steps
    late = (block.store, block.attend) if block.into_heads in steps else ()
    results = stream.Signature(engines.array.o.payload.shape()).create(path=("results",))
    from_wired = engines.steady(engines.phase_is(*steps, *late), "from_wired")
    if not adapters:
        _from_one(m, [unit.o for unit in engines.multipliers], results, from_wired)
        return results
    array, added = engines.array.o, adapters.added
    _from_one(m, [array, added.o], results, from_wired)
    with m.If(from_wired):
        m.d.comb += [added.more.valid.eq(array.valid & ~array.p.a), added.more.payload.eq(array.payload),
                     array.ready.eq(added.more.ready)]
    with m.Elif(array.p.a):
        m.d.comb += results.valid.eq(0)
    return results


def connect_array_results(m, engines, adapters=None):
    """Results of the array to the sink of the phase; those of A to their own."""
    block, o, half = engines.design.block, _results(m, engines, adapters), engines.half
    to_convert = engines.steady(engines.phase_is(*block.converted, block.store, block.attend), "to_convert")
    to_add = engines.steady(engines.phase_is(*block.added), "to_add")
    to_half = [to_add & ~half, to_add & half] if engines.alternating else [to_add]
    to_sampler = engines.steady(engines.phase_is(HEAD), "to_sampler")
    sinks = [(engines.convert.i, to_convert), *zip((adder.i for adder in engines.adders), to_half),
             (engines.sampler.i, to_sampler)]
    for sink, selected in sinks:
        m.d.comb += [sink.valid.eq(o.valid & selected), sink.payload.eq(o.payload)]
        with m.If(selected):
            m.d.comb += o.ready.eq(sink.ready)
    if adapters:
        sums, array = adapters.sums.i, engines.array.o
        m.d.comb += [sums.valid.eq(array.valid & array.p.a), sums.payload.eq(array.payload)]
        with m.If(array.p.a):
            m.d.comb += [array.ready.eq(sums.ready), *(sink.valid.eq(0) for sink, _ in sinks if o is array)]


def connect_converted(m, engines):
    """What convert makes of them: heads to RoPE and the qkv buffer, gates and ups to SwiGLU and xh."""
    design, block, rope, swiglu, xh = engines.design, engines.design.block, engines.rope, engines.swiglu, engines.xh
    to_activation = engines.steady(engines.phase_is(block.into_ff), "to_activation")
    if block.qk_norm is None:
        _connect_rope(m, engines, to_activation)
    else:
        _connect_rope_and_qk_norm(m, engines, to_activation)
        if engines.alternating:
            m.d.comb += engines.qk_norm.bank.eq(engines.commanded)
    if engines.biased and engines.alternating:
        m.d.comb += engines.convert.bank.eq(engines.commanded)
    rope_of = [design.model.rope_of(layer) for layer in range(design.layers)]
    ports = {"rope": [index or 0 for index in rope_of], "turn": [index is not None for index in rope_of]}
    for port, of_layer in ports.items():
        if port in rope.signature.members:
            m.d.comb += getattr(rope, port).eq(Array(map(int, of_layer))[engines.sequencer.layer])
    m.d.comb += [xh.w.valid.eq(swiglu.o.valid), swiglu.o.ready.eq(xh.w.ready), xh.w.p.x.eq(swiglu.o.p.x),
                 xh.w.p.row.eq(swiglu.o.p.entry), xh.w.p.part.eq(swiglu.o.p.part)]


def _connect_rope(m, engines, to_activation):
    """Heads go through RoPE alone."""
    c, rope, swiglu, w, half = engines.convert.o, engines.rope, engines.swiglu, engines.qkv.w, engines.half
    m.d.comb += [rope.i.valid.eq(c.valid & ~to_activation), swiglu.i.valid.eq(c.valid & to_activation),
                 c.ready.eq(Mux(to_activation, swiglu.i.ready, rope.i.ready))]
    m.d.comb += [rope.i.p[name].eq(c.p[name]) for name in ("x", "head", "part", "last")]
    m.d.comb += rope.i.p.entry.eq(engines.whole(c.p.entry, half))
    m.d.comb += [swiglu.i.p[name].eq(c.p[name]) for name in ("x", "entry", "part", "last")]
    m.d.comb += [w.valid.eq(rope.o.valid), rope.o.ready.eq(w.ready), w.p.x.eq(rope.o.p.x),
                 w.p.row.eq(engines.within(rope.o.p.entry, half) * engines.design.qkv_heads + rope.o.p.head),
                 w.p.part.eq(rope.o.p.part)]


def _connect_rope_and_qk_norm(m, engines, to_activation):
    """Heads go through RoPE and the QK norm, in the block's order. RoPE has the angles of the whole pass; rows of the
    norm are a half-batch's."""
    c, rope, qk_norm, swiglu = engines.convert.o, engines.rope, engines.qk_norm, engines.swiglu
    w, half = engines.qkv.w, engines.half
    first, second = (rope, qk_norm) if engines.design.block.qk_norm.after_rotary else (qk_norm, rope)
    m.d.comb += [first.i.valid.eq(c.valid & ~to_activation), swiglu.i.valid.eq(c.valid & to_activation),
                 c.ready.eq(Mux(to_activation, swiglu.i.ready, first.i.ready)),
                 second.i.valid.eq(first.o.valid), first.o.ready.eq(second.i.ready),
                 w.valid.eq(second.o.valid), second.o.ready.eq(w.ready),
                 w.p.x.eq(second.o.p.x), w.p.part.eq(second.o.p.part)]
    for source, sink in ((c, first.i), (first.o, second.i)):
        m.d.comb += [sink.p[name].eq(source.p[name]) for name in ("x", "head", "part", "last")]
    m.d.comb += [swiglu.i.p[name].eq(c.p[name]) for name in ("x", "entry", "part", "last")]
    if second is qk_norm:
        to_rope, to_norm = c.p.entry, engines.within(rope.o.p.entry, half)
    else:
        to_rope, to_norm = qk_norm.o.p.entry, c.p.entry
    m.d.comb += [rope.i.p.entry.eq(engines.whole(to_rope, half)), qk_norm.i.p.entry.eq(to_norm)]
    row = qk_norm.o.p.entry if second is qk_norm else engines.within(rope.o.p.entry, half)
    m.d.comb += w.p.row.eq(row * engines.design.qkv_heads + second.o.p.head)


def connect_norm(m, engines):
    """The norm of a residual into xa; where it is one of sums, of those into the residual."""
    residuals, sums, rmsnorm, w = engines.residuals, engines.sums, engines.rmsnorm, engines.xa.w
    norm_half = engines.norm_half
    of_sums = None
    if sums:
        late = (norm for norm in engines.design.block.of(Norm) if norm.reads == "sums")
        of_sums = engines.sequencer.norm_sums if engines.alternating else engines.phase_is(*late)
    source = norm_half if of_sums is None else Cat(norm_half, of_sums) if engines.alternating else of_sums
    _to_one(m, cut(m, "norm_skid", rmsnorm.read), [unit.read for unit in (*residuals, *sums)], source)
    m.submodules.residual_skid = granules = Skid(rmsnorm.read_i.payload.shape())
    _from_one(m, [unit.read_o for unit in (*residuals, *sums)], granules.i, source)
    connect(m, granules.o, rmsnorm.read_i)
    m.d.comb += [w.valid.eq(rmsnorm.o.valid), rmsnorm.o.ready.eq(w.ready), w.p.x.eq(rmsnorm.o.p.x),
                 w.p.row.eq(engines.whole(rmsnorm.o.p.row, norm_half)), w.p.part.eq(rmsnorm.o.p.part)]
    if sums:
        with m.If(of_sums):
            m.d.comb += w.valid.eq(0)
            for k, residual in enumerate(residuals):
                m.d.comb += [residual.i.p[name].eq(rmsnorm.o.p[name]) for name in ("x", "row", "part")]
                with m.If(norm_half == k):
                    m.d.comb += [residual.i.valid.eq(rmsnorm.o.valid), rmsnorm.o.ready.eq(residual.i.ready)]


def connect_attention(m, engines):
    """Heads of the qkv buffer to the KV writer or to attention, both to the KV cache, and attention's results into
    xo."""
    qkv, kv, kv_writer, attention, xo = engines.qkv, engines.kv, engines.kv_writer, engines.attention, engines.xo
    writing = (engines.sequencer.writing if engines.alternating
               else engines.steady(engines.phase_is(engines.design.block.store), "writing"))
    for user, selected in ((kv_writer.r, writing), (cut(m, "query_skid", attention.q_r), ~writing)):
        with m.If(selected):
            m.d.comb += [qkv.r.valid.eq(user.valid), user.ready.eq(qkv.r.ready), qkv.r.p.row.eq(user.p.row),
                         qkv.r.p.part.eq(user.p.part), qkv.r.p.meta.eq(user.p.meta)]
    for user, selected in ((kv_writer.i, writing), (attention.q_i, ~writing)):
        m.d.comb += [user.valid.eq(qkv.o.valid & selected), user.payload.eq(qkv.o.payload)]
        with m.If(selected):
            m.d.comb += qkv.o.ready.eq(user.ready)
    connect(m, kv_writer.write, kv.write)
    if engines.design.hw.kv_port:
        connect(m, attention.jobs, kv.jobs)
    else:
        connect(m, attention.k_req, kv.k_req)
        connect(m, attention.v_req, kv.v_req)
    connect(m, kv.k_o, attention.k_o)
    connect(m, kv.v_o, attention.v_o)
    m.d.comb += [xo.w.valid.eq(attention.o.valid), attention.o.ready.eq(xo.w.ready), xo.w.p.x.eq(attention.o.p.x),
                 xo.w.p.row.eq(attention.o.p.entry), xo.w.p.part.eq(attention.o.p.part)]


def _to_one(m, source, sinks, number):
    """Items of a stream to one of several sinks. (Their payloads may differ in fields that the caller overrides.)"""
    if len(sinks) == 1:
        connect(m, source, sinks[0])
        return
    for k, sink in enumerate(sinks):
        m.d.comb += [sink.valid.eq(source.valid & (number == k)),
                     *(sink.p[name].eq(source.p[name]) for name, _ in sink.p.shape())]
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
