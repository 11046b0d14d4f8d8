"""Choice of the next token: twin of `hwgen.units.sampler`."""
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from ..params.design import Design
from ..params.tables import SCORE_BITS, SCORE_FRACTION, NOISE_FRACTION, gumbel_table, neg_log_octaves, neg_log_table
from .numbers import acc_to_fixed, table
from .softcap import SOFTCAP_STAGES, softcap

__all__ = ["gumbel_noise", "noise_words", "sample", "sample_latency", "sample_lead", "scores",
           "threefry2x32"]

TEMPERATURE_FRACTION = 8
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA
ROUNDS = 13


# (uint32, uint32), (uint32, uint32) -> (uint32, uint32), arrays
def threefry2x32(key: tuple[ArrayLike, ArrayLike], counter: tuple[ArrayLike, ArrayLike],
                 rounds: int = ROUNDS) -> tuple[np.ndarray, np.ndarray]:
    """Threefry-2x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)."""
    mask = 0xFFFFFFFF
    k0, k1 = (np.asarray(k, np.int64) for k in key)
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = ((np.asarray(c, np.int64) + k) & mask for c, k in zip(counter, keys))
    for i in range(rounds):
        x0 = (x0 + x1) & mask
        turn = _ROTATIONS[i % 8]
        x1 = ((x1 << turn | x1 >> (32 - turn)) & mask) ^ x0
        if i % 4 == 3:
            j = i // 4 + 1
            x0 = (x0 + keys[j % 3]) & mask
            x1 = (x1 + keys[(j + 1) % 3] + j) & mask
    return x0, x1


# int, int [...] -> int64 [..., count], 32 bits each
def noise_words(seed: int, keys: ArrayLike, count: int) -> np.ndarray:
    """The random words of rows: counter block i makes those of tokens 2i and 2i + 1."""
    keys, blocks = np.asarray(keys, np.int64)[..., None], np.arange(-(-count // 2))
    words = np.stack(threefry2x32((seed, keys), (blocks, 0)), axis=-1)            # [..., blocks, 2]
    return words.reshape(*words.shape[:-2], -1)[..., :count]


def gumbel_noise(words: ArrayLike) -> np.ndarray:  # int [...], 32 bits -> int [...]
    """-ln(-ln(1 - w)) + 4 for w = (words + 1/2) / 2**32, in units of 2**-SCORE_FRACTION."""
    words = np.asarray(words, np.int64)
    upper = words >> 31 == 1
    v = (np.where(upper, ~words, words) & 0x7FFFFFFF) << 1 | 1                    # min(w, 1 - w) * 2**33
    zeros = 32 - np.frexp(v.astype(np.float64))[1]                                # v < 2**53: exact
    mantissa = (v << zeros >> 16) & 0x7FFF
    n = np.asarray(neg_log_octaves(), np.int64)[zeros] + table(neg_log_table(), mantissa)
    octave = np.frexp(n.astype(np.float64))[1] - NOISE_FRACTION                   # 0 for [1/2, 1)
    small = v >> 19
    large = (octave + 1 << 13) + ((n << 5 - octave >> 3) & 0x1FFF)
    y = table(gumbel_table(), np.where(upper, large, small))
    return np.where(upper, 0, n) + y >> (NOISE_FRACTION - SCORE_FRACTION)


# int [..., vocab], [...], int, int, [...] -> int [..., vocab]
def scores(design: Design, acc: ArrayLike, exponents: ArrayLike, inv_temperature: int, seed: int,
           keys: ArrayLike) -> np.ndarray:
    """Scores of rows, of which the largest is chosen. ``exponents``: weight exponent + activation exponent."""
    left = np.asarray(exponents, np.int64)[..., None] + design.acc_unit + SCORE_FRACTION
    logits = softcap(design.model.final_logit_softcapping, acc_to_fixed(acc, left, SCORE_BITS))
    noise = gumbel_noise(noise_words(seed, keys, logits.shape[-1]))
    return (logits * inv_temperature >> TEMPERATURE_FRACTION) + noise


def sample(design: Design, acc: ArrayLike, exponents: Iterable[int] | None = None, *, inv_temperature: int = 0,
           seed: int = 0, keys: Iterable[int] | None = None) -> np.ndarray:  # int [n, >= vocab] -> int [n]
    """The token of each row.

    Parameters
    ----------
    acc : results of the LM head     whole accumulators; columns beyond vocab_size are ignored
    exponents : int [n]              weight exponent + activation exponent of each row
    inv_temperature : int            units of 1/256; 0 is greedy: the largest accumulator, the lowest index on a tie
    seed, keys : int, int [n]        32 bits each; rows with the same key and seed have the same noise
    """
    acc = np.asarray(acc, np.int64)[:, :design.model.vocab_size]
    if not inv_temperature:
        return acc.argmax(axis=-1)                                                # argmax: the first of equals
    assert exponents is not None and keys is not None
    # row by row: a vocabulary of scores at a time is enough
    return np.array([scores(design, row, exponent, inv_temperature, seed, key).argmax()
                     for row, exponent, key in zip(acc, exponents, keys)], np.int64)


def sample_latency(design: Design) -> int:
    """Cycles from the acceptance of the last granule to ``done``."""
    levels = (design.hw.vector_lanes - 1).bit_length()
    return levels + design.scaled + (7 + _cap_stages(design) if design.hw.sampler == "gumbel" else 2)


def sample_lead(design: Design) -> int:
    """The first granule that comes at least so many cycles after the command does not wait for its noise."""
    return 13 - design.scaled - _cap_stages(design) if design.hw.sampler == "gumbel" else 1


def _cap_stages(design):
    return SOFTCAP_STAGES if design.model.final_logit_softcapping else 0
