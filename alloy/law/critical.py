"""The share at which a law crosses a level."""

from dataclasses import dataclass

import numpy as np

from alloy.law.fit import LEVELS, Law
from alloy.law.forms import Array

SHARES = np.unique(np.concatenate([np.geomspace(1e-4, 0.05, 120), np.linspace(0.0, 1.0, 1001)]))
"""Fine near 0, where the first per cent of replay is worth the most."""


@dataclass(frozen=True, kw_only=True)
class Critical:
    """``share`` and its 95% interval; None: the law, or that end of it, does not cross in 0..1."""

    share: float | None
    low: float | None
    high: float | None
    extrapolated: bool
    """The crossing lies outside the measured shares, or there is none."""


def critical_share(law: Law, level: float, tokens: float | None = None) -> Critical:
    """The smallest share from which on a falling law stays at or under ``level``."""
    share = crossings(SHARES, law.curve(SHARES, tokens)[None, :], level)[0]
    drawn = crossings(SHARES, law.curve_draws(SHARES, tokens), level)
    low, high = np.quantile(drawn, LEVELS, method="inverted_cdf")
    least, most = law.share_range
    return Critical(
        share=_known(share),
        low=_known(low),
        high=_known(high),
        extrapolated=not least <= share <= most,
    )


def crossings(share: Array, values: Array, level: float) -> Array:
    """(B,) where each row of ``values`` (B, m) passes ``level`` for the last time, downwards.

    -inf: never above it; +inf: above it at the last share.
    """
    above = values > level
    last = values.shape[1] - 1 - above[:, ::-1].argmax(axis=1)  # the last share above
    found = np.full(len(values), -np.inf)
    ever = above.any(axis=1)
    at_end = above[:, -1]
    rows = np.flatnonzero(ever & ~at_end)
    i = last[rows]
    left, right = values[rows, i], values[rows, i + 1]
    part = np.ones_like(left)  # an infinite loss at a share of 0: all of the way
    np.divide(left - level, left - right, out=part, where=np.isfinite(left))
    found[rows] = share[i] + part * (share[i + 1] - share[i])
    found[at_end] = np.inf
    return found


def _known(share: float) -> float | None:
    return float(share) if np.isfinite(share) else None
