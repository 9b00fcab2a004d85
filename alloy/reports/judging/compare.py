"""An arm against the base, item by item: change, interval, lost and gained, exact p.

A change's ``detectable`` is the drop that so many items, with so much that differs between the two
models, show in 80% of cases.

Only items that both models answered are compared; how many were left out is in the result and, if
any, among the caveats.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from alloy.reports.judging.scores import ROLES, SEED, bpb_rows
from alloy.reports.records import BpbRow, DomainRow, Entry, ExamRow, TaskRow
from evals import stats
from evals.tasks import headline

Tree = dict[str, Any]
Item = TypeVar("Item")


def change_against_base(base: Entry, arm: Entry, resamples: int) -> Tree:
    """Every paired comparison; None where either side was not measured."""
    first = next(iter(base.domain), None)
    return {
        "exam": exam_change(base.exam, arm.exam),
        "exam_replayed": exam_change(base.exam, arm.exam, lambda row: row.replayed is True),
        "exam_unreplayed": exam_change(base.exam, arm.exam, lambda row: row.replayed is False),
        "cloze": cloze_change(base.exam, arm.exam),
        "domain_f1": None
        if first is None
        else f1_change(base.domain[first], arm.domain.get(first, ()), resamples),
        **{
            f"{role}_bpb": bpb_change(bpb_rows(base.bpb, role), bpb_rows(arm.bpb, role), resamples)
            for role in ROLES
        },
    }


def task_changes(base: Entry, arm: Entry, resamples: int) -> dict[str, Tree | None]:
    """The change of each task's headline: of the domain, and of lm-eval."""
    changes = {
        name: f1_change(rows, arm.domain.get(name, ()), resamples)
        for name, rows in base.domain.items()
    }
    for name, rows in base.lm_eval.items():
        changes[name] = _headline_change(rows, arm.lm_eval.get(name, ()), resamples)
    return changes


def _headline_change(
    base: Sequence[TaskRow], arm: Sequence[TaskRow], resamples: int
) -> Tree | None:
    """Of lm-eval's main result of a task, on the rows that both models answered."""
    if not base or not arm:
        return None
    left, right = (headline([row.model_dump() for row in rows]) for rows in (base, arm))
    pairs, unpaired = _pairs(left[1], right[1])
    if not pairs or left[0] != right[0]:
        return None
    before, after = np.array(pairs).T
    if set(before) | set(after) <= {0.0, 1.0}:
        subtasks = [task for task, row in left[1] if (task, row) in right[1]]
        return _accuracy_change(before == 1, after == 1, subtasks, unpaired)
    found = stats.bootstrap_ratio_difference(before, after, np.ones(len(before)), resamples, SEED)
    moved = stats.mcnemar(before > after, after > before)  # rows that fell, rows that rose
    return _change(found, moved, len(before), unpaired)


def exam_change(
    base: Sequence[ExamRow],
    arm: Sequence[ExamRow],
    keep: Callable[[ExamRow], bool] = lambda row: True,  # noqa: ARG005 - keeps all
) -> Tree | None:
    """Change of accuracy (a share, arm minus base) over the questions that ``keep`` takes.

    The interval is two-sided 95% (Tango's limits, widened to clustered errors over subjects);
    ``drop_lower`` and ``drop_upper`` are one-sided 95% bounds of the drop, for budgets.
    """
    left = {(row.subject, row.index): row for row in base if keep(row)}
    right = {(row.subject, row.index): row for row in arm if keep(row)}
    pairs, unpaired = _pairs(left, right)
    if not pairs:
        return None
    return _accuracy_change(
        [a.correct for a, _ in pairs],
        [b.correct for _, b in pairs],
        [a.subject for a, _ in pairs],
        unpaired,
    )


def subject_changes(base: Sequence[ExamRow], arm: Sequence[ExamRow], by: str) -> dict[str, Tree]:
    """``exam_change`` of each subject or category (``by``)."""
    names = sorted({name for row in base if (name := getattr(row, by)) is not None})
    found = {}
    for name in names:
        change = exam_change(
            [row for row in base if getattr(row, by) == name],
            [row for row in arm if getattr(row, by) == name],
        )
        if change is not None:
            found[name] = change
    return found


def f1_change(base: Sequence[DomainRow], arm: Sequence[DomainRow], resamples: int) -> Tree | None:
    """Change of a task's F1 with its paired bootstrap interval, and exact McNemar on the rows."""
    left, right = {row.id: row for row in base}, {row.id: row for row in arm}
    pairs, unpaired = _pairs(left, right, lambda a, b: a.gold == b.gold)
    if not pairs:
        return None
    found = _f1_difference(pairs, resamples)
    test = stats.mcnemar(
        np.array([a.correct for a, _ in pairs]), np.array([b.correct for _, b in pairs])
    )
    return _change(found, test, len(pairs), unpaired)


