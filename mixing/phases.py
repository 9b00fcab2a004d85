"""A schedule in whole steps: where warmup, stable and anneal begin."""

import math

from configs import Schedule, UserError


def rows_per_step(schedule: Schedule, seq_len: int) -> int:
    """Rows of one optimizer step: ``batch_tokens`` rounded down to whole rows."""
    return schedule.batch_tokens // seq_len


def total_steps(schedule: Schedule, batch_rows: int, seq_len: int) -> int:
    """Optimizer steps of the run: ``tokens`` rounded down to whole steps of whole rows."""
    return schedule.tokens // (batch_rows * seq_len)


def phase_bounds(schedule: Schedule, batch_rows: int, seq_len: int) -> list[tuple[str, int, int]]:
    """(name, first step, steps) of each phase that has any, in order, without gaps.

    Boundaries are rounded to the nearest step, halves up. Raises UserError where a phase with a
    mix of its own would have no step.
    """
    steps = total_steps(schedule, batch_rows, seq_len)
    bounds = bounds_of_steps(schedule, steps)
    for name in schedule.phases:
        if name not in [phase for phase, _, _ in bounds]:
            raise UserError(
                f"schedule.phases.{name} has a mix, but '{name}' lasts none of the {steps} steps",
                f"set schedule.{'warmup and anneal' if name == 'stable' else name} so that it "
                "lasts, or take its mix out",
            )
    return bounds


def bounds_of_steps(schedule: Schedule, steps: int) -> list[tuple[str, int, int]]:
    """``phase_bounds`` of the same shape of schedule over another number of steps."""
    stable = math.floor(schedule.warmup * steps + 0.5)
    anneal = max(stable, math.floor((1.0 - schedule.anneal) * steps + 0.5))
    edges = [("warmup", 0, stable), ("stable", stable, anneal), ("anneal", anneal, steps)]
    return [(name, first, end - first) for name, first, end in edges if end > first]
