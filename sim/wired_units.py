"""Matrices for the bench of `Wired`, made of a bench's parameters."""
import numpy as np

from hwgen.params.wired import FixedMatrix
from hwgen.top import make
from sim.designs import small_design

__all__ = ["codes", "matrices", "serial_sums", "wired"]


def codes(rng, fmt, shape):
    """Finite codes of all kinds; a quarter of them large, and some 0."""
    magnitudes = np.where(rng.random(shape) < 0.25, fmt.max_code - rng.integers(0, 3, shape),
                          rng.integers(0, fmt.max_code + 1, shape))
    return (magnitudes * (rng.random(shape) < 0.9)).astype(np.uint8) | (rng.integers(0, 2, shape) << fmt.bits
                                                                        - 1).astype(np.uint8)


def matrices(design, sizes, levels):
    """{name: (codes, FixedMatrix)} of sizes [(outputs, slices)]; the first has a row of zeros, one of negative codes,
    and two rows alike."""
    fmt, rng, found = design.array_format, np.random.default_rng(7), {}
    for number, (outputs, slices) in enumerate(sizes):
        w = codes(rng, fmt, (outputs, slices * design.hw.lanes))
        if not number:
            w[0], w[-1] = 0, w[1]
            w[outputs // 2] |= 1 << fmt.bits - 1
        rows = rng.integers(0, 16, outputs) if design.scaled else None
        found[f"m{number}"] = w, FixedMatrix(fmt.values()[w], design.recipe.activation_format, levels, rows)
    return found


def wired(changes, sizes, levels):
    """(the design, its matrices, the unit)."""
    design = small_design(**changes)
    found = matrices(design, sizes, levels)
    return design, found, make.wired(design, {name: matrix for name, (_, matrix) in found.items()})


def serial_sums(matrix, x, bits, stuck=None):
    """Sums int64 [m, outputs] of ``bits`` bits, from all registers of a matrix in each cycle. ``stuck``: (register,
    value) of one that keeps its value."""
    plan, network, x = matrix.plan, matrix.plan.network, np.asarray(x, np.int64)
    state = {("carry", adder): negative for adder, (*_, negative) in enumerate(network.adders)}

    def kept(register, value):
        return stuck[1] if stuck and stuck[0] == register else value

    sums = np.zeros((len(x), len(plan.outputs)), np.int64)
    for cycle in range(plan.latency + bits):
        at = {(node, 0, 0): x[:, node] >> cycle & 1 for node in range(network.inputs)}
        at |= {(node, shift, plan.ready[node][0]): kept(("shift", node, shift), state.get(("shift", node, shift), 0))
               for node, shift in plan.shifts}
        at |= {key: kept(("delay", *key), state.get(("delay", *key), 0)) for key in plan.delays}
        after = {}
        for adder, (time, level) in enumerate(plan.adders):     # sums in registers are there before those of others
            if level == plan.levels:
                at[network.inputs + adder, 0, time + 1] = kept(("sum", adder), state.get(("sum", adder), 0))
        for adder, (time, level) in enumerate(plan.adders):
            negative = network.adders[adder][4]
            a, b = at[plan.operands[adder][0]], at[plan.operands[adder][1]] ^ negative
            carry = kept(("carry", adder), state["carry", adder])
            if level == plan.levels:
                after["sum", adder] = a ^ b ^ carry
            else:
                at[network.inputs + adder, 0, time] = a ^ b ^ carry
            after["carry", adder] = negative if cycle < time else a & b | carry & (a | b)
        after |= {("shift", node, shift): 0 if cycle < plan.ready[node][0] else at[node, shift - 1, plan.ready[node][0]]
                  for node, shift in plan.shifts}
        after |= {("delay", node, shift, time): at[node, shift, time - 1] for node, shift, time in plan.delays}
        for output, key in enumerate(plan.outputs):
            if key and cycle >= plan.latency:
                sums[:, output] |= at[key] << cycle - plan.latency
        state = after
    return (sums + (1 << bits - 1) & (1 << bits) - 1) - (1 << bits - 1)
