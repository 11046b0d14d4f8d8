"""Twin of `hwgen.top.sequencer`: when everything in a pass happens, from shapes and positions alone."""
from ..params.phases import Phase
from . import admission, convert, feeder, residual, rope, swiglu, vector_buffer, weights
from .alternating import alternating_timeline
from .attention import attention_cycles
from .kv_cache import kv_write_cycles
from .mac_array import matmul_cycles
from .rmsnorm import norm_cycles
from .sampler import sample_latency
from .timeline import Timeline

__all__ = ["Timeline", "pass_timeline"]


class _Pass:
    """A pass being laid out: the current cycle, and when the array's next tile is there."""

    def __init__(self, design, positions):
        self.design, self.positions, self.n = design, positions, len(positions)
        self.phases, self.spent = [(0, int(Phase.IDLE), 0)], dict.fromkeys(Phase, 0)
        self.busy = self.starved = self.blocked = 0

    def phase(self, phase, layer, start, end):
        """A phase from cycle ``start`` to the ``done`` in cycle ``end``; returns the start of the next."""
        self.phases.append((start, int(phase), layer))
        self.spent[phase] += end + 1 - start
        return end + 1

    def matmul(self, matmul, n, start):
        """Feed a matrix to the array from the cycle that gives the command. Returns the array's `MatmulTimes`."""
        ops = start + feeder.REQUEST_LATENCY + vector_buffer.READ_LATENCY
        times = matmul_cycles(self.design, matmul, n, ops, self.tile)
        self.busy += times.busy
        self.starved += times.starved
        self.blocked += times.blocked
        self.taken = times.last_take      # when the array took the matrix's last tile
        return times

    def layer(self, layer, s):
        design, n = self.design, self.n
        follows = lambda: weights.tile_after_tile_cycle(design, self.taken)
        norm = norm_cycles(design, n, read_latency=residual.READ_LATENCY)
        s = self.phase(Phase.NORM_1, layer, s, s + norm)

        heads = design.qkv_heads * design.head // design.hw.vector_lanes     # granules that are not padding
        last = self.matmul(design.qkv_matmul, n, s).granule(heads - 1)
        s = self.phase(Phase.QKV, layer, s, last + convert.latency(design) + rope.ROPE_LATENCY + vector_buffer.WRITE_LATENCY)
        s = self.phase(Phase.KV_WRITE, layer, s, s + kv_write_cycles(design, n, read_latency=vector_buffer.READ_LATENCY))
        s = self.phase(Phase.ATTENTION, layer, s, s + attention_cycles(design, self.positions)[1])

        self.tile = follows()
        s = self.phase(Phase.O, layer, s, self.matmul(design.o_matmul, n, s).granule(-1) + residual.DONE_LATENCY)

        self.tile = weights.tile_after_record_cycle(design, self.taken)
        s = self.phase(Phase.NORM_2, layer, s, s + norm)
        last = self.matmul(design.gate_up_matmul, n, s).granule(-1)
        s = self.phase(Phase.GATE_UP, layer, s, last + convert.latency(design) + swiglu.LATENCY + vector_buffer.WRITE_LATENCY)

        self.tile = follows()
        s = self.phase(Phase.DOWN, layer, s, self.matmul(design.down_matmul, n, s).granule(-1) + residual.DONE_LATENCY)
        self.tile = weights.tile_after_record_cycle(design, self.taken)
        return s


def pass_timeline(design, positions, wants, closed=None):
    """`Timeline` of a pass of entries at ``positions``, of which those with a true ``wants`` want output.

    ``closed`` is the cycle in which the sequencer takes the end of the pass (`golden.admission`): everything follows from there.
    Without it, all entries are let in without delay.
    """
    closed = len(positions) - 1 + admission.LATENCY if closed is None else closed
    if design.hw.halves == 2:
        return alternating_timeline(design, positions, wants, closed)
    p = _Pass(design, list(positions))
    n, wanted = p.n, sum(map(bool, wants))
    asked = closed + 1
    p.tile = weights.tile_after_record_cycle(design, asked + weights.record_first(design, n))
    embedded = asked + weights.embed_done_cycle(design, n) + residual.DONE_LATENCY
    s = p.phase(Phase.EMBED, 0, closed + 2, max(embedded, asked + rope.angle_cycles(design, n)))
    for layer in range(design.layers):
        s = p.layer(layer, s)
    if wanted:
        s = p.phase(Phase.NORM_F, 0, s, s + norm_cycles(design, wanted, read_latency=residual.READ_LATENCY))
        times = p.matmul(design.head_matmul, wanted, s + design.head_delay)
        outcomes = [times.granule(-1, row) + sample_latency(design) - 1 for row in range(wanted)]
        s = p.phase(Phase.HEAD, 0, s, outcomes[-1] + 1)
    else:
        outcomes = [s]
    p.phases.append((s, int(Phase.FINISH), 0))
    return Timeline(phases=[x for x in p.phases if x[0] <= outcomes[-1]], outcomes=outcomes, counters={
        "cycles": outcomes[-1], "mac_busy": p.busy, "mac_starved": p.starved, "mac_blocked": p.blocked,
        "norm": p.spent[Phase.NORM_1] + p.spent[Phase.NORM_2] + p.spent[Phase.NORM_F],
        "attention": p.spent[Phase.KV_WRITE] + p.spent[Phase.ATTENTION], "embed": p.spent[Phase.EMBED],
        "weight_beats": weights.beats_taken(design, n, wanted > 0), "weight_waits": weights.waits(design)})
