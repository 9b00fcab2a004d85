"""How many steps a run has, from what ``schedule.tokens`` counts.

schedule.tokens of the run    ─▶ whole steps of batch_rows x seq_len
schedule.tokens of the domain ─▶ the steps in which the domain sources give so many units
"""

from collections.abc import Mapping, Sequence

from configs import Schedule, UserError
from mixing.blend.phases import bounds_of_steps, phase_fractions, steps_in_tokens
from mixing.blend.shares import SourceSize, Unit


def run_steps(
    schedule: Schedule, batch_rows: int, seq_len: int, rates: Mapping[str, float], unit: Unit
) -> int:
    """Steps of the run, rounded down. ``rates``: ``domain_units_per_row`` of each phase by name.

    Raises UserError where the domain is to give tokens and no phase reads it, or one step gives
    more than is asked.
    """
    if schedule.tokens_of == "run":
        return steps_in_tokens(schedule, batch_rows, seq_len)
    if not any(rates.get(name, 0.0) for name, share in phase_fractions(schedule) if share > 0):
        raise UserError(
            f"schedule.tokens {schedule.tokens} of the domain: no phase reads any domain text",
            "set general under 1, or schedule.tokens_of: run",
        )
    low, high = 0, 1  # what is asked holds at low and is passed at high, once it is
    while domain_units(schedule, high, batch_rows, rates) <= schedule.tokens:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        within = domain_units(schedule, middle, batch_rows, rates) <= schedule.tokens
        low, high = (middle, high) if within else (low, middle)
    if low == 0:
        raise UserError(
            f"schedule.tokens {schedule.tokens} of the domain: one step already gives about "
            f"{domain_units(schedule, 1, batch_rows, rates):.0f} {unit} of it",
            "ask for more, or set a smaller schedule.batch_tokens",
        )
    return low


def domain_units(
    schedule: Schedule, steps: int, batch_rows: int, rates: Mapping[str, float]
) -> float:
    """What the domain sources give in a run of so many steps, repeats counted."""
    bounds = bounds_of_steps(schedule, steps)
    return sum(count * batch_rows * rates.get(name, 0.0) for name, _, count in bounds)


def domain_units_per_row(
    slot_counts: Mapping[str, int], sources: Sequence[SourceSize], unit: Unit
) -> float:
    """Mean units of domain text in a row of a phase, rows of general text counted as holding
    none."""
    slots = sum(slot_counts.values())
    given = (
        slot_counts[s.name] / slots * s.units(unit) / s.rows
        for s in sorted(sources, key=lambda s: s.name)
        if s.role == "domain" and s.name in slot_counts
    )
    return sum(given)
