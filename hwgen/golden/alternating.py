"""Twin of `hwgen.top.alternating`: the cycle of every event in a pass of two alternating half-batches."""
from ..params.block import Norm
from ..params.phases import member, phases as phases_of
from ..params.stream import FINAL_NORM, HEAD
from . import admission, feeder, residual, rope, vector_buffer, weights
from .attention import attention_cycles
from .engines import norm_end, sink_end
from .kv_cache import kv_write_cycles
from .mac_array import matmul_cycles
from .rmsnorm import norm_cycles
from .sampler import sample_latency
from .timeline import Timeline

__all__ = ["alternating_timeline"]


def alternating_timeline(design, positions, wants, closed):
    """`Timeline` of a pass as `golden.sequencer.pass_timeline`: entries in the first half of the rows are half-batch 0, the others 1.

    The weight stream's pieces are laid out one after the other, each matrix a phase of the array: from the cycle after the one before
    it, and after its input is there, to the cycle in which all of its results are readable. Norms, and attention, run beside the array.
    """
    half, n, rows = design.half_batch(), len(positions), design.hw.entries // 2
    positions = [list(positions[:rows]), list(positions[rows:])]
    counts = [len(p) for p in positions]
    attention = [{window: attention_cycles(half, p, window)[1] if p else 0
                  for window in {design.window(i) for i in range(design.layers)}} for p in positions]
    wanted = [sum(map(bool, w)) for w in (wants[:rows], wants[rows:])]
    asked = closed + 1
    embedded = max(asked + weights.embed_done_cycle(design, n) + residual.DONE_LATENCY, asked + rope.angle_cycles(design, n))
    Phase = phases_of(design.block)
    phases, spent = [(0, int(Phase.IDLE), 0), (closed + 2, int(Phase.EMBED), 0)], {"norm": 0, "attention": 0}
    busy = starved = blocked = 0

    block = design.block
    steps = {step.name: step for step in block.steps}
    normed_first = [project for norm in block.of(Norm) for project in block.projects(norm.name)[:1] if norm.writes == "normed"]
    end = embedded                                          # of the latest phase of the array
    attended = normed = added = 0                           # attention's latest `done`, the norm unit's, and that of what follows it
    ready = [0, 0]                                          # when each half's latest norm can be read
    taken = asked + weights.record_first(design, n)         # the stream: its latest tile, or what stands for it
    outcomes = []
    for name, x, layer in weights.pieces(design, counts[1] > 0, [w > 0 for w in wanted]):
        phase, step = int(member(Phase, name)), steps.get(name)
        if name == FINAL_NORM or isinstance(step, Norm):
            section = design.stream[name] if name == FINAL_NORM else design.stream[name, layer]
            # a record waits in the dispatcher's register until the norm before it has given up its gains
            taken = weights.record_end(section, max(taken, normed - 2))
            end += 1                                        # in which the sequencer sees it, and sets off its norm
            phases.append((end, phase, layer))
            if block.post_norms:
                end = max(end, ready[x] + 1)                # a half has one norm at a time
            start = max(end, added) + 1
            normed = start + norm_cycles(half, wanted[x] if name == FINAL_NORM else counts[x], read_latency=residual.READ_LATENCY)
            added = ready[x] = normed if name == FINAL_NORM else norm_end(design, step, normed)
            spent["norm"] += added + 1 - start
            continue
        # its input is there: attention's, the norm's, or at once what the matrix before it has left
        if name == HEAD:
            waits = added if block.post_norms else ready[x]         # with norms of sums it is behind all of them
        else:
            waits = ready[x] if step in normed_first else attended if step == block.from_heads else 0
        start = max(end, waits) + 2                             # in the cycle before, the sequencer sees that it may
        phases.append((end + 1, phase, layer))
        count = wanted[x] if name == HEAD else counts[x]
        fed = start + (design.head_delay if name == HEAD else 0)
        section = design.stream[name] if name == HEAD else design.stream[name, layer]
        times = matmul_cycles(half, section.matmul, count, fed + feeder.REQUEST_LATENCY + vector_buffer.READ_LATENCY,
                              weights.tile_after_tile_cycle(section.tiling, taken), section.tiling)
        busy, starved, blocked = busy + times.busy, starved + times.starved, blocked + times.blocked
        taken = times.last_take
        if name == HEAD:
            outcomes += [times.granule(-1, row) + sample_latency(design) - 1 for row in range(count)]
            end = outcomes[-1] + 1
            continue
        end = sink_end(design, step, times, count)
        if step == block.into_heads:
            end = max(end, times.granule(-1) + 1)           # padding goes through convert, and ends there
            written = end + 1 + kv_write_cycles(half, count, read_latency=vector_buffer.READ_LATENCY)
            attended = written + 1 + attention[x][design.window(layer)]
            spent["attention"] += attended - end
    if not any(wanted):
        end = max(end, added)                               # the last piece may be a norm of sums
    phases.append((end + 1, int(Phase.FINISH), 0))
    if not outcomes:
        outcomes = [end + 1]
        phases.append((end + 2, int(Phase.IDLE), 0))
    outcomes = [cycle + admission.RESULT_LATENCY for cycle in outcomes]
    # two LM heads are one phase to see
    seen = [x for before, x in zip([None, *phases], phases) if x[0] <= outcomes[-1] and (before is None or before[1:] != x[1:])]
    return Timeline(phases=seen, outcomes=outcomes, counters={
        "cycles": outcomes[-1], "mac_busy": busy, "mac_starved": starved, "mac_blocked": blocked, **spent,
        "embed": embedded - closed - 1, "weight_beats": weights.beats_taken(design, n, [w > 0 for w in wanted]),
        "weight_waits": weights.waits(design)})
