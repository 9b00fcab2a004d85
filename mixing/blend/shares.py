"""Turns the shares that a recipe asks for into slot counts.

    SourceSize, Mix ─▶ source_shares ─▶ share per source ─▶ slot_weights ─▶ slot_counts (of Q slots)

Results do not depend on the order in which sources are listed: sums run, and ties break, by name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from configs import Mix, PhaseMix, UserError

Unit = Literal["supervised_tokens", "tokens"]

MAX_DENOMINATOR = 1_000_000
WEIGHT_TOLERANCE = 1e-4
"""Relative error of a slot weight that a finer grid is not worth."""
_GRIDS = [d * 10**e for e in range(6) for d in (1, 2, 5)] + [MAX_DENOMINATOR]


@dataclass(frozen=True)
class SourceSize:
    """How much a packed source holds in one epoch."""

    name: str
    role: str
    """domain or general; retention sources are never trained on."""
    rows: int
    tokens: int
    supervised_tokens: int
    max_epochs: float
    """Most passes over the source in one run."""

    def units(self, unit: Unit) -> int:
        """What one epoch holds of what a share counts."""
        return self.supervised_tokens if unit == "supervised_tokens" else self.tokens


def mix_of_phase(mix: Mix, own: PhaseMix | None, sizes: Sequence[SourceSize]) -> Mix:
    """The mix of a phase: where its own says nothing, the run's.

    Weights go by side: a side of which the phase weights any source takes none of the run's.
    """
    if own is None:
        return mix
    side = {s.name: s.role for s in sizes}
    replaced = {side.get(name) for name in own.weights}
    kept = {name: w for name, w in mix.weights.items() if side.get(name) not in replaced}
    general = mix.general if own.general is None else own.general
    return mix.model_copy(update={"general": general, "weights": {**kept, **own.weights}})


def source_shares(sizes: Sequence[SourceSize], mix: Mix) -> dict[str, float]:
    """Share of each source with any, in units of ``mix.unit``; they add up to 1.

    Two levels: ``mix.general`` is the share of the general side, the rest is the domain's; inside a
    side sources go by ``mix.weights`` or, where it names none of them, by size.
    Raises UserError for a side with a share but no sources, and for a half-weighted side.
    """
    shares: dict[str, float] = {}
    for role, side_share in (("domain", 1.0 - mix.general), ("general", mix.general)):
        side = sorted((s for s in sizes if s.role == role), key=lambda s: s.name)
        if side_share <= 0:
            continue
        if not side:
            raise UserError(
                f"the mix asks {side_share:.2%} of {role} text, and no source is '{role}'",
                f"add a source with role: {role}, or set general: {1 if role == 'domain' else 0}",
            )
        weights = _weights_inside(side, mix)
        total = math.fsum(weights)
        for source, weight in zip(side, weights, strict=True):
            shares[source.name] = side_share * weight / total
    return shares


def _weights_inside(side: Sequence[SourceSize], mix: Mix) -> list[float]:
    for source in side:
        if source.units(mix.unit) <= 0:
            raise UserError(
                f"source '{source.name}' has no {mix.unit} to train on ({source.rows} rows)",
                "look at its ledger (`alloy build --json`), or take it out of data.sources",
            )
    weighted = [s.name for s in side if s.name in mix.weights]
    if not weighted:
        return [float(s.units(mix.unit)) for s in side]
    missing = [s.name for s in side if s.name not in mix.weights]
    if missing:
        raise UserError(
            f"weights name '{weighted[0]}' but not '{missing[0]}', of the same {side[0].role} side",
            "give every source of the side a weight, or none",
        )
    return [mix.weights[s.name] for s in side]


def slot_weights(
    shares: Mapping[str, float], units_per_row: Mapping[str, float]
) -> dict[str, float]:
    """Share of the slots (rows) that gives each source its share of the units; they add up to 1.

    Rows differ in how much they hold, so a source's weight is share / (mean units of its rows).
    """
    raw = {name: shares[name] / units_per_row[name] for name in sorted(shares)}
    total = math.fsum(raw.values())
    return {name: weight / total for name, weight in raw.items()}


def slot_counts(
    shares: Mapping[str, float],
    units_per_row: Mapping[str, float],
    denominator: int | None = None,
) -> dict[str, int]:
    """Slots of each source in one period of ``denominator`` slots, by largest remainder.

    Without a denominator it is the first of 1, 2, 5, 10, 20, 50, ... 1,000,000 on which every
    weight is within a relative WEIGHT_TOLERANCE. Raises UserError for a source that would get
    no slot.
    """
    weights = slot_weights(shares, units_per_row)
    if denominator is not None:
        counts = largest_remainder(weights, denominator)
    else:
        grids = (largest_remainder(weights, grid) for grid in _GRIDS if grid >= len(weights))
        counts = next((c for c in grids if weight_error(c, weights) <= WEIGHT_TOLERANCE), {})
        counts = counts or largest_remainder(weights, MAX_DENOMINATOR)
    _refuse_empty(counts, weights, shares)
    return counts


def largest_remainder(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers near ``total`` x weight that add up to ``total`` (Hamilton's method)."""
    exact = {name: weights[name] * total for name in sorted(weights)}
    counts = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def weight_error(counts: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """Largest relative error of a quantised weight."""
    total = sum(counts.values())
    return max(abs(counts[name] / total / weight - 1) for name, weight in weights.items())


def _refuse_empty(
    counts: Mapping[str, int], weights: Mapping[str, float], shares: Mapping[str, float]
) -> None:
    for name, count in counts.items():
        if count == 0:
            total = sum(counts.values())
            least = shares[name] / weights[name] / total
            raise UserError(
                f"source '{name}' has a share of {shares[name]:.3g}, less than one row in {total}",
                f"give it a share of at least {least:.2g}, or take it out of data.sources",
            )
