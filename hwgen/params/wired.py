"""A matrix of fixed weights as a network of adders, which `hwgen.units.wired` builds as logic, and its timing.

Every weight is a sum of few signed powers of two (canonical signed digits), so every output is a sum of shifted inputs
with signs. Pairs of such terms that many outputs have are made once (Hartley, "Subexpression sharing in filters using
canonic signed digit multipliers", IEEE TCAS-II 43, 1996): the commonest first, in blocks of inputs, so that the work
grows as the number of weights does. What then is left of each output is summed by a tree.
"""
import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .formats import Fp8

__all__ = ["BLOCK_INPUTS", "FixedMatrix", "Network", "Plan", "digits", "frame_bits", "network"]

#: Inputs among which pairs are shared: twice as many take twice the time for some 4 % fewer adders.
BLOCK_INPUTS = 64
#: Outputs that are looked at together.
BLOCK_OUTPUTS = 4096

#: Is called with (weights done, weights in all).
Progress = Callable[[int, int], object]


def digits(value: int) -> list[tuple[int, int]]:
    """An integer as signed powers of two of which no two are neighbours: [(exponent, negative)], the fewest that there
    are."""
    found, exponent = [], 0
    while value:
        if value & 1:
            negative = value & 3 == 3
            found.append((exponent, int(negative)))
            value += 1 if negative else -1
        value >>= 1
        exponent += 1
    return found


def frame_bits(ints: np.ndarray, activation: Fp8) -> int:
    """Bits of a signed number that holds any output of a matrix, for finite codes of a format: int [outputs, inputs] ->
    int."""
    largest = np.abs(np.asarray(ints, np.int64)).sum(axis=1).max(initial=0) * activation.max_int
    return max(int(largest).bit_length() + 1, activation.int_bits + 1)


@dataclass
class Network:
    """Adders, each of two numbers that are there: node i of the first ``inputs`` is an input, and each adder makes the
    next one.

    inputs      how many
    adders      [(a, shift of a, b, shift of b, negative)]: a * 2**shift + b * 2**shift, or minus; one of the shifts is
                0
    outputs     [(node, shift)], or None for an output that is 0
    """
    inputs: int
    adders: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    outputs: list[tuple[int, int] | None] = field(default_factory=list)

    def nodes(self, x: np.ndarray) -> list[np.ndarray]:
        """All numbers that inputs int64 [..., inputs] make: [int64 [...]] of each node."""
        nodes = list(np.moveaxis(np.asarray(x, np.int64), -1, 0))
        for a, shift_a, b, shift_b, negative in self.adders:
            left, right = nodes[a] << shift_a, nodes[b] << shift_b
            nodes.append(left - right if negative else left + right)
        return nodes

    def values(self, x: np.ndarray) -> np.ndarray:
        """Outputs of inputs int64 [..., inputs], by the adders: int64 [..., outputs]."""
        nodes, zero = self.nodes(x), np.zeros(np.shape(x)[:-1], np.int64)
        return np.stack([zero if at is None else nodes[at[0]] << at[1] for at in self.outputs], axis=-1)


def network(ints: np.ndarray, progress: Progress | None = None) -> Network:
    """The `Network` of a matrix: int [outputs, inputs]. ``progress``, if given, is called with (weights done, weights
    in all)."""
    ints = np.asarray(ints, np.int64)
    outputs, inputs = ints.shape
    made, depth = Network(inputs), [0] * inputs
    known = {value: digits(value) for value in np.unique(ints).tolist()}
    for top in range(0, outputs, BLOCK_OUTPUTS):
        rows = ints[top:top + BLOCK_OUTPUTS]
        rest = [[] for _ in rows]
        for left in range(0, inputs, BLOCK_INPUTS):
            block = rows[:, left:left + BLOCK_INPUTS].tolist()
            terms = [[(left + i, *digit) for i, value in enumerate(row) if value for digit in known[value]]
                     for row in block]
            for found, new in zip(rest, _share(made, depth, terms)):
                found += new
            if progress:
                progress(top * inputs + len(rows) * min(left + BLOCK_INPUTS, inputs), ints.size)
        made.outputs += [_sum(made, depth, found) for found in rest]
    return made


def _add(made, depth, *adder):
    made.adders.append(adder)
    depth.append(max(depth[adder[0]], depth[adder[2]]) + 1)
    return len(depth) - 1


