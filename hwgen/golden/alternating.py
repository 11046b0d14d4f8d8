"""Twin of `hwgen.top.alternating`: when everything in a pass of two alternating half-batches happens."""
from ..params.phases import Phase
from . import convert, feeder, residual, rope, swiglu, vector_buffer, weights
from .attention import attention_cycles
from .kv_cache import kv_write_cycles
from .mac_array import matmul_cycles
from .rmsnorm import norm_cycles
from .sampler import sample_latency
from .timeline import Timeline

__all__ = ["alternating_timeline"]

_NORMS = (Phase.NORM_1, Phase.NORM_2, Phase.NORM_F)


def alternating_timeline(design, positions, wants, closed):
    """`Timeline` of a pass as `golden.sequencer.pass_timeline`: entries in the first half of the rows are half-batch 0, the others 1.

    The weight stream's pieces are laid out one after the other, each matrix a phase of the array: from the cycle after the one before
    it, and after its input is there, to the cycle in which all of its results are readable. Norms, and attention, run beside the array.
    """
    half, n, rows = design.half_batch(), len(positions), design.hw.entries // 2
    positions = [list(positions[:rows]), list(positions[rows:])]
    counts = [len(p) for p in positions]
    attention = [attention_cycles(half, p)[1] if p else 0 for p in positions]
    wanted = [sum(map(bool, w)) for w in (wants[:rows], wants[rows:])]
    asked = closed + 1
    embedded = max(asked + weights.embed_done_cycle(design, n) + residual.DONE_LATENCY, asked + rope.angle_cycles(design, n))
    phases, spent = [(0, int(Phase.IDLE), 0), (closed + 2, int(Phase.EMBED), 0)], {"norm": 0, "attention": 0}
    busy = starved = blocked = 0

    end = embedded                                          # of the latest phase of the array
    attended = normed = 0                                   # attention's and the norm unit's latest `done`
    ready = [0, 0]                                          # the `done` of each half's latest norm
    taken = asked + weights.record_first(design, n)         # the stream: its latest tile, or what stands for it
    after = weights.tile_after_tile_cycle
    outcomes = []
    matmuls = {Phase.QKV: half.qkv_matmul, Phase.O: half.o_matmul, Phase.GATE_UP: half.gate_up_matmul, Phase.DOWN: half.down_matmul,
               Phase.HEAD: half.head_matmul}
    for phase, x, layer in weights.pieces(design, counts[1] > 0, [w > 0 for w in wanted]):
        if phase in _NORMS:
            # a record waits in the dispatcher's register until the norm before it has given up its gains
            taken = max(taken, normed - 2)
            after = weights.tile_after_record_cycle
            end += 1                                        # in which the sequencer sees it, and sets off its norm
            phases.append((end, int(phase), layer))
            start = max(end, normed) + 1
            normed = start + norm_cycles(half, wanted[x] if phase == Phase.NORM_F else counts[x], read_latency=residual.READ_LATENCY)
            ready[x] = normed
            spent["norm"] += normed + 1 - start
            continue
        start = max(end, {Phase.O: attended, Phase.DOWN: 0}.get(phase, ready[x])) + 1
        phases.append((end + 1, int(phase), layer))
        count = wanted[x] if phase == Phase.HEAD else counts[x]
        fed = start + (design.head_delay if phase == Phase.HEAD else 0)
        times = matmul_cycles(half, matmuls[phase], count, fed + feeder.REQUEST_LATENCY + vector_buffer.READ_LATENCY, after(design, taken))
        busy, starved, blocked = busy + times.busy, starved + times.starved, blocked + times.blocked
        taken, after = times.last_take, weights.tile_after_tile_cycle
        if phase == Phase.QKV:
            real = times.granule(design.qkv_heads * design.head // design.hw.vector_lanes - 1)
            end = max(real + convert.latency(design) + rope.ROPE_LATENCY + vector_buffer.WRITE_LATENCY,
                      times.granule(-1) + 1)                # padding goes through convert, and ends there
            written = end + 1 + kv_write_cycles(half, count, read_latency=vector_buffer.READ_LATENCY)
            attended = written + 1 + attention[x]
            spent["attention"] += attended - end
        elif phase == Phase.GATE_UP:
            end = times.granule(-1) + convert.latency(design) + swiglu.LATENCY + vector_buffer.WRITE_LATENCY
        elif phase == Phase.HEAD:
            outcomes += [times.granule(-1, row) + sample_latency(design) - 1 for row in range(count)]
            end = outcomes[-1] + 1
        else:
            end = times.granule(-1) + residual.DONE_LATENCY
    phases.append((end + 1, int(Phase.FINISH), 0))
    outcomes = outcomes or [end + 1]
    # two LM heads are one phase to see
    seen = [x for before, x in zip([None, *phases], phases) if x[0] <= outcomes[-1] and (before is None or before[1:] != x[1:])]
    return Timeline(phases=seen, outcomes=outcomes, counters={
        "cycles": outcomes[-1], "mac_busy": busy, "mac_starved": starved, "mac_blocked": blocked, **spent,
        "embed": embedded - closed - 1, "weight_beats": weights.beats_taken(design, n, [w > 0 for w in wanted]),
        "weight_waits": weights.waits(design)})
