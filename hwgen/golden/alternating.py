"""Twin of `hwgen.top.alternating`: the cycle of every event in a pass of two alternating half-batches."""
from collections.abc import Sequence

from ..params.block import Norm, Step
from ..params.design import Design
from ..params.phases import member, phases as phases_of
from ..params.stream import FINAL_NORM, HEAD
from . import admission, feeder, residual, rope, vector_buffer, weights
from .adapters import adapted_cycles, runs
from .attention import attention_cycles
from .engines import norm_end, sink_end
from .kv_cache import kv_write_cycles
from .mac_array import matmul_cycles
from .rmsnorm import norm_cycles
from .sampler import sample_latency
from .timeline import Timeline

__all__ = ["alternating_timeline"]


class _Pass:
    """A pass being laid out piece by piece: the latest phase of the array, what runs beside it, and how far the weight
    stream is.

    Lists of two are by half-batch.
    """

    def __init__(self, design, positions, wants, closed, adapters):
        rows = design.hw.entries // 2
        self.design, self.half, self.block = design, design.half_batch(), design.block
        self.positions = [list(positions[:rows]), list(positions[rows:])]
        self.counts = [len(p) for p in self.positions]
        self.runs = [runs(adapters[:rows]), runs(adapters[rows:])]
        self.wanted = [sum(map(bool, w)) for w in (wants[:rows], wants[rows:])]
        self.attention_cycles = [self._attention_cycles(p) for p in self.positions]
        self.numbers = phases_of(design.block)
        self.steps = {step.name: step for step in self.block.steps}
        # the first matrix behind a norm waits for it; others of a parallel block read what that has read
        self.first_of_norm = [project for norm in self.block.of(Norm) for project in self.block.projects(norm.name)[:1]
                              if norm.writes == "normed"]

        self.phases = [(0, int(self.numbers.IDLE), 0), (closed + 2, int(self.numbers.EMBED), 0)]
        self.spent = {"norm": 0, "attention": 0}
        self.busy = self.starved = self.blocked = 0
        self.outcomes, self.heads = [], 0
        asked, n = closed + 1, len(positions)
        added = weights.embed_done_cycle(design, n) + residual.DONE_LATENCY
        self.embedded = asked + max(added, rope.angle_cycles(design, n))
        self.end = self.embedded        # of the latest phase of the array
        self.attended = 0               # attention's latest `done` ...
        self.normed = 0                 # ... the norm unit's ...
        self.added = 0                  # ... and that of what follows it
        self.ready = [0, 0]             # when each half's latest norm can be read
        self.taken = asked + weights.record_first(design, n)    # the stream: its latest tile, or what stands for it

    def _attention_cycles(self, positions):
        """{window: cycles of a half-batch's attention}, for every window that a layer has."""
        windows = {self.design.window(layer) for layer in range(self.design.layers)}
        return {window: attention_cycles(self.half, positions, window)[1] if positions else 0 for window in windows}

    def phase(self, step: Step | str, layer: int, start: int) -> None:
        self.phases.append((start, int(member(self.numbers, step)), layer))

    def record(self, name: str, x: int, layer: int) -> None:
        """The sequencer sees a record of half-batch ``x``, and sets off its norm."""
        final = name == FINAL_NORM
        section = self.design.stream[name] if final else self.design.stream[name, layer]
        # a record waits in the dispatcher's register until the norm before it has given up its gains
        self.taken = weights.record_end(section, max(self.taken, self.normed - 2))
        self.end += 1                                       # in which the sequencer sees it
        self.phase(name, layer, self.end)
        if self.block.post_norms:
            self.end = max(self.end, self.ready[x] + 1)     # a half has one norm at a time
        start = max(self.end, self.added) + 1
        count = self.wanted[x] if final else self.counts[x]
        self.normed = start + norm_cycles(self.half, count, read_latency=residual.READ_LATENCY)
        self.added = self.ready[x] = self.normed if final else norm_end(self.design, self.steps[name], self.normed)
        self.spent["norm"] += self.added + 1 - start

    def matrix(self, name: str, x: int, layer: int) -> None:
        """A matrix of a layer has the array, from the cycle after its input is there until its engine's `done`."""
        step = self.steps[name]
        times = self._matmul(name, layer, x, self.counts[x], self._start(name, layer, self._input_there(step, x)))
        self.end = sink_end(self.design, step, times, self.counts[x])
        if step == self.block.into_heads:
            self.end = max(self.end, times.granule(-1) + 1)     # padding goes through convert, and ends there
            self._attend(x, layer)

    def head(self, x: int) -> None:
        """The LM head of a half-batch; with norms of sums it is behind all of them."""
        start = self._start(HEAD, 0, self.added if self.block.post_norms else self.ready[x])
        times = self._matmul(HEAD, 0, x, self.wanted[x], start + self.design.head_delay)
        self.heads += 1
        self.outcomes += [times.granule(-1, row) + sample_latency(self.design) - 1 for row in range(self.wanted[x])]
        self.end = self.outcomes[-1] + 1

    def _input_there(self, step, x):
        """When a matrix's input can be read: attention's, the norm's, or at once (0) what the matrix before it has
        left."""
        if step in self.first_of_norm:
            return self.ready[x]
        return self.attended if step == self.block.from_heads else 0

    def _start(self, name, layer, there):
        """The cycle of a matrix's command; in the cycle before, the sequencer sees that it may."""
        start = max(self.end, there) + 2
        self.phase(name, layer, self.end + 1)
        return start

    def _matmul(self, name, layer, x, count, start):
        """Feed a matrix to the array from the cycle that gives the command. Returns the array's `MatmulTimes`."""
        section = self.design.stream[name] if name == HEAD else self.design.stream[name, layer]
        matmul, tiling = weights.matrix_of(section)
        operations = start + feeder.REQUEST_LATENCY + vector_buffer.READ_LATENCY
        tile = weights.tile_after_tile_cycle(tiling, self.taken)
        if name != HEAD and self.runs[x]:
            times = adapted_cycles(self.half, matmul, self.design.adapter_matmuls(self.steps[name]), count,
                                   self.runs[x], start, operations, tile, tiling, vector_buffer.READ_LATENCY)
        else:
            if any(self.runs) and not self.heads:       # the base's tiles wait for the command, but of a second head
                tile = max(tile, start + 1)
            times = matmul_cycles(self.half, matmul, count, operations, tile, tiling)
        self.busy += times.busy
        self.starved += times.starved
        self.blocked += times.blocked
        self.taken = times.last_take
        return times

    def _attend(self, x, layer):
        """KV write and attention run beside the array from the end of the QKV matrix on."""
        written = self.end + 1 + kv_write_cycles(self.half, self.counts[x], read_latency=vector_buffer.READ_LATENCY)
        self.attended = written + 1 + self.attention_cycles[x][self.design.window(layer)]
        self.spent["attention"] += self.attended - self.end

    def finish(self) -> None:
        """Behind the last piece; a pass without output still answers."""
        if not any(self.wanted):
            self.end = max(self.end, self.added)            # the last piece may be a norm of sums
        self.phases.append((self.end + 1, int(self.numbers.FINISH), 0))
        if not self.outcomes:
            self.outcomes = [self.end + 1]
            self.phases.append((self.end + 2, int(self.numbers.IDLE), 0))


