"""The engines of a decoder, placed side by side, and which of two half-batches each of them sees."""
from amaranth.hdl import Const, Mux, Signal, Value

from ..lib.steps import phase_shape
from ..lib.verilog import shared
from ..models.wires import matrix_name
from ..params.block import Project
from ..params.phases import member
from ..params.stream import HEAD
from ..units.vector_buffer import VectorBuffer
from . import make
from .alternating import AlternatingSequencer
from .kv_port import KvBus
from .sequencer import Sequencer

__all__ = ["Engines"]


class Engines:
    """Every engine of a decoder as a submodule of ``m``; no wires between them.

    Where two half-batches alternate, an engine sees one of them at a time, and its rows are those of that; but each has
    its residual.

    Parameters
    ----------
    m : Module
    design : Design
    wires, axi : dict, AxiShape     as of `Decoder`

    Attributes
    ----------
    half_design : Design    what an engine of one half-batch is made for; ``design`` where none alternate
    rows : int              entries of ``half_design``
    alternating : bool      two half-batches alternate
    residuals, sums : list  by half-batch; ``sums`` only where sums are normed before they are added
    adders : list           what takes the sums of `Block.added`: one of the two
    array, wired            what multiplies; None where there is none of it. ``multipliers`` are those that there are
    wired_steps : list      projects that are logic, and HEAD if it is
    qk_norm                 None in a block without it
    waits_for_vectors : bool    records may have vectors, and no tiles behind them that give these their time
    xa, xo, xh, qkv         `VectorBuffer` of the input of QKV, gate/up and LM head; of attention's results; of the
                            MLP's; of heads
    commanded : Value       half-batch whose piece is at the array ...
    half : Value            ... and of the data that come out of it: a cycle later
    norm_half : Value       half-batch of the norm
    """

    def __init__(self, m, design, wires, axi=None):
        self._axi = axi
        self._m, self.design, self.half_design = m, design, design.half_batch()
        self.alternating, self.rows = design.hw.halves == 2, self.half_design.hw.entries
        self._place_units(wires)
        self.waits_for_vectors = design.hw.wired and "vector" in self.dispatcher.signature.members
        seq = self.sequencer
        self.commanded, self.norm_half = (seq.half, seq.norm_half) if self.alternating else (Const(0), Const(0))
        self.half = self.steady(self.commanded, "half") if self.alternating else self.commanded
        self._place_buffers()

    def _place_units(self, wires):
        m, design, half_design = self._m, self.design, self.half_design
        hw, block = design.hw, design.block
        m.submodules.admission = self.admission = make.admission(design)
        m.submodules.sequencer = self.sequencer = (AlternatingSequencer if self.alternating else Sequencer)(design)
        m.submodules.dispatcher = self.dispatcher = make.dispatcher(design)
        self._place_multipliers(wires)
        m.submodules.feeder = self.feeder = make.feeder(half_design)
        self.biased = block.biased(*block.converted)
        m.submodules.convert = self.convert = make.convert(half_design, banks=hw.halves if self.biased else 1)
        self.residuals = self._by_half("residual", lambda: make.residual(half_design))
        self.sums = self._by_half("sums", lambda: make.residual(half_design, sums=True)) if block.post_norms else []
        self.adders = self.sums or self.residuals
        m.submodules.rmsnorm = self.rmsnorm = make.rmsnorm(half_design)
        self.qk_norm = make.qk_norm(half_design, banks=hw.halves) if block.qk_norm else None
        if self.qk_norm:
            m.submodules.qk_norm = self.qk_norm
        m.submodules.rope = self.rope = make.rope(design)
        m.submodules.swiglu = self.swiglu = make.swiglu(half_design)
        self._place_kv()
        m.submodules.kv_writer = self.kv_writer = make.kv_writer(half_design)
        m.submodules.attention = self.attention = make.attention(half_design)
        m.submodules.sampler = self.sampler = make.sampler(half_design)

    def _place_multipliers(self, wires):
        """The array, and what has the matrices that are logic: in its place where all of them are."""
        m, hw, self.array, self.wired = self._m, self.design.hw, None, None
        if hw.has_array:
            m.submodules.array = self.array = make.mac_array(self.half_design)
        if hw.wired:
            self.wired = make.wired(self.half_design, {matrix_name(*key): matrix for key, matrix in wires.items()})
            m.submodules["wired" if self.array else "array"] = self.wired
        self.multipliers = [unit for unit in (self.array, self.wired) if unit]
        self.wired_steps = [*(step for step in self.design.block.of(Project) if hw.is_logic(step.name)),
                            *[HEAD] * hw.is_logic(HEAD)]

    def _place_kv(self):
        """The KV cache, or what has its place where keys and values are outside."""
        if self.design.hw.kv_port:
            self._m.submodules.kv_bus = self.kv = KvBus(self.design, self._axi)
        else:
            self._m.submodules.kv_cache = self.kv = make.kv_cache(self.design)

    def _by_half(self, name, build):
        """[A unit for each half-batch], the second one with a number behind its name."""
        units = [build() for _ in range(self.design.hw.halves)]
        for unit_name, unit in zip((name, f"{name}_1"), units):
            self._m.submodules[unit_name] = unit
        return units

    def _place_buffers(self):
        m, design, hw = self._m, self.design, self.design.hw
        operation = self.feeder.o.p.meta.shape()

        def of_activations(rows, length, write_lanes=hw.vector_lanes):
            return VectorBuffer(rows=rows, length=length, write_lanes=write_lanes, read_lanes=hw.lanes,
                                fmt=design.recipe.activation_format, meta=operation)

        self.xa = of_activations(hw.entries, design.padded_hidden_size)
        self.xo = of_activations(self.rows, design.padded_attention_size)
        # of a gate and an up comes one activation
        self.xh = of_activations(self.rows, design.padded_intermediate_size,
                                 write_lanes=hw.vector_lanes // (2 if design.block.gated else 1))
        for name, buffer in (("xa", self.xa), ("xo", self.xo), ("xh", self.xh)):
            m.submodules[name] = shared(buffer, buffer.module_name)     # one module where their shapes are the same
        m.submodules.qkv = self.qkv = VectorBuffer(
            rows=self.rows * design.qkv_heads, length=design.padded_head_dim, write_lanes=hw.vector_lanes,
            read_lanes=hw.attention_lanes, fmt=design.recipe.kv_format, meta=self.attention.q_r.p.meta.shape())

    # -- phases

    def phase_is(self, *steps):
        """Whether the sequencer is in the phase of one of some steps."""
        phases = phase_shape(self.design.block)
        return self.sequencer.phase.as_value().matches(*(member(phases, step).value for step in steps))

    def steady(self, value, name):
        """A value of the phase, a cycle later, which is before the phase's first data come and not after its last have
        gone: so what chooses the way of data is a register."""
        signal = Signal.like(Value.cast(value), name=name)
        self._m.d.sync += signal.eq(value)
        return signal

    # -- rows of a pass and of a half-batch

    def within(self, entry, half):
        """Row of the pass -> row of its half-batch."""
        return Mux(half, entry - self.rows, entry) if self.alternating else entry

    def whole(self, row, half):
        """Row of a half-batch -> row of the pass."""
        return row + Mux(half, self.rows, 0) if self.alternating else row
