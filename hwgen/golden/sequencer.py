"""Twin of `hwgen.top.sequencer`: the cycle of every event in a pass, from shapes and positions alone."""
from collections.abc import Iterable, Mapping, Sequence

from ..params.block import Norm, Project, Step, Store
from ..params.design import Design
from ..params.phases import member, phases
from ..params.stream import FINAL_NORM, HEAD, Section
from ..params.wired import FixedMatrix
from . import admission, feeder, residual, rope, vector_buffer, weights
from .adapted_wires import AdaptedWires, adapted_wired_cycles, behind_adder
from .adapters import adapted_cycles, runs
from .alternating import alternating_timeline
from .attention import attention_cycles
from .engines import norm_end, sink_end
from .kv_cache import kv_settled, kv_write_cycles
from .mac_array import MatmulTimes, matmul_cycles
from .rmsnorm import norm_cycles
from .sampler import sample_latency
from .timeline import Timeline
from .wired import WiredTimes, wired_cycles

__all__ = ["Timeline", "pass_timeline"]


class _Pass:
    """A pass being laid out: the current cycle, and how far the weight stream is."""

    def __init__(self, design, positions, runs=(), wires=None):
        self.design, self.positions, self.n, self.wires = design, positions, len(positions), wires
        self.numbers, self.runs = phases(design.block), runs
        self.phases, self.spent = [(0, int(self.numbers.IDLE), 0)], dict.fromkeys(self.numbers, 0)
        self.busy = self.starved = self.blocked = 0
        self.taken = 0          # when the array took the latest tile, or what stands for that behind a record
        self.normed = 0         # the latest norm's `done`
        self.vectors_in = 0     # the first cycle without the vectors of the latest record, of a machine with wires
        # records wait for the phases of their norms: what is logic leaves no tiles between them
        self.waits = design.hw.wired and any(section.vectors for section in design.stream)

    def phase(self, step: Step | str, layer: int, start: int, end: int) -> int:
        """The phase of a step from cycle ``start`` to the ``done`` in cycle ``end``; returns the start of the next."""
        phase = member(self.numbers, step)
        self.phases.append((start, int(phase), layer))
        self.spent[phase] += end + 1 - start
        return end + 1

    def norm(self, section: Section, n: int, start: int) -> int:
        """Norm n rows from the cycle that gives the first command, with the gains of a record. Returns the cycle of the
        last `done`."""
        # the record waits in the dispatcher's register until the norm before it has given up its gains
        before = max(self.taken, self.normed - 2)
        if self.waits:                  # ... and where matrices are logic and records have vectors, for its phase
            before = max(before, start - 1)
        self.taken = weights.record_end(section, before)
        if self.waits and section.vectors:
            self.vectors_in = start + 1 + section.granules      # one a cycle, from the phase's second cycle on
        self.normed = start + norm_cycles(self.design, n, read_latency=residual.READ_LATENCY)
        return self.normed

    def project(self, name: str) -> Project:
        """The project of that name."""
        return next(project for project in self.design.block.of(Project) if project.name == name)

    def logic(self, name: str, layer: int | None, start: int, ops: int) -> WiredTimes | AdaptedWires:
        """The same of one that is logic, whose first slice comes in cycle ``ops``."""
        matrix, bits = self.wires[name, layer], max(matrix.bits for matrix in self.wires.values())
        wired = wired_cycles(self.design, matrix, bits, max(ops, self.vectors_in))
        if self.runs and layer is not None:
            adapted = adapted_wired_cycles(self.design, wired, self.design.adapter_matmuls(self.project(name)), start,
                                           ops, vector_buffer.READ_LATENCY)
            self.busy += adapted.busy
            self.starved += adapted.starved
            self.blocked += adapted.blocked
            return adapted
        self.busy += wired.busy
        return behind_adder(wired) if self.design.hw.adapters else wired

    def matmul(self, name: str, layer: int | None, n: int, start: int) -> MatmulTimes | WiredTimes | AdaptedWires:
        """Feed a matrix to the array from the cycle that gives the command. Returns the array's `MatmulTimes`, or what
        there is of one that is logic."""
        ops = start + feeder.REQUEST_LATENCY + vector_buffer.READ_LATENCY
        if self.design.hw.is_logic(name):
            return self.logic(name, layer, start, ops)
        section = self.design.stream[name, layer]
        matmul, tiling = weights.matrix_of(section)
        tile = weights.tile_after_tile_cycle(tiling, self.taken)
        if self.runs and section.layer is not None:
            times = adapted_cycles(self.design, matmul, self.design.adapter_matmuls(self.project(name)), n, self.runs,
                                   start, ops, tile, tiling, vector_buffer.READ_LATENCY)
        else:
            if self.runs:       # the base's tiles wait for the command
                tile = max(tile, start + 1)
            times = matmul_cycles(self.design, matmul, n, ops, tile, tiling)
        self.busy += times.busy
        self.starved += times.starved
        self.blocked += times.blocked
        self.taken = times.last_take
        return times

    def step(self, step: Step | str, layer: int, start: int) -> int:
        """The cycle of the last `done` of a layer's step."""
        design, n = self.design, self.n
        if isinstance(step, Norm):
            return norm_end(design, step, self.norm(design.stream[step.name, layer], n, start))
        if isinstance(step, Project):
            return sink_end(design, step, self.matmul(step.name, layer, n, start), n)
        if isinstance(step, Store):
            return start + kv_write_cycles(design, n, read_latency=vector_buffer.READ_LATENCY)
        return start + attention_cycles(design, self.positions, design.window(layer), kv_settled(design, n))[1]

    def layer(self, layer: int, start: int) -> int:
        for step in self.design.block.steps:
            start = self.phase(step, layer, start, self.step(step, layer, start))
        return start