def _change(found: stats.Difference, test: stats.McNemar, n: int, unpaired: int) -> Tree:
    """A bootstrapped change, with the rows that fell and rose."""
    return {
        "change": found.value,
        "interval": [found.low, found.high],
        "drop_lower": -found.upper,
        "drop_upper": -found.lower,
        "detectable": stats.detectable_change(found.low, found.high),
        "n": n,
        "unpaired": unpaired,
        "lost": test.lost,
        "gained": test.gained,
        "p": test.p_value,
    }


def _f1_difference(
    pairs: Sequence[tuple[DomainRow, DomainRow]], resamples: int
) -> stats.Difference:
    """Of weighted F1 over labels or sets of them; of extracted answers, of the mean token F1."""
    left, right = [a.token_f1 for a, _ in pairs], [b.token_f1 for _, b in pairs]
    if None not in left and None not in right:
        each = np.ones(len(pairs))
        return stats.bootstrap_ratio_difference(
            np.array(left, float), np.array(right, float), each, resamples, SEED
        )
    return stats.bootstrap_f1_difference(
        [a.scored_gold() for a, _ in pairs],
        [a.scored_label() for a, _ in pairs],
        [b.scored_label() for _, b in pairs],
        resamples,
        SEED,
    )


def bpb_change(base: Sequence[BpbRow], arm: Sequence[BpbRow], resamples: int) -> Tree | None:
    """Change of bits per byte on the documents that both models read."""
    left = {(row.source, row.id): row for row in base}
    right = {(row.source, row.id): row for row in arm}
    pairs, unpaired = _pairs(left, right, lambda a, b: a.bytes == b.bytes)
    if not pairs:
        return None
    found = stats.bootstrap_ratio_difference(
        np.array([a.bits for a, _ in pairs]),
        np.array([b.bits for _, b in pairs]),
        np.array([a.bytes for a, _ in pairs]),
        resamples,
        SEED,
    )
    enough = len(pairs) >= stats.FEWEST_DOCUMENTS
    return {
        "change": found.value,
        "interval": [found.low, found.high] if enough else None,
        "lower": found.lower if enough else None,
        "upper": found.upper if enough else None,
        "detectable": stats.detectable_change(found.low, found.high) if enough else None,
        "documents": len(pairs),
        "unpaired": unpaired,
    }


def cloze_change(base: Sequence[ExamRow], arm: Sequence[ExamRow]) -> Tree | None:
    left = {(r.subject, r.index): r for r in base if r.cloze_correct is not None}
    right = {(r.subject, r.index): r for r in arm if r.cloze_correct is not None}
    pairs, unpaired = _pairs(left, right)
    if not pairs:
        return None
    return _accuracy_change(
        [bool(a.cloze_correct) for a, _ in pairs],
        [bool(b.cloze_correct) for _, b in pairs],
        [a.subject for a, _ in pairs],
        unpaired,
    )


def _accuracy_change(
    base: Sequence[bool] | np.ndarray,
    arm: Sequence[bool] | np.ndarray,
    subjects: Sequence[str],
    unpaired: int,
) -> Tree:
    left, right = np.array(base), np.array(arm)
    one_sided = stats.paired_drop(left, right, subjects, confidence=0.95)
    two_sided = stats.paired_drop(left, right, subjects, confidence=0.975)
    return {
        "change": 0.0 - one_sided.drop,
        "interval": [-two_sided.upper, -two_sided.lower],
        "drop_lower": one_sided.lower,
        "drop_upper": one_sided.upper,
        "detectable": one_sided.detectable,
        "n": one_sided.n,
        "unpaired": unpaired,
        "lost": one_sided.lost,
        "gained": one_sided.gained,
        "p": one_sided.p_value,
    }


def _pairs(
    base: dict[Any, Item],
    arm: dict[Any, Item],
    same: Callable[[Item, Item], bool] = lambda a, b: True,  # noqa: ARG005 - the key is enough
) -> tuple[list[tuple[Item, Item]], int]:
    """Items that are the ``same`` under one key on both sides, in the base's order.

    Also how many keys of either side found no such partner.
    """
    pairs = [(item, arm[key]) for key, item in base.items() if key in arm and same(item, arm[key])]
    return pairs, len(base.keys() | arm.keys()) - len(pairs)
