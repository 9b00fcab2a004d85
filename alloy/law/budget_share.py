"""Finds the general share that keeps a budget on a loss, or says what is missing to name one."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from alloy.law.critical import SHARES, Critical, critical_share
from alloy.law.fit import Law
from alloy.law.forms import Array


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What a law of the general loss says of a budget.

    - kept: ``share`` is the smallest measured-over share whose upper bound keeps the budget.
    - not_bracketed: the answer lies outside the measured shares, or its end is where they end;
      ``add_shares`` would bracket it. ``share`` is set where the least measured share keeps it.
    - noisy: the curve itself keeps the budget somewhere, its upper bound nowhere.
    - no_ratio: not even training on general text alone keeps it.
    """

    answer: Literal["kept", "not_bracketed", "noisy", "no_ratio"]
    share: float | None
    upper: float | None
    """Upper bound of the loss at ``share``."""
    add_shares: tuple[float, ...]
    critical: Critical


def recommend(law: Law, level: float) -> Recommendation:
    """The smallest share whose one-sided 95% upper bound is at most ``level``.

    Only shares between the least and the greatest measured one can be recommended.
    """
    least, most = law.share_range
    inside = SHARES[(least < SHARES) & (most > SHARES)]
    shares = np.unique(np.concatenate([[least], inside, [most]]))
    told = law.predict(shares)
    kept = np.flatnonzero(told.upper <= level)
    critical = critical_share(law, level)
    if len(kept):
        first = int(kept[0])
        below = first == 0 and least > 0
        return Recommendation(
            answer="not_bracketed" if below else "kept",
            share=float(shares[first]),
            upper=float(told.upper[first]),
            add_shares=_rounded((0.0, least / 2)) if below else (),
            critical=critical,
        )
    return _unkept(law, level, critical, told.value)


def _unkept(law: Law, level: float, critical: Critical, value: Array) -> Recommendation:
    most = law.share_range[1]
    if most < 1:
        beyond = critical.share if critical.share is not None else 1.0
        between = min(max(beyond, (most + 1) / 2), 1.0)
        answer, add = "not_bracketed", _rounded((between, 1.0))
    elif value.min() <= level:
        at = critical.share if critical.share is not None else most
        answer, add = "noisy", _rounded((at, (at + most) / 2))
    else:
        answer, add = "no_ratio", ()
    return Recommendation(answer=answer, share=None, upper=None, add_shares=add, critical=critical)


def _rounded(shares: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sorted({round(share, 3) for share in shares}))
