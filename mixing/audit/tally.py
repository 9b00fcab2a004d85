"""Counts every position of a phase: rows, tokens, targets, and how far prefixes strayed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mixing.blend import PlanPhase, RowReader

_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True)
class PhaseTally:
    """What the positions of a phase lead to; arrays go by the phase's sources."""

    rows: np.ndarray
    """int64 (sources,)"""
    tokens: np.ndarray
    """int64 (sources,)"""
    supervised: np.ndarray
    """int64 (sources,)"""
    deviation_rows: np.ndarray
    """float64 (sources,): largest distance from n c / Q over all prefixes n of the phase."""
    window_units: np.ndarray
    """int64 (windows, sources): what a share counts, in windows of equal rows."""

    def units(self) -> np.ndarray:
        """int64 (sources,): what a share counts."""
        return self.window_units.sum(axis=0)


def tally_phase(
    reader: RowReader, phase: PlanPhase, window_rows: int, reads: list[np.ndarray]
) -> PhaseTally:
    """Walk all positions of ``phase``; adds to ``reads`` how often each row of each source of
    the plan is read, int32 (rows,) a source."""
    names = [source.name for source in reader.plan.sources]
    members = [names.index(part.name) for part in phase.sources]
    part_of = np.full(len(names), -1)
    part_of[members] = np.arange(len(members))
    slots = np.array([part.slot_count for part in phase.sources], np.int64)
    rows, tokens, supervised = np.zeros((3, len(members)), np.int64)
    deviation = np.zeros(len(members))
    windows = np.zeros((-(-phase.rows // window_rows), len(members)), np.int64)
    for offset in _blocks(phase.rows):
        where = reader.order.locate_many(phase.first_row + offset)
        part = part_of[where.source]
        assert part.min() >= 0, "a source without a share has a row"
        np.maximum.at(deviation, part, _strayed(offset, part, rows, slots, phase.denominator))
        held, targets = reader.held(where)
        np.add.at(rows, part, 1)
        np.add.at(tokens, part, held)
        np.add.at(supervised, part, targets)
        units = targets if reader.plan.unit == "supervised_tokens" else held
        np.add.at(windows, (offset // window_rows, part), units)
        for member in np.unique(where.source):
            np.add.at(reads[member], where.row[where.source == member], 1)
    at_end = np.abs(phase.rows * slots - rows * phase.denominator) / phase.denominator
    return PhaseTally(rows, tokens, supervised, np.maximum(deviation, at_end), windows)


def _blocks(rows: int) -> Iterator[np.ndarray]:
    for first in range(0, rows, _BLOCK_ROWS):
        yield np.arange(first, min(first + _BLOCK_ROWS, rows))


def _strayed(
    offset: np.ndarray, part: np.ndarray, rows: np.ndarray, slots: np.ndarray, period: int
) -> np.ndarray:
    """How far the source of each slot is off its target around that slot, in rows.

    Between two of its rows a source falls behind steadily, so over all prefixes its extremes lie
    just before and just after one of its rows. ``rows`` counts the slots before this block.
    """
    grouped = np.argsort(part, kind="stable")
    sizes = np.bincount(part, minlength=len(rows))
    before = np.empty(len(part), np.int64)  # rows of the same source in the phase so far
    before[grouped] = np.arange(len(part)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    before += rows[part]
    behind = offset * slots[part] - before * period  # exact, in 1/period rows
    ahead = (before + 1) * period - (offset + 1) * slots[part]
    return np.maximum(behind, ahead) / period


def share_tolerances(
    units_per_row: list[np.ndarray], rows: np.ndarray, weight_error: float
) -> np.ndarray:
    """How far realised shares may be from asked ones because rows hold unequal amounts.

    ``units_per_row``: units of every row of each source; ``rows``: rows of each in the phase.
    Rows of an epoch are drawn without replacement, and at most two epochs are read in part, so
    Bernstein's inequality (it holds for such draws: Hoeffding 1963) bounds the units of a source
    but for a chance of exp(-25); to that come one row of rounding and the error of the weights.
    """
    log_chance = 25.0
    bounds, expected = [], []
    for units, drawn in zip(units_per_row, rows.tolist(), strict=True):
        in_part = min(drawn, len(units) / 2)
        spread = np.sqrt(2 * log_chance * in_part * units.var())
        jump = np.ptp(units) * log_chance / 3 if in_part and len(units) > 1 else 0.0
        expected.append(drawn * units.mean())
        bounds.append(spread + jump + units.max() + weight_error * expected[-1])
    total = max(1.0, float(np.sum(expected)))
    share = np.array(expected) / total
    return (np.array(bounds) * (1 - share) + share * (np.sum(bounds) - np.array(bounds))) / total
