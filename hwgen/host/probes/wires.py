"""Registers that keep one value, of the matrices that are logic."""
from collections.abc import Iterator

import numpy as np

from ...golden.numbers import fp8_ints
from ...golden.vector_buffer import quantize
from ...lib.wires import registers
from ...models.wires import fixed_matrices, matrix_name
from ..diagnosis.faults import WireFault
from .broken import Stuck
from .case import MOST, Alter, Case, Suspect, batches

__all__ = ["probe_wires"]


def probe_wires(case: Case) -> Iterator[Suspect]:
    """Every register of the layer's matrices, always 0 and always 1."""
    logic = [name for name in case.stages.projects if case.design.hw.is_logic(name)]
    wires = fixed_matrices(case.quantized, case.design) if logic else {}
    for name in logic:
        size, words = getattr(case.layer, name).size, registers(wires[name, case.index].plan)
        if 2 * sum(map(len, words.values())) * (size + case.stages.behind(name)) > MOST:
            case.untried.append(f"registers of {name}, of which there are too many")
        else:
            yield from _matrix(case, name, wires, words)


def _matrix(case: Case, name: str, wires: dict, words: dict) -> Iterator[Suspect]:
    """Registers of one matrix: ``words`` of them by their names."""
    ints, fmt = getattr(case.layer, name), case.design.recipe.activation_format
    stuck = Stuck(wires[name, case.index], wires)
    codes, exp = quantize(case.stages.inputs[name], fmt)
    inputs = fp8_ints(codes, fmt).astype(np.int64)
    acc, nodes = inputs @ ints.T.astype(np.int64), stuck.nodes(inputs)
    total, _ = case.decoder.products(case.index, case.stages.projects[name], case.stages.inputs[name])
    more = total.astype(np.int64) - acc         # of the entry's adapter, which the array adds
    places = [(word, bit, value, register) for word, of in words.items() for bit, register in enumerate(of)
              for value in (0, 1)]
    case.tried += len(places)
    for part in batches(len(places), len(case.x) * max(acc.shape[1], case.design.padded_intermediate_size)):
        new = np.array([stuck.sums(acc, register, value, nodes) for *_, value, register in places[part]])
        felt = np.flatnonzero((new != acc).any(axis=(1, 2)))
        for hit in felt[case.hits(case.stages.after_sums(name, new[felt] + more, exp))] if len(felt) else ():
            word, bit, value, register = places[part.start + hit]
            fault = WireFault(f"{matrix_name(name, case.index)}.{word}", bit, value)
            where = f"{fault.where(case.design)}: layer {case.index}, {name}, {_text(register)}"
            yield Suspect(fault, "wired", where, _keeps(ints, stuck, register, value))


def _text(register: tuple) -> str:
    kind, at, *rest = register
    return {"carry": f"carry of adder {at}", "sum": f"sum of adder {at}",
            "shift": f"number {at} times {1 << rest[0] if rest else 1}",
            "delay": f"number {at}, delayed"}[kind]


def _keeps(ints: np.ndarray, stuck: Stuck, register: tuple, value: int) -> Alter:
    """Puts a register that keeps a value into a decoder."""
    def alter(decoder):
        decoder.stuck = ints, stuck, register, value
    return alter
