"""Wrong bits of the records, the norms' sections of the weight stream: exponents of matrices, gains and biases."""
from collections.abc import Callable, Iterator

import numpy as np

from ...golden.numbers import bf16, bf16_value
from ...golden.qk_norm import qk_norm
from ...golden.rmsnorm import rms_norm
from ...lib.layouts import EXP_BITS
from .broken import flipped_exponent
from .case import Case, Suspect, batches
from .stages import Stages, put

__all__ = ["probe_exponents", "probe_vectors"]

#: ``after(i, values)``: residuals after the layer, each with a value instead of the i-th number.
_After = Callable[[np.ndarray, np.ndarray], np.ndarray]


def probe_exponents(case: Case) -> Iterator[Suspect]:
    """Exponents of the matrices; those of matrices that are logic are logic too."""
    streamed = {name for project in case.stages.projects.values() if case.design.stream.has_tiles(project.name)
                for name in project.matrices}
    for norm in case.stages.norms:
        section = case.design.stream[norm, case.index]
        for i, name in enumerate(section.exponents):
            if name not in streamed:
                continue
            for bit in range(EXP_BITS):
                case.tried += 1
                alter = case.setting("exps", {**case.layer.exps, name: flipped_exponent(case.layer.exps[name], bit)})
                if case.replay(case.altered(alter)) == case.seen:
                    yield case.weight(section, 2 * i + bit // 8, bit % 8, alter)


def probe_vectors(case: Case) -> Iterator[Suspect]:
    """Gains and biases."""
    design, v = case.design, case.design.hw.vector_lanes
    for norm in case.stages.norms.values():
        section = design.stream[norm.name, case.index]
        words = case.stored[section.name].reshape(-1).view("<u2")
        start = design.record_header_granules * v
        if not norm.plain:
            yield from _words(case, section, words, start, "gains", norm.name, _gains(case.stages, norm.name))
        start += design.padded_hidden_size
        for vector, (name, granules) in zip(design.block.vectors(norm.name), section.vectors):
            after = _biases(case.stages, vector.project) if vector.project else _qk_gains(case.stages, vector)
            yield from _words(case, section, words, start, "vectors", name, after)
            start += granules * v


def _words(case: Case, section, words: np.ndarray, start: int, attribute: str, name: str,
           after: _After) -> Iterator[Suspect]:
    """bf16 numbers of a record from a word on, ``name`` of the layer's ``attribute``."""
    right = getattr(case.layer, attribute)
    own = words[start:start + len(right[name])]
    projects = map(case.design.matmul, case.stages.projects)
    widest = max(case.design.padded_hidden_size, *(project.rows for project in projects))
    for bit in range(16):
        wrong = own ^ np.uint16(1 << bit)
        case.tried += int((wrong & 0x7F80 != 0x7F80).sum())         # others are no numbers of the machine's
        values = bf16_value(np.where((wrong & 0x7F80 == 0) | (wrong & 0x7F80 == 0x7F80), 0, wrong))
        felt = np.flatnonzero((wrong & 0x7F80 != 0x7F80) & (values != right[name]))
        for part in batches(len(felt), len(case.x) * widest):
            i = felt[part]
            for hit in case.hits(after(i, values[i])):
                changed = right[name].copy()
                changed[i[hit]] = values[i[hit]]
                alter = case.setting(attribute, {**right, name: changed})
                yield case.weight(section, 2 * (start + i[hit]) + bit // 8, bit % 8, alter)


def _gains(stages: Stages, norm: str) -> _After:
    """Of other gains of a norm."""
    x, gains = stages.rows[norm], stages.layer.gains[norm]
    # [m, 1, hidden_size]
    right, unit = (rms_norm(stages.design, x, gain)[:, None] for gain in (gains, np.ones_like(gains)))

    def after(i, values):
        return stages.after_normed(norm, put(right, i, bf16(unit[:, 0, i] * values)).reshape(-1, x.shape[1]))
    return after


def _qk_gains(stages: Stages, vector) -> _After:
    """Of other gains of queries or of keys."""
    block, vectors, head = stages.design.block, stages.layer.vectors, stages.design.padded_head_dim
    ones = (np.ones_like(vectors[block.gain_of(matrix).name]) for matrix in (block.queries, block.keys))
    right, unit = stages.qk_normed(stages.to_norm), qk_norm(stages.design, stages.to_norm, *ones)
    of = stages.design.heads_of(block.matrix(vector.matrix))

    def after(i, values):
        gains = np.repeat(vectors[vector.name][None], len(i), axis=0)
        gains[np.arange(len(i)), i] = values
        heads = np.repeat(right[None], len(i), axis=0)
        heads[:, :, of] = bf16(unit[:, of] * gains.reshape(len(i), 1, -1, head))
        return stages.after_qk_norm(heads)
    return after


def _biases(stages: Stages, project: str) -> _After:
    """Of other biases of a project."""
    acc, exp = stages.decoder.products(stages.index, stages.projects[project], stages.inputs[project])
    return lambda i, values: stages.after_outputs(project, i, stages.outputs(project, i, acc[:, i], exp, values))
