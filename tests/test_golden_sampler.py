"""The golden sampler: its random numbers, its noise, and the frequencies of what it samples."""
import numpy as np
import pytest

from hwgen.golden.sampler import gumbel_noise, noise_words, sample, scores, threefry2x32
from sim.designs import small_design

GUMBEL = small_design(sampler="gumbel", vocab_size=37)


@pytest.mark.parametrize("rounds, counter, key, out", [
    # known answers that come with Random123, "kat_vectors"
    (13, (0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    (13, (0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0xFD36D048, 0x2D17272C)),
    (13, (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xBA3E4725, 0xF27D669E)),
    (20, (0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    (20, (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
])
def test_threefry_known_answers(rounds, counter, key, out):
    assert threefry2x32(key, counter, rounds) == out


def test_words_of_tokens():
    words = noise_words(5, [7, 8], 5)
    assert words.shape == (2, 5)
    assert words[0, 2:4].tolist() == [int(w) for w in threefry2x32((5, 7), (1, 0))]
    assert len(np.unique(np.concatenate([words.ravel(), noise_words(6, 7, 5)]))) == 15


def test_noise_is_near_the_ideal():
    """Within 2**-9: tables, and the floor to 2**-10."""
    rng = np.random.default_rng(0)
    ends = np.concatenate([np.arange(3000), 2**np.arange(32), 2**np.arange(1, 32) - 1])
    middle = 2**31 + np.arange(-3000, 3000)
    words = np.concatenate([rng.integers(0, 2**32, 500_000), ends, 2**32 - 1 - ends, middle])
    # w and 1 - w, both without cancellation
    low, high = (words + 0.5) / 2**32, (2**32 - 0.5 - words) / 2**32
    ideal = -np.log(np.where(low < 0.5, -np.log1p(-low), -np.log(high)))
    assert np.abs(gumbel_noise(words) / 2**10 - 4 - ideal).max() < 2**-9


def test_noise_grows_with_the_word():
    words = np.sort(np.random.default_rng(1).integers(0, 2**32, 200_000))
    assert np.diff(gumbel_noise(words)).max() <= 1                               # falls, but for a table's joint


def frequencies(design, logits, inv_temperature, draws, seed=12345):
    """How often each token is drawn, with one key per draw."""
    exponent = -design.acc_unit - 12                                             # accumulators in units of 2**-12
    acc = np.round(np.asarray(logits) * 2**12).astype(np.int64)
    keys = np.arange(draws)
    tokens = scores(design, np.broadcast_to(acc, (draws, len(acc))), np.full(draws, exponent), inv_temperature, seed,
                    keys).argmax(axis=-1)
    assert tokens[:20].tolist() == sample(design, np.tile(acc, (20, 1)), np.full(20, exponent),
                                          inv_temperature=inv_temperature,
                                          seed=seed, keys=keys[:20]).tolist()
    return np.bincount(tokens, minlength=len(acc))


@pytest.mark.parametrize("inv_temperature", [256, 128, 400])
@pytest.mark.parametrize("spread", [0.1, 1.5, 4])
def test_frequencies_are_those_of_softmax(inv_temperature, spread):
    """Chi-square over 37 tokens and 40,000 draws; those that are expected less than 10 times are counted together."""
    logits = np.random.default_rng(3).normal(size=37) * spread
    count = frequencies(GUMBEL, logits, inv_temperature, 40_000)
    p = np.exp(logits * inv_temperature / 256)
    want = p / p.sum() * count.sum()
    rare = want < 10
    count, want = (np.append(x[~rare], x[rare].sum()) for x in (count, want))
    chi2 = ((count - want) ** 2 / np.maximum(want, 1e-9)).sum()
    freedom = len(want) - 1
    # mean freedom, variance 2 * freedom: four standard deviations are beyond the 99.9th percentile
    assert chi2 < freedom + 4 * np.sqrt(2 * freedom)


def test_greedy():
    acc = np.array([[3, 9, -1, 9, 2], [-5, -5, -7, -5, -5]])
    design = small_design(vocab_size=4)
    assert sample(design, acc).tolist() == [1, 0]
    assert sample(small_design(vocab_size=4, sampler="gumbel"), acc, [0, 0], seed=1, keys=[1, 2]).tolist() == [1, 0]


def test_tokens_beyond_the_vocabulary_are_ignored():
    acc = np.zeros((3, 64), int)
    acc[:, 37:] = 2**20
    for inv_temperature in (0, 256):
        assert (sample(GUMBEL, acc, [0] * 3, inv_temperature=inv_temperature, keys=[1, 2, 3]) < 37).all()


def test_low_temperature_is_nearly_greedy():
    rng = np.random.default_rng(0)
    acc = rng.permutation(37)[None] * 2**12
    assert sample(GUMBEL, acc, [-GUMBEL.acc_unit - 12], inv_temperature=65535, keys=[4]).tolist() == [acc.argmax()]


def test_sampling_repeats():
    acc = np.zeros((2, 37), int)
    one = [sample(GUMBEL, acc, [0, 0], inv_temperature=256, seed=s, keys=[5, 5]).tolist() for s in (1, 1, 2)]
    assert one[0] == one[1] != one[2] and one[0][0] == one[0][1]
