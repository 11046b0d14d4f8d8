#!/usr/bin/env python3
"""Where the array stands still in decode with one entry, on the cycle model alone: SmolLM2-135M's shape on
latency-32x32, at a short and a long context; with larger engines beside the array, and with what these cost. And what
it would win if more of the phases overlapped: no machine does that yet."""
import argparse
import dataclasses

from hwgen.golden.attention import attention_cycles
from hwgen.golden.sequencer import pass_timeline
from hwgen.params.block import Norm, Project
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import SMOLLM2_135M
from hwgen.params.phases import member, phases
from hwgen.params.presets import hw_shape
from hwgen.params.stream import HEAD
from hwgen.plan.costs import logic
from tools import ledger

SHAPE = "latency-32x32,context=2048"
POSITIONS = 57, 1023
WIDE = "vector_lanes=32"


def machine(*more):
    return Design(model=SMOLLM2_135M, hw=hw_shape(",".join((SHAPE, *more)), SMOLLM2_135M), recipe=Recipe())


def lost(design, position):
    """{phase: (its cycles in a pass of one entry, those of them in which the array does not work)}, in their order;
    what they sum up to is the pass."""
    found, numbers = pass_timeline(design, [position], [True]), phases(design.block)
    cycles = dict.fromkeys(numbers, 0)
    ends = [start for start, *_ in found.phases[1:]] + [found.counters["cycles"]]
    for (start, phase, _), end in zip(found.phases, ends):
        cycles[numbers(phase)] += end - start
    busy = {member(numbers, step): design.layers * design.matmul(step.name).tiles for step in design.block.of(Project)}
    busy[member(numbers, HEAD)] = design.head_matmul.tiles
    return {phase: (count, count - busy.get(phase, 0)) for phase, count in cycles.items() if count}


def early_attention(design, position):
    """Cycles of a layer's attention behind QKV, if it began with a KV head as soon as that head's queries are there:
    the last head's at least."""
    model = design.model
    one = dataclasses.replace(design, model=dataclasses.replace(model, num_attention_heads=design.group,
                                                                num_key_value_heads=1))
    later = (design.kv_heads - 1) * design.group * design.padded_head_dim      # rows of queries behind the first head's
    matmul = design.matmul(design.block.into_heads.name)
    array = later // design.hw.columns * matmul.k_tiles * matmul.codes
    return max(attention_cycles(one, [position])[1], attention_cycles(design, [position])[1] - array)


def overlaps(position):
    """{overlap: the cycles of a pass that it would save}, each behind those before it."""
    design, wide = machine(), machine(WIDE)
    block, layers = wide.block, wide.layers
    numbers, there = phases(block), lost(wide, position)
    norms = layers * len(block.of(Norm)) + 1
    return {
        f"norms twice as wide ({WIDE})": sum(c for c, _ in lost(design, position).values()) - sum(
            c for c, _ in there.values()),
        "K and V written beside the queries' columns": there[member(numbers, block.store)][0],
        "attention of a KV head beside the next heads' queries":
            there[member(numbers, block.attend)][0] - layers * (early_attention(wide, position) + 1),
        "sums of squares while the residual is written":
            norms * wide.padded_hidden_size // wide.hw.vector_lanes}


def rows_at_once(position, rows):
    """Cycles that attention saves behind all `overlaps`, with so many rows of K and V a cycle."""
    wide = machine(WIDE)
    return wide.layers * (early_attention(wide, position) - early_attention(machine(WIDE, *at_once(rows)), position))


def at_once(rows):
    """Words of a shape with so many rows of K and V a cycle."""
    return f"attention_rows={rows}", f"kv_block={max(rows, 16)}"


#: What a machine may have today: words of its shape.
SIZED = {"as latency-32x32": (), "attention_rows=4": at_once(4), WIDE: (WIDE,),
         **{f"{WIDE}, attention_rows={rows}": (WIDE, *at_once(rows)) for rows in (4, 16, 32)}}


def sized():
    """[(name, value, unit, kind)] of machines whose engines are larger: how busy the array is, and LUTs."""
    rows = []
    for name, words in SIZED.items():
        for position in POSITIONS:
            found = lost(machine(*words), position)
            total, idle = (sum(of) for of in zip(*found.values()))
            rows.append((f"sized {name}/position {position:4}", round(1 - idle / total, 4), "", "derived"))
        rows.append((f"sized LUTs more {name}", round(luts(*words) - luts(), -3), "LUTs", "projected"))
    last = next(value for name, value, *_ in reversed(rows) if f"position {POSITIONS[1]}" in name)
    return [*rows, ("decode_1k_mac_utilization", last, "", "derived")]


def table(position):
    """[(name, value, unit, kind)] of a position: phases, then overlaps, each with those before it."""
    of, phase_cycles = f"position {position:4}", lost(machine(), position)
    total = sum(cycles for cycles, _ in phase_cycles.values())
    busy = total - sum(idle for _, idle in phase_cycles.values())
    rows = [(f"lost in {phase.name}/{of}", idle, "cycles", "derived")
            for phase, (_, idle) in phase_cycles.items() if idle]
    rows.append((f"lost in all/{of}", total - busy, "cycles", "derived"))
    few, many = rows_at_once(position, 4), rows_at_once(position, 16)
    steps = {**overlaps(position), "4 rows of K and V a cycle": few, "16 rows of K and V a cycle": many - few}
    rows.append((f"overlap 0 none/{of}", round(busy / total, 4), "", "derived"))
    for index, (name, saved) in enumerate(steps.items(), 1):
        total -= saved
        rows.append((f"overlap {index} {name}/{of}", round(busy / total, 4), "", "projected"))
    return rows


def luts(*more):
    """LUTs of a machine's logic, of the planner's estimate for ECP5."""
    return sum(kinds["LUT"] for kinds in logic(machine(*more), "ecp5").values())


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = [row for position in POSITIONS for row in table(position)]
    rows += [("overlap LUTs of norms twice as wide", round(luts(WIDE) - luts(), -3), "LUTs", "projected"),
             ("overlap LUTs of a row of K and V more", round(luts("attention_rows=2") - luts(), -3), "LUTs",
              "projected"), *sized()]
    for name, value, unit, _ in rows:
        print(f"{name:80} {value:>12,} {unit}")
    command = {"command": "python -m tools.bench_lost"}
    ledger.record("utilization.json", [{"name": name, "value": value, "unit": unit, "kind": kind, **command}
                                       for name, value, unit, kind in rows])


if __name__ == "__main__":
    main()
