"""The decoder: every engine, and the wires between them."""
from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.layouts import (
    adapter_layout, command_layout, kv_answer_layout, kv_command_layout, kv_fault_layout, outcome_layout,
)
from ..lib.skid import SkidRegister, cut
from ..lib.steps import phase_shape
from ..params.block import Norm
from ..params.counters import EVENTS
from ..params.limits import check_padding
from ..params.stream import FINAL_NORM, HEAD
from ..units.counters import Counters
from ..units.weights import request_layout
from . import make
from .adapters import place_adapters
from .engines import Engines
from .kv_port import kv_members
from .paths import (
    connect_array_input, connect_array_results, connect_attention, connect_commands, connect_converted,
    connect_embedding, connect_gains, connect_norm, connect_vectors,
)

__all__ = ["Decoder"]


class Decoder(wiring.Component):
    """A transformer that runs one model and nothing else.

    A pass: entries come in on ``command``; when ``last`` is there all of them go through every layer, and ``outcome``
    returns one token per entry that wanted output. Entries that are wrong are left out, and answered with an error
    (docs/admission.md). Assembly only: what the engines compute, and how long they take, is theirs
    (docs/architecture.md).

    Parameters
    ----------
    design : Design
    rom_file : str      memory image of the weights, for source "rom" and what "wired" leaves of it
    wires : dict        for source "wired": {(name, layer): FixedMatrix} (`hwgen.models.wires.fixed_matrices`)
    axi : AxiShape      the bus of the weights, whose addresses and identifiers the one of kv_port has; by default 32
                        bits of addresses

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
    counter_address     In             selects a counter (`hwgen.params.counters.EVENTS`, by number) ...
    counter_data        Out(32)        ... read one cycle later; counters restart with the first entry of a pass
    signature_address   In             layer * T + row; rows are the entries that were not left out ...
    signature_data      Out(32)        ... the CRC-32 of that row's residual after that layer, one cycle later
    adapter             In(stream)     only with adapters: beats of one that is loaded (`adapter_layout`), between
                                       passes
    m_axi_kv_*, kv_*    only with kv_port: the AXI4 master of the memory of keys and values, and kv_base, kv_timeout,
                        kv_flush, kv_flushed, kv_bad and kv_fault, which are those of `hwgen.top.kv_port.KvBus`
    kv_corrected        Out(32)        only with kv_ecc: rows of the KV memory in which an error was corrected, since
                                       reset
    kv_failed           Out(32)        only with kv_ecc: those in which an error could not be corrected ...
    kv_fault            Out            only with kv_ecc: ... and where the first of them was (`kv_fault_layout`)
    """

    def __init__(self, design, *, rom_file=None, wires=None, axi=None):
        if design.hw.wired and wires is None:
            raise ValueError("Matrices must be given to a machine in which they are logic")
        check_padding(design)
        self._design, self._rom_file, self._wires, self._axi = design, rom_file, wires, axi
        sizes, place = make.request_sizes(design), dict(slots=design.hw.slots, context=design.hw.context)
        members = {
            "command": In(stream.Signature(command_layout(sizes))),
            "outcome": Out(stream.Signature(outcome_layout(sizes))),
            "kv_command": In(stream.Signature(kv_command_layout(**place))),
            "kv_answer": Out(stream.Signature(kv_answer_layout())),
            "phase": Out(phase_shape(design.block)), "layer": Out(range(design.layers)), "model_id": Out(32),
            "counter_address": In(range(len(EVENTS))), "counter_data": Out(32),
            "signature_address": In(range(design.layers * design.hw.entries)), "signature_data": Out(32),
        }
        if design.hw.source == "stream":
            members |= {"weight_req": Out(stream.Signature(request_layout(stream_beats=design.stream_beats))),
                        "weight_beats": In(stream.Signature(unsigned(8 * design.hw.beat_bytes)))}
        if design.hw.sampler == "gumbel":
            members |= {"inv_temperature": In(16), "seed": In(32)}
        if design.hw.adapters:
            members |= {"adapter": In(stream.Signature(adapter_layout(
                adapters=design.hw.adapters, beat_bytes=design.hw.beat_bytes)))}
        if design.hw.kv_ecc:
            members |= {"kv_corrected": Out(32), "kv_failed": Out(32), "kv_fault": Out(kv_fault_layout(**place))}
        self._kv_members = kv_members(design, axi) if design.hw.kv_port else {}
        super().__init__({**members, **self._kv_members})

    @property
    def design(self):
        return self._design

    def elaborate(self, platform):
        m = Module()
        engines = Engines(m, self._design, self._wires, self._axi)
        self._connect_host(m, engines)
        connect_commands(m, engines)
        self._connect_exponents(m, engines)
        if engines.alternating:
            m.d.comb += engines.sequencer.convert_idle.eq(engines.convert.cmd.ready)
        self._connect_source(m, engines.dispatcher)
        adapters = self._connect_tiles(m, engines)
        connect_gains(m, engines)
        connect_embedding(m, engines)
        m.d.comb += self.model_id.eq(engines.dispatcher.model_id)
        if "vector" in engines.dispatcher.signature.members:
            connect_vectors(m, engines)
        connect_array_input(m, engines, adapters)
        connect_array_results(m, engines, adapters)
        connect_converted(m, engines)
        connect_norm(m, engines)
        connect_attention(m, engines)
        if self._design.hw.sampler == "gumbel":
            m.d.comb += [engines.sampler.inv_temperature.eq(self.inv_temperature), engines.sampler.seed.eq(self.seed),
                         engines.sampler.key.eq(engines.sequencer.keys)]
        self._keep_signatures(m, engines)
        self._count(m, engines)
        return m

    def _connect_host(self, m, engines):
        """What comes from the host goes through admission to the sequencer and the KV memory, and results go back."""
        admission, seq, kv = engines.admission, engines.sequencer, engines.kv
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
        if self._design.hw.kv_ecc:
            m.d.comb += [self.kv_corrected.eq(kv.corrected), self.kv_failed.eq(kv.failed), self.kv_fault.eq(kv.fault)]
        for name, member in self._kv_members.items():
            outside, inside = getattr(self, name), getattr(kv, name.removeprefix("kv_"))
            m.d.comb += inside.eq(outside) if member.flow == In else outside.eq(inside)
        m.d.comb += [self.phase.eq(seq.phase), self.layer.eq(seq.layer)]

    def _connect_exponents(self, m, engines):
        """Exponents of matrices, each in the record of the norm before it, to the units that scale the array's sums."""
        seq, block = engines.sequencer, self._design.block
        exps = self._select_matrix(m, engines) if self._design.hw.wired else seq.exps
        m.d.comb += [seq.exps_in.eq(engines.dispatcher.exps), engines.convert.exps.eq(exps)]
        first, second = (exps[block.record_of(step.matrices[0])[1]] for step in block.added)
        m.d.comb += [adder.exp.eq(Mux(engines.phase_is(block.from_heads), first, second)) for adder in engines.adders]
        m.d.comb += engines.sampler.exp.eq(exps[0])

    def _select_matrix(self, m, engines):
        """Tell a unit of wired matrices which one is wanted. Returns the exponents of its record, which are logic too:
        records come without a pause, and the dispatcher has the next one's before this one's matrices are done."""
        design, block, seq, wired = self._design, self._design.block, engines.sequencer, engines.wired
        exps = Signal(seq.exps.shape(), name="exps")
        if engines.array:       # those of other matrices are in their records
            m.d.comb += exps.eq(seq.exps)
        numbers = {key: number for number, key in enumerate(self._wires)}
        project_of = {name: step for step in engines.wired_steps if step != HEAD for name in step.matrices}
        for project in dict.fromkeys(project_of.values()):
            names = block.exponents(block.record_of(project.matrices[0])[0])
            with m.If(engines.phase_is(project)):
                of_layer = [numbers[project.name, layer] for layer in range(design.layers)]
                m.d.comb += wired.matrix.eq(Array(of_layer)[seq.layer])
                for index, name in enumerate(names):
                    if name in project_of:
                        matrices = [self._wires[project_of[name].name, layer] for layer in range(design.layers)]
                        m.d.comb += exps[index].eq(Array(matrix.exponents[name] for matrix in matrices)[seq.layer])
        if HEAD in engines.wired_steps:
            with m.If(engines.phase_is(HEAD)):
                m.d.comb += [wired.matrix.eq(numbers[HEAD, None]), exps[0].eq(self._wires[HEAD, None].exponents[HEAD])]
        return exps

    def _connect_source(self, m, dispatcher):
        """The dispatcher to the weights: inside, or a memory beside the machine."""
        if self._design.hw.source == "stream":
            connect(m, cut(m, "request_skid", dispatcher.req), flipped(self.weight_req))
            connect(m, flipped(self.weight_beats), dispatcher.beats)
            return
        m.submodules.weights = source = make.rom_source(self._design, file=self._rom_file)
        connect(m, cut(m, "request_skid", dispatcher.req), source.req)
        connect(m, source.beats, dispatcher.beats)

    def _connect_tiles(self, m, engines):
        """Tiles of the matrices to the array, which has none where these are logic. Returns what adapters have, or
        None."""
        if self._design.hw.adapters:
            return place_adapters(m, engines, flipped(self.adapter))
        if engines.array:
            connect(m, engines.dispatcher.tile, engines.array.tile)
        return None

    def _keep_signatures(self, m, engines):
        """A memory of the signatures of residuals, which is read from outside."""
        design, hw, seq, residuals = self._design, self._design.hw, engines.sequencer, engines.residuals
        depth = design.layers * hw.entries
        m.submodules.signatures = signatures = memory.Memory(shape=unsigned(32), depth=depth, init=[])
        write, read = signatures.write_port(), signatures.read_port()
        m.d.comb += [residual.sig.ready.eq(1) for residual in residuals]
        # of the half whose down projection has the array, or whose sums are normed
        of_norm = engines.sums and engines.alternating
        half, layer = (engines.norm_half, seq.norm_layer) if of_norm else (engines.half, seq.layer)
        m.d.comb += [write.en.eq(residuals[0].sig.valid), write.data.eq(residuals[0].sig.p.crc),
                     write.addr.eq(layer * hw.entries + residuals[0].sig.p.entry)]
        for residual in residuals[1:]:
            with m.If(half):
                m.d.comb += [write.en.eq(residual.sig.valid), write.data.eq(residual.sig.p.crc),
                             write.addr.eq(layer * hw.entries + engines.whole(residual.sig.p.entry, half))]
        m.d.comb += [read.addr.eq(self.signature_address), self.signature_data.eq(read.data)]

    def _count(self, m, engines):
        """The counters of a pass, which are read from outside."""
        seq, admission, beats = engines.sequencer, engines.admission, engines.dispatcher.beats
        block, alternating, phase_is = self._design.block, engines.alternating, engines.phase_is
        m.submodules.counters = counters = Counters(EVENTS)
        m.d.comb += counters.clear.eq(admission.opens)
        events = {
            "cycles": admission.opened,
            "mac_busy": reduce(or_, (unit.busy for unit in engines.multipliers)),
            "mac_starved": engines.array.starved if engines.array else Const(0),
            "mac_blocked": reduce(or_, (unit.blocked for unit in engines.multipliers)),
            "norm": seq.norming if alternating else phase_is(*block.of(Norm), FINAL_NORM),
            "attention": seq.attending if alternating else phase_is(block.store, block.attend),
            "embed": phase_is("embed"),
            "weight_beats": beats.valid & beats.ready,
            "weight_waits": beats.ready & ~beats.valid,
            "saturated": _saturated(m, engines),
        }
        m.d.comb += [counters.events[name].eq(events[name]) for name in EVENTS]
        m.d.comb += [counters.address.eq(self.counter_address), self.counter_data.eq(counters.data)]


def _saturated(m, engines):
    """A granule had a number that was clipped, a cycle for each."""
    residuals, sums, design = engines.residuals, engines.sums, engines.design
    found = Cat(unit.saturated for unit in (*residuals, *sums)).any()      # never of two in a cycle ...
    if not sums or len(sums) == 1:
        return found
    # ... but for the sums of one half-batch and what the norm adds to the other: these wait
    waiting = Signal(range(design.hw.entries * design.padded_hidden_size // design.hw.vector_lanes + 1))
    both = Cat(unit.saturated for unit in residuals).any() & Cat(unit.saturated for unit in sums).any()
    m.d.sync += waiting.eq(waiting + both - (~found & (waiting != 0)))
    return found | (waiting != 0)
