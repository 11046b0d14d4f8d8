"""How far a model's predictions are from the float32 reference's, on a text."""
from collections.abc import Sequence

import numpy as np

__all__ = ["Agreement", "KL_CAP", "windows"]

KL_CAP = 0.25       # nats, of `Agreement.capped_kl`


def windows(tokens: Sequence[int], length: int) -> list[Sequence[int]]:
    """The text in consecutive pieces of ``length`` tokens (the last may be shorter; one token alone predicts
    nothing)."""
    pieces = [tokens[start:start + length] for start in range(0, len(tokens), length)]
    return [piece for piece in pieces if len(piece) > 1]


def _log_softmax(logits: np.ndarray) -> np.ndarray:  # [n, vocab] -> the same, float64
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


class Agreement:
    """Sums over all tokens added so far; the properties are their means.

    Attributes
    ----------
    tokens : int     predictions compared
    clipped : int    granules of the residual of which the model, if it is a machine, clipped a number
    """

    def __init__(self) -> None:
        self.tokens = self.clipped = 0
        self._loss = self._reference_loss = self._kl = self._capped = self._same = self._squares = 0.0

    def add(self, reference: np.ndarray, logits: np.ndarray, targets: Sequence[int] | np.ndarray) -> None:
        """Logits of the reference and of the model, both [n, vocab], and the n tokens that really came next."""
        p, q = _log_softmax(reference), _log_softmax(logits)
        rows = np.arange(len(targets))
        self.tokens += len(targets)
        self._loss -= q[rows, targets].sum()
        self._squares += ((p[rows, targets] - q[rows, targets]) ** 2).sum()
        self._reference_loss -= p[rows, targets].sum()
        kl = (np.exp(p) * (p - q)).sum(-1)
        self._kl += kl.sum()
        self._capped += np.fmin(kl, KL_CAP).sum()       # what is no number counts as the cap
        self._same += (np.argmax(reference, -1) == np.argmax(logits, -1)).sum()

    @property
    def perplexity(self) -> float:
        """exp of the model's mean loss in nats."""
        return float(np.exp(self._loss / self.tokens))

    @property
    def reference_perplexity(self) -> float:
        return float(np.exp(self._reference_loss / self.tokens))

    @property
    def perplexity_increase(self) -> float:
        """0.01 where the model's perplexity is one percent above the reference's."""
        return self.perplexity / self.reference_perplexity - 1

    @property
    def increase_error(self) -> float:
        """Standard error of :attr:`perplexity_increase`, as if the tokens' losses were independent."""
        mean = (self._loss - self._reference_loss) / self.tokens
        return float(np.sqrt(max(0.0, self._squares / self.tokens - mean**2) / self.tokens))

    @property
    def kl(self) -> float:
        """Mean Kullback-Leibler divergence of the model from the reference, in nats per token."""
        return float(self._kl / self.tokens)

    @property
    def capped_kl(self) -> float:
        """:attr:`kl` with at most 0.25 nats for each token: on a short text its mean is not that of the few that go
        wrong altogether."""
        return float(self._capped / self.tokens)

    @property
    def top1(self) -> float:
        """Fraction of tokens at which both would choose the same one."""
        return float(self._same / self.tokens)
