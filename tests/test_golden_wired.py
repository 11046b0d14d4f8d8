"""Matrices as networks of adders: exact, of few adders, and what `Plan` says of registers and times."""
import numpy as np
import pytest

from hwgen.golden.wired import Effects, wired_cycles
from hwgen.lib.wires import registers, wires_text
from hwgen.params.formats import E2M1, E3M4, E4M3
from hwgen.params.wired import BLOCK_INPUTS, FixedMatrix, Network, Plan, digits, frame_bits, network
from sim.designs import small_design
from sim.wired_units import serial_sums


def random_ints(fmt, outputs, inputs, seed=1):
    rng = np.random.default_rng(seed)
    values = fmt.values()[rng.integers(0, 1 << fmt.bits, (outputs, inputs))]
    return values * (rng.random(values.shape) < 0.9)


def test_digits_are_the_value_and_no_neighbours():
    for value in range(-600, 601):
        found = digits(value)
        assert sum((-1 if negative else 1) << exponent for exponent, negative in found) == value
        assert all(b - a > 1 for (a, _), (b, _) in zip(found, found[1:]))


@pytest.mark.parametrize("fmt", [E2M1, E3M4, E4M3], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (30, 20), (12, BLOCK_INPUTS + 7)])
def test_network_is_the_matrix(fmt, shape):
    ints = random_ints(fmt, *shape)
    x = np.random.default_rng(2).integers(-1000, 1001, (4, shape[1]))
    assert (network(ints).values(x) == x @ ints.T).all()


def test_rows_that_are_nothing_negative_or_alike():
    ints = np.array([[0, 0, 0], [-1, -2, -3], [5, 0, 0], [-8, 0, 0], [1, 2, 3], [1, 2, 3]])
    made, x = network(ints), np.random.default_rng(3).integers(-9, 10, (7, 3))
    assert (made.values(x) == x @ ints.T).all()
    assert made.outputs[0] is None and made.outputs[4] == made.outputs[5]


def test_common_pairs_are_made_once():
    """64 x 64 weights in E2M1 have 1.2 digits each; with shared pairs 0.6 adders."""
    ints = random_ints(E2M1, 64, 64)
    apart = sum(len(digits(int(value))) for value in ints.ravel()) - 64
    assert len(network(ints).adders) < 0.55 * apart


def test_progress_is_of_all_weights():
    seen = []
    network(random_ints(E2M1, 6, 2 * BLOCK_INPUTS + 1), lambda done, total: seen.append((done, total)))
    weights = 6 * (2 * BLOCK_INPUTS + 1)
    assert [done for done, _ in seen] == [6 * BLOCK_INPUTS, 12 * BLOCK_INPUTS, weights]
    assert {total for _, total in seen} == {weights}


def test_frames_hold_the_largest_sum():
    ints = np.array([[3, -4], [1, 1]])
    for fmt in E3M4, E4M3:
        assert 7 * fmt.max_int < 1 << frame_bits(ints, fmt) - 1 <= 2 * 7 * fmt.max_int


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_numbers_that_are_added_are_of_one_time(levels):
    made = network(random_ints(E3M4, 20, 12))
    plan = Plan(made, levels)
    there = {(node, 0, time) for node, (time, _) in enumerate(plan.ready)} | {(node, shift, plan.ready[node][0])
                                                                              for node, shift in plan.shifts}
    for node, shift, time in plan.delays:
        assert (node, shift, time - 1) in there
        there.add((node, shift, time))
    for (time, level), operands in zip(plan.adders, plan.operands):
        assert all(at in there and at[2] == time for at in operands) and 1 <= level <= levels
    assert all(at is None or at in there and at[2] == plan.latency for at in plan.outputs)
    assert plan.registers()["carry"] == len(made.adders) and len(set(plan.delays)) == len(plan.delays)


def test_more_levels_are_fewer_registers():
    made = network(random_ints(E2M1, 40, 40))
    plans = [Plan(made, levels) for levels in (1, 2, 4, 50)]
    totals = [sum(plan.registers().values()) for plan in plans]
    assert totals == sorted(totals, reverse=True) and [plan.latency for plan in plans][-1] == 0
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Plan(Network(1), 0)


def test_cycles():
    """Slices, bits and latency, granules: nothing else but three registers."""
    design = small_design(lanes=4, columns=8, vector_lanes=4)
    matrix = FixedMatrix(random_ints(E3M4, 20, 12), E3M4)
    times = wired_cycles(design, matrix, 30, 100)
    assert times.taken == 102 and times.busy == 30 + matrix.latency
    assert times.last - times.first + 1 == 6 and times.first == times.taken + times.busy + 3
    assert times.ready == times.last - 1


@pytest.mark.parametrize("levels", [1, 3])
def test_registers_that_keep_a_value(levels):
    """What `Effects` says of each register is what a machine of registers does, cycle by cycle."""
    matrix, x = FixedMatrix(random_ints(E2M1, 9, 6), E3M4, levels), np.random.default_rng(4).integers(-500, 501, (5, 6))
    effects, nodes, bits = Effects(matrix), matrix.plan.network.nodes(x), matrix.bits + 3
    right = serial_sums(matrix, x, bits)
    assert (right == matrix.plan.network.values(x)).all()
    of = [register for word in registers(matrix.plan).values() for register in word]
    assert len(of) == len(set(of)) == sum(matrix.plan.registers().values()) - matrix.latency
    for register in of:
        for value in (0, 1):
            wrong, part = effects.effect(register, value, nodes)
            assert ((right + np.outer(wrong, part) - serial_sums(matrix, x, bits, (register, value))) % (1 << bits)
                    == 0).all(), (register, value)


def test_a_register_that_keeps_a_value_is_one_line():
    plan = FixedMatrix(random_ints(E2M1, 9, 6), E3M4).plan
    right = wires_text(plan).splitlines()
    for word, of in registers(plan).items():
        for value, end in ((0, f"& ~{len(of)}'h1;"), (1, f"| {len(of)}'h1;")):
            changed = [a for a, b in zip(wires_text(plan, (word, 0, value)).splitlines(), right, strict=True) if a != b]
            assert len(changed) == 1 and f" {word} <= " in changed[0] or changed[0].endswith(end)
