"""Which first steps the runs of a sweep have in common, so that each is trained once. Pure.

courses of the arms ─▶ shared_starts ─▶ for each arm: nothing, or steps of an arm trained before it

Runs with equal batches, rates and settings are the same run up to the first step that differs: an
arm goes on from the other's checkpoint there as a killed run goes on from its own, which is bit
for bit what training it from its own start gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alloy.planning import Planned
from configs import Recipe, Schedule
from mixing.blend import Plan
from pretrain.training import common_rate_steps


@dataclass(frozen=True)
class Course:
    """All that decides what the steps of a run compute."""

    plan: Plan
    schedule: Schedule
    """With a number for the peak rate."""
    settings: dict[str, Any]
    """Base, data and train: they must be equal, the number of ranks among them."""


@dataclass(frozen=True)
class SharedStart:
    """An arm's first steps that another arm trains."""

    by: int
    """Index of that arm."""
    steps: int


def course(recipe: Recipe, planned: Planned) -> Course:
    """The course of a recipe; ``planned`` is its plan."""
    settings = recipe.model_dump(mode="json", include={"data", "train"})
    base = planned.start.base
    settings["base"] = None if base is None else base.model_dump(mode="json")
    return Course(planned.plan, planned.start.schedule, settings)


def common_steps(one: Course, other: Course) -> int:
    """How many first steps of two runs are the same: rows, rates and everything else."""
    same_steps = one.plan.batch_rows == other.plan.batch_rows
    if not same_steps or one.settings != other.settings:
        return 0
    rows = one.plan.common_rows(other.plan)
    rates = common_rate_steps((one.plan, one.schedule), (other.plan, other.schedule))
    return min(rows // one.plan.batch_rows, rates)


def training_order(courses: Sequence[Course]) -> list[int]:
    """Indices of the arms, longer runs first: a trunk is trained before what branches from it."""
    return sorted(range(len(courses)), key=lambda index: -courses[index].plan.steps)


def shared_starts(courses: Sequence[Course]) -> list[SharedStart | None]:
    """For each arm the one before it in the training order that has most steps in common with it.

    Together the runs form a tree, and each of its edges is trained once, whatever the order. An
    arm trains at least its last step itself, which makes it complete. Of equals the earliest
    trained one is taken: it did not itself begin later than the shared steps.
    """
    order = training_order(courses)
    starts: list[SharedStart | None] = [None] * len(courses)
    for place, index in enumerate(order):
        mine = courses[index]
        most = mine.plan.steps - 1
        found = [(min(most, common_steps(mine, courses[by])), by) for by in order[:place]]
        steps, by = max(found, key=lambda pair: pair[0], default=(0, 0))
        if steps > 0:
            starts[index] = SharedStart(by, steps)
    return starts


def kept_steps(starts: Sequence[SharedStart | None], index: int) -> tuple[int, ...]:
    """The steps at which other arms go on from arm ``index``: it keeps a checkpoint of each."""
    return tuple(sorted({s.steps for s in starts if s is not None and s.by == index}))


def shared_tokens(courses: Sequence[Course], starts: Sequence[SharedStart | None]) -> list[int]:
    """Tokens of each arm that another one trains."""
    return [
        0 if start is None else start.steps * one.plan.batch_rows * one.plan.seq_len
        for one, start in zip(courses, starts, strict=True)
    ]
