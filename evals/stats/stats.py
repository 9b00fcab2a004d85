"""Statistics of one score and of paired differences: exact where a closed form exists.

Everything paired takes the same questions in the same order for both models. A drop is the base's
score minus the arm's: positive means forgotten.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize
from scipy.stats import binom, binomtest, norm

Verdict = Literal["kept", "broken", "inconclusive"]


class Interval(NamedTuple):
    """Two-sided limits."""

    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """``lost`` questions were right before and are wrong now, ``gained`` the reverse."""

    lost: int
    gained: int
    p_value: float


@dataclass(frozen=True)
class PairedDrop:
    """The drop of an accuracy between two models on the same questions, as a share.

    ``lower`` and ``upper`` are one-sided bounds, each at the confidence asked: what a budget is
    held against. ``detectable`` is the drop that this many questions with this much discordance
    would show in 80% of cases.
    """

    n: int
    drop: float
    lost: int
    gained: int
    p_value: float
    standard_error: float
    clustered_error: float | None
    lower: float
    upper: float
    detectable: float


def mcnemar(base: np.ndarray, arm: np.ndarray) -> McNemar:
    """Exact two-sided McNemar test on two boolean arrays of shape (questions,)."""
    base, arm = paired_answers(base, arm)
    lost, gained = int((base & ~arm).sum()), int((~base & arm).sum())
    discordant = lost + gained
    p_value = float(binomtest(lost, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(lost, gained, p_value)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share."""
    if n == 0:
        return Interval(0.0, 1.0)
    result = binomtest(int(successes), n).proportion_ci(confidence, method="wilson")
    return Interval(float(result.low), float(result.high))


def chance_band(n: int, choices: int = 4, confidence: float = 0.95) -> Interval:
    """Accuracies that guessing reaches in ``confidence`` of exams of ``n`` questions."""
    if n == 0:
        return Interval(0.0, 1.0)
    low, high = binom.interval(confidence, n, 1 / choices)
    return Interval(float(low) / n, float(high) / n)


def clustered_error(differences: np.ndarray, clusters: Sequence[str]) -> float:
    """Standard error of a mean whose values share clusters (subjects): Miller 2024, eq. 4.

    sqrt(sum over clusters of (sum of the centred values in it)^2) / n.
    """
    values = np.asarray(differences, dtype=float)
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(codes, weights=values - values.mean())
    return float(np.sqrt((sums**2).sum()) / len(values))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given: reject where it is under alpha."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


def detectable_drop(
    n: int, discordance: float, power: float = 0.8, significance: float = 0.05
) -> float:
    """Smallest drop that a two-sided paired test sees with ``power``, by the normal approximation.

    (z[1 - significance/2] + z[power]) x sqrt(discordance / n), discordance being the share of
    questions on which the two models differ. 14,042 questions at 10%: 0.75 points.
    """
    z = norm.ppf(1 - significance / 2) + norm.ppf(power)
    return float(z * math.sqrt(discordance / n))


def detectable_change(
    low: float, high: float, power: float = 0.8, significance: float = 0.05
) -> float:
    """Smallest change that a paired comparison sees with ``power``, where its two-sided 95%
    interval is ``low`` to ``high``: (z[1 - significance/2] + z[power]) standard errors."""
    error = (high - low) / (2 * norm.ppf(0.975))
    return float((norm.ppf(1 - significance / 2) + norm.ppf(power)) * error)


def verdict(lower: float, upper: float, budget: float) -> Verdict:
    """kept: the upper bound of the drop is within the budget; broken: the lower one is over it."""
    if upper <= budget:
        return "kept"
    return "broken" if lower > budget else "inconclusive"


def paired_drop(
    base: np.ndarray,
    arm: np.ndarray,
    clusters: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> PairedDrop:
    """Drop of accuracy from ``base`` to ``arm`` (booleans, one a question).

    Bounds are Tango's (1998) score limits for paired shares, which hold with few discordant
    questions too (none at all does not mean certainty). With ``clusters`` of at least two
    subjects, a bound also reaches at least z clustered standard errors.
    """
    base, arm = paired_answers(base, arm)
    test, n = mcnemar(base, arm), len(base)
    drop = (test.lost - test.gained) / n
    differences = base.astype(float) - arm.astype(float)
    lower, upper = tango_bounds(test.lost, test.gained, n, confidence)
    error = None
    if clusters is not None and len(set(clusters)) > 1:
        error = clustered_error(differences, clusters)
        reach = float(norm.ppf(confidence)) * error
        lower, upper = min(lower, drop - reach), max(upper, drop + reach)
    return PairedDrop(
        n=n,
        drop=drop,
        lost=test.lost,
        gained=test.gained,
        p_value=test.p_value,
        standard_error=float(differences.std() / math.sqrt(n)),
        clustered_error=error,
        lower=max(lower, -1.0),
        upper=min(upper, 1.0),
        detectable=detectable_drop(n, (test.lost + test.gained) / n),
    )


def tango_bounds(lost: int, gained: int, n: int, confidence: float = 0.95) -> Interval:
    """One-sided score bounds, each at ``confidence``, of the difference of two paired shares.

    Tango 1998: where |lost - gained - n d| = z sqrt(n (2 q + d (1 - d))), q being the estimate
    of the share gained under a difference of d.
    """
    z = float(norm.ppf(confidence))
    estimate = (lost - gained) / n

    def score(d: float) -> float:
        a, c = 2 * n, -gained * d * (1 - d)
        b = -lost - gained + (2 * n - lost + gained) * d
        q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        spread = n * (2 * q + d * (1 - d))
        return (lost - gained - n * d) / math.sqrt(spread) if spread > 1e-15 else 0.0

    def crossing(level: float, start: float, end: float) -> float:
        return optimize.root_scalar(lambda d: score(d) - level, bracket=(start, end)).root

    edge = 1 - 1e-9
    inside = min(max(estimate, -edge), edge)
    lower = crossing(z, -edge, inside) if score(-edge) > z else -1.0
    upper = crossing(-z, inside, edge) if score(edge) < -z else 1.0
    return Interval(lower, upper)


def paired_answers(base: np.ndarray, arm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as booleans of shape (questions,). Raises ValueError where they do not pair."""
    base, arm = np.asarray(base, dtype=bool), np.asarray(arm, dtype=bool)
    if base.shape != arm.shape or base.ndim != 1 or not len(base):
        raise ValueError(f"paired answers of shapes {base.shape} and {arm.shape}")
    return base, arm
