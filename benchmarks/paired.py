"""Ratios of paired times: their mean, its bounds, and what may be claimed; pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

LEAST_PAIRS = 8


@dataclass(frozen=True)
class Ratio:
    """The mean of the ratios of pairs, and its one-sided 95% bounds (Student's t)."""

    mean: float
    lower: float
    upper: float
    pairs: int


def paired_ratio(mine: Sequence[float], other: Sequence[float]) -> Ratio:
    """``mine`` over ``other``, pair by pair. Raises ValueError for under two or uneven pairs."""
    if len(mine) != len(other) or len(mine) < 2:
        raise ValueError(f"{len(mine)} and {len(other)} times are no pairs")
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    mean, count = statistics.fmean(ratios), len(ratios)
    half = float(stats.t.ppf(0.95, count - 1)) * statistics.stdev(ratios) / math.sqrt(count)
    return Ratio(mean, mean - half, mean + half, count)


def verdict(ratio: Ratio, most: float) -> str:
    """Whether ``ratio`` is shown to be at most ``most``."""
    figure = f"{ratio.mean:.4f}, 95% bound {ratio.upper:.4f}, {ratio.pairs} pairs"
    if ratio.pairs >= LEAST_PAIRS and ratio.upper <= most:
        return f"at most {most:g}: {figure}"
    return f"inconclusive against {most:g}: {figure}"
