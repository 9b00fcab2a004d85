"""What the arms cost, from the speed that their own steps logged."""

from collections.abc import Sequence
from typing import Any

from alloy.reports.judging.scores import finite
from alloy.reports.records import MetricsRow

Tree = dict[str, Any]


def run_cost(
    rows: Sequence[MetricsRow], ranks: int | None, price: float | None, shared_tokens: int = 0
) -> Tree | None:
    """Seconds of training steps, tokens a second over all of them, rank-hours, money.

    Start-up, saving, evaluation, steps that a resumed run did again and ``shared_tokens``, which
    another arm trained first, are not in it. ``price`` is
    of one rank for an hour. None without a logged speed.
    """
    seconds, before = 0.0, shared_tokens
    for row in rows:
        if row.tokens <= shared_tokens:
            continue
        speed = finite(row.tokens_per_second)
        if speed is None or speed <= 0:
            return None
        seconds += (row.tokens - before) / speed
        before = row.tokens
    if not seconds:
        return None
    hours = seconds * ranks / 3600 if ranks is not None else None
    return {
        "train_seconds": seconds,
        "tokens_per_second": (before - shared_tokens) / seconds,
        "ranks": ranks,
        "rank_hours": hours,
        "money": hours * price if hours is not None and price is not None else None,
    }


def total_cost(arms: Sequence[Tree], price: float | None) -> Tree:
    """Sums over the arms whose cost is known, which ``arms`` counts."""
    known = [a["cost"] for a in arms if a["cost"] and a["cost"]["rank_hours"] is not None]
    hours = sum(cost["rank_hours"] for cost in known)
    return {
        "arms": len(known),
        "rank_hours": hours if known else None,
        "price_per_rank_hour": price,
        "money": hours * price if known and price is not None else None,
    }
