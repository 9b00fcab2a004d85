"""Bootstrap limits over questions, rows or documents: seeded, paired, vectorised."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evals.stats.label_counts import Labels, count_table, weighted_f1
from evals.stats.stats import Interval, paired_answers

FEWEST_DOCUMENTS = 10
"""Of fewer no interval of bits per byte is given: resampling so few understates their spread."""
_CHUNK_DRAWS = 4_000_000  # resampled indices held at once: 32 MB


@dataclass(frozen=True)
class Difference:
    """A paired difference (arm minus base) with its bootstrap limits.

    ``low`` and ``high`` are two-sided, ``lower`` and ``upper`` one-sided at the same confidence.
    """

    value: float
    low: float
    high: float
    lower: float
    upper: float


def bootstrap_accuracy_difference(
    base: np.ndarray, arm: np.ndarray, resamples: int, seed: int, confidence: float = 0.95
) -> Difference:
    """Paired bootstrap of accuracy(arm) - accuracy(base).

    A resample of questions is fully described by how many lost, gained and unchanged ones it
    drew, so those three counts are drawn directly.
    """
    base, arm = paired_answers(base, arm)
    n = len(base)
    lost, gained = int((base & ~arm).sum()), int((~base & arm).sum())
    shares = np.array([lost, gained, n - lost - gained]) / n
    draws = np.random.default_rng(seed).multinomial(n, shares, size=resamples)
    return _difference((gained - lost) / n, (draws[:, 1] - draws[:, 0]) / n, confidence)


def bootstrap_ratio(
    numerators: np.ndarray, denominators: np.ndarray, resamples: int, seed: int
) -> Interval:
    """95% percentile interval of sum(numerators) / sum(denominators) over resampled documents."""
    table = np.column_stack([numerators, denominators]).astype(float)
    sums = _resampled(len(table), resamples, seed, lambda weights: weights @ table)
    return Interval(*_percentiles(sums[:, 0] / sums[:, 1], 0.95))


def bootstrap_ratio_difference(
    base: np.ndarray,
    arm: np.ndarray,
    denominators: np.ndarray,
    resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> Difference:
    """Paired bootstrap of a change in bits per byte: base and arm bits of the same documents."""
    table = np.column_stack([np.asarray(arm) - np.asarray(base), denominators]).astype(float)
    sums = _resampled(len(table), resamples, seed, lambda weights: weights @ table)
    value = float(table[:, 0].sum() / table[:, 1].sum())
    return _difference(value, sums[:, 0] / sums[:, 1], confidence)


def bootstrap_f1(
    gold: Sequence[Labels], predicted: Sequence[Labels], resamples: int, seed: int
) -> Interval:
    """95% percentile interval of the weighted F1 over resampled rows."""
    _, table = count_table(gold, predicted)
    values = _resampled(len(gold), resamples, seed, lambda weights: weighted_f1(weights @ table))
    return Interval(*_percentiles(values, 0.95))


def bootstrap_f1_difference(
    gold: Sequence[Labels],
    base: Sequence[Labels],
    arm: Sequence[Labels],
    resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> Difference:
    """Paired bootstrap of weighted F1(arm) - weighted F1(base): both see the same resamples."""
    (_, base_table), (_, arm_table) = count_table(gold, base), count_table(gold, arm)

    def change(weights: np.ndarray) -> np.ndarray:
        return weighted_f1(weights @ arm_table) - weighted_f1(weights @ base_table)

    values = _resampled(len(gold), resamples, seed, change)
    whole = float(change(np.ones((1, len(gold))))[0])
    return _difference(whole, values, confidence)


def _resampled(
    n: int, resamples: int, seed: int, statistic: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """``statistic`` of the (resamples, n) counts of each row, in chunks that fit in memory."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_DRAWS // n)
    parts = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.integers(0, n, size=(size, n))
        drawn += np.arange(size)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        parts.append(statistic(counts.astype(float)))
    return np.concatenate(parts)


def _difference(value: float, resampled: np.ndarray, confidence: float) -> Difference:
    low, high = _percentiles(resampled, confidence)
    lower, upper = np.quantile(resampled, [1 - confidence, confidence])
    return Difference(float(value), low, high, float(lower), float(upper))


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