# A term of an output is a node, shifted, with a sign. A pair of terms is an integer that is the same for all pairs that
# are the same but for a shift and a sign of both: of its two nodes, the difference of their shifts (5 bits and its
# sign) and whether their signs differ. It is the sum of a part of the first term and one of the second (the one with
# the larger node, or shift), and an exclusive or of both signs.

def _first(node, shift):
    return (node << 40) - 2 * shift


def _second(node, shift):
    return (node << 10) + 2 * shift + 64


def _share(made, depth, rows):
    """Replaces the pairs that are there more than once: terms (node, shift, negative) of each output -> the terms that
    are left."""
    outputs, places, pairs = [], {}, []
    for number, terms in enumerate(rows):
        outputs.append({node << 5 | shift: (_first(node, shift), _second(node, shift), negative)
                        for node, shift, negative in sorted(terms)})
        for node, shift, _ in terms:
            places.setdefault(node, []).append((number, shift))
        if len(terms) > 1:
            first, second, negative = np.array(list(outputs[-1].values())).T
            i, j = np.triu_indices(len(terms), 1)
            pairs.append(first[i] + second[j] + (negative[i] ^ negative[j]))
    found, often = np.unique(np.concatenate(pairs), return_counts=True) if pairs else (np.empty(0), np.empty(0))
    counts = Counter(dict(zip(found.tolist(), often.tolist())))
    heap = [(-count, pair) for pair, count in counts.items() if count > 1]
    heapq.heapify(heap)
    while heap:
        count, pair = heapq.heappop(heap)
        if counts[pair] != -count:      # it has become rarer since
            if counts[pair] > 1:
                heapq.heappush(heap, (-counts[pair], pair))
            continue
        _replace(made, depth, outputs, places, counts, heap, pair)
    return [[(key >> 5, key & 31, term[2]) for key, term in terms.items()] for terms in outputs]


def _replace(made, depth, outputs, places, counts, heap, pair):
    """One adder for a pair, wherever that is."""
    a, b, apart, differ = pair >> 40, pair >> 10 & (1 << 30) - 1, (pair >> 1 & 511) - 32, pair & 1
    if len(places[a]) <= len(places[b]):
        candidates = [(number, shift, shift + apart) for number, shift in places[a]]
    else:
        candidates = [(number, shift - apart, shift) for number, shift in places[b]]
    node, more = None, []
    for number, shift_a, shift_b in candidates:
        terms = outputs[number]
        if min(shift_a, shift_b) < 0:
            continue
        key_a, key_b = a << 5 | shift_a, b << 5 | shift_b
        if key_a not in terms or key_b not in terms or terms[key_a][2] ^ terms[key_b][2] != differ:
            continue
        if node is None:
            node = _add(made, depth, a, max(0, -apart), b, max(0, apart), differ)
            here = places[node] = []
        first_a, second_a, negative = terms.pop(key_a)
        first_b, second_b, negative_b = terms.pop(key_b)
        first_a, second_a, first_b, second_b = (first_a + negative, second_a + negative, first_b + negative_b, second_b
                                                + negative_b)
        for key, (first, second, sign) in terms.items():
            counts[(first_a + second if key_a < key else first + second_a) ^ sign] -= 1
            counts[(first_b + second if key_b < key else first + second_b) ^ sign] -= 1
        shift = min(shift_a, shift_b)
        key_new, first_new, second_new = node << 5 | shift, _first(node, shift), _second(node, shift)
        one, two = first_new + negative, second_new + negative
        more += [(first + two if key < key_new else one + second) ^ sign
                 for key, (first, second, sign) in terms.items()]
        terms[key_new] = first_new, second_new, negative
        here.append((number, shift))
    counts[pair] = 0
    for key, count in Counter(more).items():
        counts[key] = count = counts[key] + count       # an output that has the pair twice has taken some away already
        if count > 1:
            heapq.heappush(heap, (-count, key))


def _sum(made, depth, terms):
    """An output's terms added up, those of one shift first, as a tree of the least depth: (node, shift), or None."""
    classes, left = {}, None
    for node, shift, negative in terms:
        classes.setdefault(shift, []).append((depth[node], node, 0, negative))
    for shift in sorted(classes, reverse=True):
        pool = classes[shift]
        if left is not None:
            node, above, negative = left
            pool.append((depth[node], node, above - shift, negative))
        heapq.heapify(pool)
        while len(pool) > 1:
            one, two = heapq.heappop(pool), heapq.heappop(pool)
            (_, a, shift_a, negative), (_, b, shift_b, negative_b) = (two, one) if one[3] and not two[3] else (one, two)
            node = _add(made, depth, a, shift_a, b, shift_b, negative ^ negative_b)
            heapq.heappush(pool, (depth[node], node, 0, negative))
        left = (pool[0][1], shift + pool[0][2], pool[0][3])
    if left is None:
        return None
    node, shift, negative = left
    return (_add(made, depth, node, 0, node, 1, 1) if negative else node, shift)       # v - 2v = -v


