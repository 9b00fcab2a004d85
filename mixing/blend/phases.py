"""A schedule in whole steps: where warmup, the parts of the stable stretch and anneal begin."""

import math
from itertools import accumulate

from configs import LR_PHASES, Schedule, UserError


def rows_per_step(schedule: Schedule, seq_len: int) -> int:
    """Rows of one optimizer step: ``batch_tokens`` rounded down to whole rows."""
    return schedule.batch_tokens // seq_len


def steps_in_tokens(schedule: Schedule, batch_rows: int, seq_len: int) -> int:
    """Optimizer steps of a run of ``schedule.tokens`` positions, rounded down to whole ones."""
    return schedule.tokens // (batch_rows * seq_len)


def phase_bounds(schedule: Schedule, steps: int) -> list[tuple[str, int, int]]:
    """(name, first step, steps) of each phase that has any, in order, without gaps.

    Boundaries are rounded to the nearest step, halves up. Raises UserError where a phase that
    the recipe lists would have no step.
    """
    bounds = bounds_of_steps(schedule, steps)
    for name in schedule.phases:
        if name not in [phase for phase, _, _ in bounds]:
            raise UserError(
                f"schedule.phases.{name} has a mix, but '{name}' lasts none of the {steps} steps",
                f"set {_length_key(name)} so that it lasts, or take its mix out",
            )
    return bounds


def bounds_of_steps(schedule: Schedule, steps: int) -> list[tuple[str, int, int]]:
    """``phase_bounds`` without the refusal, for asking about any number of steps."""
    fractions = phase_fractions(schedule)
    ends = [*accumulate(fraction for _, fraction in fractions[:-1])]
    # Rounded: a sum of fractions such as 0.1 + 0.7 must not fall a hair short of its step.
    edges = [0, *(min(steps, math.floor(round(end, 12) * steps + 0.5)) for end in ends), steps]
    spans = zip(fractions, edges, edges[1:], strict=False)
    return [(name, first, end - first) for (name, _), first, end in spans if end > first]


def phase_fractions(schedule: Schedule) -> list[tuple[str, float]]:
    """(name, share of the run) of every phase in order; the last one takes what is left.

    The stable stretch holds the named phases in the order of the recipe, and ``stable``, the
    rest of it, where it is listed or else before them.
    """
    named = [name for name in schedule.phases if name not in LR_PHASES]
    stretch = [name for name in schedule.phases if name == "stable" or name in named]
    if "stable" not in stretch:
        stretch = ["stable", *stretch]
    rest = max(0.0, 1.0 - schedule.warmup - schedule.anneal - schedule.named_fraction)
    parts = [
        (name, rest if name == "stable" else schedule.phases[name].token_fraction or 0.0)
        for name in stretch
    ]
    return [("warmup", schedule.warmup), *parts, ("anneal", schedule.anneal)]


def _length_key(name: str) -> str:
    if name == "stable":
        return "schedule.warmup and anneal"
    return f"schedule.{name}" if name in LR_PHASES else f"schedule.phases.{name}.token_fraction"
