"""From a position of a run to the row that is read there, and back, in constant time.

    Plan ─▶ Order: position ─▶ (phase, source, epoch, row)

Nothing is laid out before it is asked for: the marks of the plan lead to any slot of a period.

A phase begins the period of its slot sequence anew, while each source carries on where the phase
before left it: use u of a source is row Permutation(u // rows)[u % rows], over the whole run. A
branch that carries on its parent's reading begins at ``PlanSource.first_use``.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from configs import CheckFailed
from mixing.blend.order import Permutation, permutation_key, permute
from mixing.blend.planned import Plan, PlanPhase
from mixing.blend.slots import MARK_SLOTS, PLAN_HINT, Marks, slots_from


class Location(NamedTuple):
    """The row at a position."""

    source: int
    """Index into ``Plan.sources``."""
    row: int
    """Row of the source's PackedRows."""
    epoch: int
    """Passes over the source that were complete before."""
    phase: int
    """Index into ``Plan.phases``."""


@dataclass(frozen=True)
class Locations:
    """``Location`` of many positions: int64 arrays of one length."""

    source: np.ndarray
    row: np.ndarray
    epoch: np.ndarray
    phase: np.ndarray


class Order:
    """The order of rows of a plan. Depends on the plan alone."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        keys = [permutation_key(plan.seed, source.name) for source in plan.sources]
        self._rows = np.array([source.rows for source in plan.sources], np.int64)
        self._keys = np.array(keys, np.uint64)
        sizes = zip(plan.sources, keys, strict=True)
        self._permutations = [Permutation(source.rows, key) for source, key in sizes]
        self._first_rows = np.array([phase.first_row for phase in plan.phases])
        index = {source.name: i for i, source in enumerate(plan.sources)}
        self._phases: list[_PhaseOrder] = []
        uses = np.array([source.first_use for source in plan.sources], np.int64)
        for phase in plan.phases:
            members = np.array([index[part.name] for part in phase.sources], np.int64)
            self._phases.append(_PhaseOrder(phase, members, uses[members]))
            uses[members] += [part.rows for part in phase.sources]

    def locate(self, position: int) -> Location:
        """The row at ``position``; raises IndexError outside the run."""
        if not 0 <= position < self.plan.rows:
            raise IndexError(f"position {position} of a run of {self.plan.rows} rows")
        phase = bisect_right(self._first_rows, position) - 1
        source, use = self._phases[phase].use_at(position)
        permutation = self._permutations[source]
        epoch, index = divmod(use, permutation.n)
        return Location(source, permutation.at(index, epoch), epoch, phase)

    def locate_many(self, positions: np.ndarray) -> Locations:
        """``locate`` for an int64 array of positions, in any order."""
        if len(positions) and not 0 <= positions.min() <= positions.max() < self.plan.rows:
            raise IndexError(f"a position outside of the run of {self.plan.rows} rows")
        phase = self._first_rows.searchsorted(positions, side="right") - 1
        source = np.empty(len(positions), np.int64)
        use = np.empty(len(positions), np.int64)
        for p in range(phase.min(), phase.max() + 1) if len(phase) else ():
            here = np.flatnonzero(phase == p)
            source[here], use[here] = self._phases[p].uses_at(positions[here])
        rows = self._rows[source]
        epoch, index = np.divmod(use, rows)
        row = permute(index, epoch, rows, self._keys[source])
        return Locations(source, row, epoch, phase)

    def rows_by_source(self, first: int, count: int) -> np.ndarray:
        """Rows of each plan source at positions first .. first + count - 1, int64 (sources,);
        the work does not grow with ``count``."""
        return self._rows_before(first + count) - self._rows_before(first)

    def positions_of(self, source: int, row: int) -> list[int]:
        """Every position of the run that reads this row of a source, in order."""
        permutation, positions = self._permutations[source], []
        for phase in self._phases:
            first, end = phase.uses_of(source)
            for epoch in range(first // permutation.n, -(-end // permutation.n)):
                use = epoch * permutation.n + permutation.index_of(row, epoch)
                if first <= use < end:
                    positions.append(phase.position_of(source, use))
        return positions

    def read_before(self, source: int) -> np.ndarray:
        """How often each row of a source was read before the plan begins, int32 (rows,)."""
        rows = int(self._rows[source])
        epochs, begun = divmod(self.plan.sources[source].first_use, rows)
        counts = np.full(rows, epochs, np.int32)
        uses = np.arange(begun)
        sizes, keys = np.full(begun, rows), np.full(begun, self._keys[source])
        counts[permute(uses, np.full(begun, epochs), sizes, keys)] += 1
        return counts

    def _rows_before(self, position: int) -> np.ndarray:
        total = np.zeros(len(self.plan.sources), np.int64)
        for phase in self._phases:
            phase.add_rows_before(position, total)
        return total


class _PhaseOrder:
    """One phase: the first period of its slots, and where each source stands when it begins.

    Slots are laid out in stretches of MARK_SLOTS when one of them is first asked for.
    """

    def __init__(self, phase: PlanPhase, members: np.ndarray, used_before: np.ndarray) -> None:
        self._phase = phase
        self._members = members  # plan source of each source of the phase
        self._used_before = used_before
        self._counts = np.array([part.slot_count for part in phase.sources], np.int64)
        self._rows = np.array([part.rows for part in phase.sources], np.int64)
        # Source of each slot, as an index into the phase's own sources, and how often it had a
        # slot before it in the period; what is not laid out takes no memory.
        self._slots = np.empty(phase.slots, np.uint16)
        self._occurrence = np.empty(phase.slots, np.int32)
        self._marks = Marks(phase.marks, self._counts, phase.slots)
        self._laid_out = np.zeros(self._marks.stretches, bool)

    def _find(self, slots: np.ndarray) -> None:
        """Lay out the stretches of these slots, where that was not done yet."""
        stretches = slots // MARK_SLOTS
        if self._laid_out[stretches].all():
            return
        asked = np.zeros_like(self._laid_out)
        asked[stretches] = True
        missing = np.flatnonzero(asked & ~self._laid_out)
        for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1):
            self._lay_out(int(run[0]), int(run[-1]) + 1)

    def _lay_out(self, first: int, end: int) -> None:
        """Fill in stretches first .. end - 1."""
        begin, until = first * MARK_SLOTS, min(end * MARK_SLOTS, self._phase.slots)
        before = self._marks.before(first)
        part = slots_from(self._counts, begin, before, until - begin)
        come = np.bincount(part, minlength=len(before))
        at_end = self._marks.before(end) if end < self._marks.stretches else before + come
        if not np.array_equal(before + come, at_end):
            where = f"phase '{self._phase.name}', slots {begin} to {until - 1}"
            raise CheckFailed(f"{where}: they do not lead to the next mark", PLAN_HINT)
        grouped = np.argsort(part, kind="stable")
        group_begins = np.cumsum(come) - come - before
        self._slots[begin:until] = part
        self._occurrence[begin + grouped] = np.arange(len(part)) - group_begins[part[grouped]]
        self._laid_out[first:end] = True

    def use_at(self, position: int) -> tuple[int, int]:
        """Plan source at a position, and how often the run used it before."""
        period, slot = divmod(position - self._phase.first_row, self._phase.denominator)
        stretch = slot // MARK_SLOTS
        if not self._laid_out[stretch]:
            self._lay_out(stretch, stretch + 1)
        part = self._slots[slot]
        use = self._used_before[part] + period * self._counts[part] + self._occurrence[slot]
        return int(self._members[part]), int(use)

    def uses_at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``use_at`` for an array of positions."""
        offset = positions - self._phase.first_row
        period, slot = np.divmod(offset, self._phase.denominator)
        self._find(slot)
        part = self._slots[slot]
        use = self._used_before[part] + period * self._counts[part] + self._occurrence[slot]
        return self._members[part], use

    def uses_of(self, source: int) -> tuple[int, int]:
        """First use of a plan source in this phase, and the first one after it."""
        part = np.flatnonzero(self._members == source)
        if not len(part):
            return 0, 0
        first = int(self._used_before[part[0]])
        return first, first + int(self._rows[part[0]])

    def position_of(self, source: int, use: int) -> int:
        """The position of a use of a plan source that lies in this phase."""
        part = int(np.flatnonzero(self._members == source)[0])
        period, occurrence = divmod(use - int(self._used_before[part]), int(self._counts[part]))
        stretch = self._marks.stretch_of(part, occurrence)
        slots = np.arange(stretch * MARK_SLOTS, (stretch + 1) * MARK_SLOTS)
        slots = slots[slots < self._phase.slots]
        self._find(slots)
        here = (self._slots[slots] == part) & (self._occurrence[slots] == occurrence)
        slot = int(slots[np.flatnonzero(here)[0]])
        return self._phase.first_row + period * self._phase.denominator + slot

    def add_rows_before(self, position: int, total: np.ndarray) -> None:
        """Add this phase's rows at positions under ``position`` to ``total`` (plan sources,)."""
        offset = min(position - self._phase.first_row, self._phase.rows)
        if offset <= 0:
            return
        if offset == self._phase.rows:
            total[self._members] += self._rows
            return
        period, slot = divmod(offset, self._phase.denominator)
        slots = np.arange(slot // MARK_SLOTS * MARK_SLOTS, slot)
        self._find(slots)
        come = self._marks.before(slot // MARK_SLOTS)
        tail = come + np.bincount(self._slots[slots], minlength=len(come))
        total[self._members] += period * self._counts + tail
