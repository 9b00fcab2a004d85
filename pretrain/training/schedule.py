"""Learning rate as a pure function of position.

Warmup, stable and anneal (WSD: Hu et al. 2024, MiniCPM). The rate of a step is taken at the
middle of its tokens, so that no step has rate 0. It is never read back from an optimizer:
the loop writes it before each step, on resume too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from configs import Schedule
from mixing.blend import Plan

_SHAPES: dict[str, Callable[[float, float], float]] = {
    "linear": lambda done, floor: 1 - (1 - floor) * done,
    "1-sqrt": lambda done, floor: 1 - (1 - floor) * math.sqrt(done),
    "cosine": lambda done, floor: floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2,
    "exponential": lambda done, floor: floor**done,
}


def lr_at(step: int, steps: int, bounds: tuple[int, int], schedule: Schedule) -> float:
    """Learning rate of step ``step`` (0-based) of ``steps``.

    ``bounds`` are the first stable step and the first anneal step, as in the plan's phases.
    """
    first_stable, first_anneal = bounds
    middle = step + 0.5
    if step < first_stable:
        return schedule.peak * middle / first_stable
    if step < first_anneal:
        return schedule.peak
    done = (middle - first_anneal) / (steps - first_anneal)
    return schedule.peak * _SHAPES[schedule.anneal_shape](done, schedule.final_lr_ratio)


def common_rate_steps(one: tuple[Plan, Schedule], other: tuple[Plan, Schedule]) -> int:
    """How many first steps of two runs have the same learning rate by their closed form."""
    (plan, schedule), (plan_2, schedule_2) = one, other
    bounds, bounds_2 = first_steps(plan), first_steps(plan_2)
    if schedule.peak != schedule_2.peak or bounds[0] != bounds_2[0]:
        return 0
    falling = [
        (b[1], p.steps, s.anneal_shape, s.final_lr_ratio)
        for b, p, s in ((bounds, plan, schedule), (bounds_2, plan_2, schedule_2))
    ]
    return (
        min(plan.steps, plan_2.steps) if falling[0] == falling[1] else min(bounds[1], bounds_2[1])
    )


def first_steps(plan: Plan) -> tuple[int, int]:
    """First step after the warmup and first step of the anneal: named phases are parts of the
    stable stretch, so their mixes leave the rate as it is."""
    first = {phase.name: phase.first_step for phase in plan.phases}
    after_warmup = (phase.first_step for phase in plan.phases if phase.name != "warmup")
    return next(after_warmup, plan.steps), first.get("anneal", plan.steps)


def stage_ends(plan: Plan) -> list[int]:
    """Step counts at which a stage ends: before and after each anneal too."""
    following = [phase.name for phase in plan.phases[1:]] + [""]
    return [
        phase.first_step + phase.steps
        for phase, after in zip(plan.phases, following, strict=True)
        if phase.name != "warmup" or after == "anneal"
    ]


def steps_apart(plan: Plan, tokens: int | None) -> range:
    """Step counts before the end of a run that lie ``tokens`` positions apart, at least a step;
    none where there is no distance."""
    if tokens is None:
        return range(0)
    every = max(1, tokens // (plan.batch_rows * plan.seq_len))
    return range(every, plan.steps, every)


@dataclass(frozen=True)
class RatePoint:
    """The learning rate of a step, from 0."""

    step: int
    lr: float


def curve(plan: Plan, schedule: Schedule) -> list[RatePoint]:
    """The learning rate at the first and last step of each phase."""
    bounds = first_steps(plan)
    ends = {s for p in plan.phases for s in (p.first_step, p.first_step + p.steps - 1)}
    return [RatePoint(s, lr_at(s, plan.steps, bounds, schedule)) for s in sorted(ends)]
