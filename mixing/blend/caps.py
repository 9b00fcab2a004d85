"""Refuses a plan that reads a source too often, with the numbers that would fit."""

import math

from configs import Schedule, UserError
from mixing.blend.length import domain_units, domain_units_per_row
from mixing.blend.phases import bounds_of_steps
from mixing.blend.planned import Plan, PlanPhase, PlanSource


def refuse_over_caps(plan: Plan, schedule: Schedule) -> None:
    """Raise UserError for the source that is furthest over its ``max_epochs``, if any is."""
    over = [s for s in plan.sources if rows_read(plan, s.name) > rows_left(s)]
    if not over:
        return
    worst = max(over, key=lambda s: (_all_epochs(plan, s) / s.max_epochs, s.name))
    epochs = _all_epochs(plan, worst)
    before = f"; {worst.first_use:,} before" if worst.first_use else ""
    message = (
        f"source '{worst.name}' would be read {epochs:.2f} times "
        f"({rows_read(plan, worst.name):,} rows of {worst.rows:,}{before}), over its max_epochs "
        f"{worst.max_epochs:g}"
    )
    steps = fitting_steps(plan, worst, schedule)
    tokens = _tokens_of_steps(plan, schedule, steps)
    ways = [f"schedule.tokens {tokens} or less"] if steps else []
    # With the domain's tokens fixed, another general share leaves how often it is read as it is.
    by_share = schedule.tokens_of == "run" or worst.role == "general"
    ways += [_share_way(plan, worst)] if by_share and fitting_shares(plan, worst) else []
    ways.append(f"max_epochs {math.ceil(epochs * 100) / 100:g}")
    raise UserError(message, "what would fit: " + "; or ".join(ways))


def rows_read(plan: Plan, name: str) -> int:
    """Rows of a source in the whole run, repeats counted."""
    return sum(part.rows for phase in plan.phases for part in phase.sources if part.name == name)


def row_cap(source: PlanSource) -> int:
    """Most rows that ``max_epochs`` allows; a started row counts as within it."""
    return math.ceil(source.max_epochs * source.rows - 1e-9)


def rows_left(source: PlanSource) -> int:
    """Most rows that this plan may read: ``max_epochs`` counts the reading that it carries on."""
    return row_cap(source) - source.first_use


def _all_epochs(plan: Plan, source: PlanSource) -> float:
    return (source.first_use + rows_read(plan, source.name)) / source.rows


def fitting_steps(plan: Plan, source: PlanSource, schedule: Schedule) -> int:
    """The most steps of the same schedule and mix that keep ``source`` within its cap; 0: none."""
    counts = {phase.name: _slot_count(phase, source.name) for phase in plan.phases}
    denominators = {phase.name: phase.denominator for phase in plan.phases}

    def most_rows(steps: int) -> int:
        bounds = bounds_of_steps(schedule, steps)
        known = [(name, n * plan.batch_rows) for name, _, n in bounds if name in counts]
        return sum(-(-rows * counts[name] // denominators[name]) for name, rows in known)

    low, high = 0, plan.steps  # the cap holds at low and breaks at high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if most_rows(middle) <= rows_left(source) else (low, middle)
    return low


def _tokens_of_steps(plan: Plan, schedule: Schedule, steps: int) -> int:
    """``schedule.tokens`` that make a run of so many steps."""
    if schedule.tokens_of == "run":
        return steps * plan.batch_rows * plan.seq_len
    rates = {
        phase.name: domain_units_per_row(
            {part.name: part.slot_count for part in phase.sources}, plan.sources, plan.unit
        )
        for phase in plan.phases
    }
    return math.ceil(domain_units(schedule, steps, plan.batch_rows, rates))


def fitting_shares(plan: Plan, source: PlanSource) -> list[tuple[str, float, float]]:
    """(phase, share that keeps the cap, asked share) for the phases that read ``source``.

    The other sources keep their proportions. With slot weight w and share s, the sources beside
    it average A = w (1 - s) / (s (1 - w)) times its own units a row; a weight w' then needs the
    share s' = w' / (w' + A (1 - w')).
    """
    spare = rows_left(source) - len(plan.phases)  # a phase may round up by one row
    ratio = spare / rows_read(plan, source.name)
    fitting = []
    for phase in plan.phases:
        part = next((p for p in phase.sources if p.name == source.name), None)
        if part is None or part.rows == 0:
            continue
        if len(phase.sources) == 1 or ratio <= 0:
            return []
        weight, share = part.slot_count / phase.denominator, part.asked_share
        others = weight * (1 - share) / (share * (1 - weight))
        less = weight * ratio
        fits = less / (less + others * (1 - less))
        fitting.append((phase.name, _rounded_down(fits), share))
    return fitting


def _share_way(plan: Plan, source: PlanSource) -> str:
    """The fitting shares in the terms of the recipe: mix.general where that is what decides."""
    alone = [s.role for s in plan.sources].count(source.role) == 1
    fitting = fitting_shares(plan, source)
    if alone and source.role == "domain":
        listed = ", ".join(
            f"{_rounded_up(1 - fits):.4g} in {name} (asked {1 - asked:.4g})"
            for name, fits, asked in fitting
        )
        return f"general at least {listed}"
    listed = ", ".join(f"{fits:.4g} in {name} (asked {asked:.4g})" for name, fits, asked in fitting)
    return f"{'general' if alone else 'a share of'} at most {listed}"


def _rounded_down(value: float) -> float:
    """Four significant digits, never more than ``value``."""
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return math.floor(value / step) * step


def _rounded_up(value: float) -> float:
    return math.ceil(value * 1e4) / 1e4


def _slot_count(phase: PlanPhase, name: str) -> int:
    return sum(part.slot_count for part in phase.sources if part.name == name)