class Plan:
    """The cycle in which each number of a `Network` is available, a bit a cycle and the least significant first, and
    the registers that this takes.

    An adder is a full adder and a register for its carry. It adds numbers of the same *time*, the cycle of their lowest
    bit after that of the inputs; of ``levels`` adders behind each other the last one has a register for its sum, whose
    time is one later. A shift by one is a register that is cleared before the lowest bit; a delay is a register. Both
    are there once for all that want them.

    adders      [(time, level)] of each adder: level 1 .. levels; those of the last have a register
    shifts      [(node, shift)]: shifted so far, by one from (node, shift - 1)
    delays      [(node, shift, time)]: the same later, from (node, shift, time - 1)
    operands    [((node, shift, time), (node, shift, time))] of each adder
    outputs     [(node, shift, time) or None]
    latency     the time of all outputs
    """

    def __init__(self, made: Network, levels: int = 1) -> None:
        if levels < 1:
            raise ValueError(f"Adders behind each other must be at least 1, not {levels}")
        self.network, self.levels = made, levels
        self.ready = [(0, 0)] * made.inputs       # time and level of each node
        self.adders, self.operands = [], []
        latest = {}     # (node, shift) -> the latest time that is wanted of it
        for a, shift_a, b, shift_b, _ in made.adders:
            (time_a, level_a), (time_b, level_b) = self.ready[a], self.ready[b]
            time = max(time_a, time_b)
            level = 1 + max(level_a if time_a == time and not shift_a else 0, level_b if time_b == time
                            and not shift_b else 0)
            self.adders.append((time, level))
            self.operands.append(((a, shift_a, time), (b, shift_b, time)))
            for node, shift in ((a, shift_a), (b, shift_b)):
                latest[node, shift] = max(latest.get((node, shift), 0), time)
            self.ready.append((time + 1, 0) if level == levels else (time, level))
        self.latency = max((self.ready[at[0]][0] for at in made.outputs if at), default=0)
        self.outputs = [at and (*at, self.latency) for at in made.outputs]
        for at in filter(None, made.outputs):
            latest[at] = self.latency
        deepest = {}
        for node, shift in latest:
            deepest[node] = max(deepest.get(node, 0), shift)
        self.shifts = [(node, shift) for node, last in deepest.items() for shift in range(1, last + 1)]
        self.delays = [(node, shift, time) for (node, shift), last in latest.items()
                       for time in range(self.ready[node][0] + 1, last + 1)]

    def registers(self) -> dict[str, int]:
        """{kind: flip-flops}."""
        return {"carry": len(self.adders), "sum": sum(level == self.levels for _, level in self.adders),
                "shift": len(self.shifts), "delay": len(self.delays), "clear": self.latency}


class FixedMatrix:
    """A matrix that is logic.

    Parameters
    ----------
    ints : int [outputs, inputs]            weights in units of 2**unit_exp of the array's format, the offsets of blocks
                                            in them
    activation : Fp8                        of the inputs
    levels : int                            adders behind each other in a cycle: more of them are fewer registers, and a
                                            slower clock
    rows : int [outputs] or None            offsets of rows, which leave with the sums
    exponents : {name: int}                 of the model's matrices that it is made of, as a record has them
    progress                                as `network`

    ``plan``, ``bits`` (of a sum), ``size`` (outputs, inputs), ``rows`` and ``exponents`` are what there is to know of
    it.
    """

    def __init__(self, ints: np.ndarray, activation: Fp8, levels: int = 1, rows: np.ndarray | None = None,
                 exponents: dict[str, int] | None = None, progress: Progress | None = None) -> None:
        self.size, self.rows, self.exponents = ints.shape, rows, exponents
        self.bits = frame_bits(ints, activation)
        self.plan = Plan(network(ints, progress), levels)

    @property
    def latency(self) -> int:
        """Cycles from an input's lowest bit to the lowest one of all sums."""
        return self.plan.latency