def alternating_timeline(design: Design, positions: Sequence[int], wants: Sequence[bool], closed: int,
                         adapters: Sequence[int] = ()) -> Timeline:
    """`Timeline` of a pass as `golden.sequencer.pass_timeline`: entries in the first half of the rows are half-batch 0,
    the others 1.

    The weight stream's pieces are laid out one after the other, each matrix a phase of the array: from the cycle after
    the one before it, and after its input is there, to the cycle in which all of its results are readable. Norms, and
    attention, run beside the array.
    """
    p = _Pass(design, positions, wants, closed, adapters)
    wanted = [w > 0 for w in p.wanted]
    for name, x, layer in weights.pieces(design, p.counts[1] > 0, wanted):
        if name == HEAD:
            p.head(x)
        elif name == FINAL_NORM or isinstance(p.steps[name], Norm):
            p.record(name, x, layer)
        else:
            p.matrix(name, x, layer)
    p.finish()
    outcomes = [cycle + admission.RESULT_LATENCY for cycle in p.outcomes]
    # two LM heads are one phase to see
    seen = [x for before, x in zip([None, *p.phases], p.phases)
            if x[0] <= outcomes[-1] and (before is None or before[1:] != x[1:])]
    return Timeline(phases=seen, outcomes=outcomes, counters={
        "cycles": outcomes[-1], "mac_busy": p.busy, "mac_starved": p.starved, "mac_blocked": p.blocked, **p.spent,
        "embed": p.embedded - closed - 1, "weight_beats": weights.beats_taken(design, len(positions), wanted),
        "weight_waits": weights.waits(design)})
