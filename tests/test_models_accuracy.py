import numpy as np
import pytest

from hwgen.models.accuracy import Agreement, windows


def test_windows():
    assert windows(list(range(7)), 3) == [[0, 1, 2], [3, 4, 5]]
    assert windows(list(range(5)), 3) == [[0, 1, 2], [3, 4]]


def test_equal_models_agree():
    logits = np.random.default_rng(1).normal(size=(9, 5)).astype(np.float32)
    agreement = Agreement()
    agreement.add(logits, logits + 3, np.zeros(9, int))  # a constant changes no probability
    assert agreement.kl == pytest.approx(0, abs=1e-12) and agreement.top1 == 1 and agreement.tokens == 9
    assert agreement.perplexity_increase == pytest.approx(0, abs=1e-7)


def test_numbers_by_hand():
    agreement = Agreement()
    agreement.add(np.log([[0.5, 0.25, 0.25]]), np.log([[0.25, 0.5, 0.25]]), [0])
    agreement.add(np.log([[0.5, 0.25, 0.25]]), np.log([[0.5, 0.25, 0.25]]), [1])
    assert agreement.reference_perplexity == pytest.approx(8 ** 0.5)
    assert agreement.perplexity == pytest.approx(4)
    assert agreement.kl == pytest.approx(0.25 * np.log(2) / 2)
    assert agreement.increase_error == pytest.approx(np.log(2) / 2 / 2**0.5)
    assert agreement.top1 == 0.5
