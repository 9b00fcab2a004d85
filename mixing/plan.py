"""A recipe's mix and schedule over packed sources, compiled to a Plan.

PlanSource, Mix, Schedule ─▶ compile_plan ─▶ Plan (rows of each source in each phase)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from configs import Data, Mix, Schedule
from mixing.caps import refuse_over_caps
from mixing.order import slot_sequence
from mixing.phases import phase_bounds, rows_per_step
from mixing.planned import (
    PhaseSource,
    Plan,
    PlanPhase,
    PlanSource,
    plan_source,
    with_hashes,
)
from mixing.shares import Unit, slot_counts, slot_weights, source_shares, weight_error

__all__ = [
    "PhaseAsk",
    "PhaseSource",
    "Plan",
    "PlanPhase",
    "PlanSource",
    "compile_phases",
    "compile_plan",
    "phase_bounds",
    "plan_source",
]


@dataclass(frozen=True)
class PhaseAsk:
    """What one phase is asked to be."""

    name: str
    steps: int
    shares: Mapping[str, float]
    """Share of each source, in units of the plan; together 1."""


def compile_plan(
    sources: Sequence[PlanSource],
    data: Data,
    mix: Mix,
    schedule: Schedule,
    estimated: bool = False,
) -> Plan:
    """The plan of a recipe. Retention sources may be among ``sources`` and take no part.

    Raises UserError for shares that cannot be met: a side without sources, a source that gets no
    slot, and one that would be read more often than its ``max_epochs``.
    """
    trained = [source for source in sources if source.role != "retention"]
    batch_rows = rows_per_step(schedule, data.seq_len)
    own_mixes = {str(name): phase for name, phase in schedule.phases.items()}
    asks = []
    for name, _, steps in phase_bounds(schedule, batch_rows, data.seq_len):
        general = own_mixes[name].general if name in own_mixes else mix.general
        asks.append(PhaseAsk(name, steps, source_shares(trained, mix, general)))
    plan = compile_phases(
        trained,
        asks,
        seq_len=data.seq_len,
        batch_rows=batch_rows,
        seed=data.seed,
        unit=mix.unit,
        estimated=estimated,
    )
    refuse_over_caps(plan, schedule)
    return plan


def compile_phases(
    sources: Sequence[PlanSource],
    asks: Sequence[PhaseAsk],
    *,
    seq_len: int,
    batch_rows: int,
    seed: int,
    unit: Unit,
    estimated: bool = False,
) -> Plan:
    """A plan from the shares of any number of phases; ``max_epochs`` is not looked at."""
    by_name = {source.name: source for source in sources}
    phases: list[PlanPhase] = []
    first_step = 0
    for ask in asks:
        phases.append(_phase(ask, by_name, first_step, batch_rows, unit))
        first_step += ask.steps
    used = {part.name for phase in phases for part in phase.sources}
    plan = Plan(
        seq_len=seq_len,
        batch_rows=batch_rows,
        steps=first_step,
        seed=seed,
        unit=unit,
        sources=tuple(source for source in sources if source.name in used),
        phases=tuple(phases),
        estimated=estimated,
    )
    return with_hashes(plan)


def _phase(
    ask: PhaseAsk,
    by_name: Mapping[str, PlanSource],
    first_step: int,
    batch_rows: int,
    unit: Unit,
) -> PlanPhase:
    shares = {name: share for name, share in sorted(ask.shares.items()) if share > 0}
    units_per_row = {n: by_name[n].units(unit) / by_name[n].rows for n in shares}
    counts = slot_counts(shares, units_per_row)
    rows = phase_rows(list(counts.values()), ask.steps * batch_rows)
    return PlanPhase(
        name=ask.name,
        first_row=first_step * batch_rows,
        rows=ask.steps * batch_rows,
        first_step=first_step,
        steps=ask.steps,
        general=math.fsum(shares[n] for n in shares if by_name[n].role == "general"),
        denominator=sum(counts.values()),
        weight_error=weight_error(counts, slot_weights(shares, units_per_row)),
        sources=tuple(
            _part(by_name[name], shares[name], count, rows[i])
            for i, (name, count) in enumerate(counts.items())
        ),
        hash="",
    )


def phase_rows(counts: Sequence[int], rows: int) -> list[int]:
    """Rows of each source among the first ``rows`` slots of the repeated slot sequence."""
    periods, rest = divmod(rows, sum(counts))
    tail = np.bincount(slot_sequence(counts, rest), minlength=len(counts)) if rest else None
    return [periods * c + (0 if tail is None else int(tail[i])) for i, c in enumerate(counts)]


def _part(source: PlanSource, share: float, slot_count: int, rows: int) -> PhaseSource:
    return PhaseSource(
        name=source.name,
        asked_share=share,
        slot_count=slot_count,
        rows=rows,
        tokens=round(rows * source.tokens / source.rows),
        supervised_tokens=round(rows * source.supervised_tokens / source.rows),
        epochs=rows / source.rows,
    )