def pass_timeline(design: Design, positions: Sequence[int], wants: Sequence[bool], closed: int | None = None,
                  adapters: Iterable[int] = (),
                  wires: Mapping[tuple[str, int | None], FixedMatrix] | None = None) -> Timeline:
    """`Timeline` of a pass of entries at ``positions``, of which those with a true ``wants`` want output.

    ``closed`` is the cycle in which the sequencer takes the end of the pass (`golden.admission`): everything follows
    from there. Without it, all entries are let in without delay. ``adapters``: the number of each entry's, or nothing.
    ``wires``: of the matrices that are logic, {(name, layer): `FixedMatrix`} (`hwgen.models.wires`).
    """
    if design.hw.wired and wires is None:
        raise ValueError("Matrices must be given where they are logic: how long they take depends on them")
    closed = admission.closed_cycle(design, len(positions)) if closed is None else closed
    if design.hw.halves == 2:
        return alternating_timeline(design, positions, wants, closed, list(adapters))
    p = _Pass(design, list(positions), runs(adapters), wires)
    n, wanted = p.n, sum(map(bool, wants))
    asked = closed + 1
    p.taken = asked + weights.record_first(design, n)
    embedded = asked + weights.embed_done_cycle(design, n) + residual.DONE_LATENCY
    s = p.phase("embed", 0, closed + 2, max(embedded, asked + rope.angle_cycles(design, n)))
    for layer in range(design.layers):
        s = p.layer(layer, s)
    if wanted:
        s = p.phase(FINAL_NORM, 0, s, p.norm(design.stream[FINAL_NORM], wanted, s))
        times = p.matmul(HEAD, None, wanted, s + design.head_delay)
        outcomes = [times.granule(-1, row) + sample_latency(design) - 1 for row in range(wanted)]
        s = p.phase(HEAD, 0, s, outcomes[-1] + 1)
    else:
        outcomes = [s]
    p.phases.append((s, int(p.numbers.FINISH), 0))
    if not wanted:
        p.phases.append((s + 1, int(p.numbers.IDLE), 0))
    outcomes = [cycle + admission.RESULT_LATENCY for cycle in outcomes]

    def spent(*steps):
        return sum(p.spent[member(p.numbers, step)] for step in steps)

    block = design.block
    return Timeline(phases=[x for x in p.phases if x[0] <= outcomes[-1]], outcomes=outcomes, counters={
        "cycles": outcomes[-1], "mac_busy": p.busy, "mac_starved": p.starved, "mac_blocked": p.blocked,
        "norm": spent(*block.of(Norm), FINAL_NORM), "attention": spent(block.store, block.attend),
        "embed": spent("embed"), "weight_beats": weights.beats_taken(design, n, wanted > 0),
        "weight_waits": weights.waits(design)})
