"""A recipe's mix and schedule over packed sources, compiled to a Plan.

PlanSource, Mix, Schedule ─▶ compile_plan ─▶ Plan (rows of each source in each phase)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from configs import Data, Mix, Schedule
from mixing.blend.caps import refuse_over_caps
from mixing.blend.length import domain_units_per_row, run_steps
from mixing.blend.phases import phase_bounds, phase_fractions, rows_per_step
from mixing.blend.planned import PhaseSource, Plan, PlanPhase, PlanSource, plan_source, with_hashes
from mixing.blend.shares import (
    Unit,
    mix_of_phase,
    slot_counts,
    slot_weights,
    source_shares,
    weight_error,
)
from mixing.blend.slots import marks_of, slot_sequence

__all__ = [
    "PhaseAsk",
    "PhaseSource",
    "Plan",
    "PlanPhase",
    "PlanSource",
    "compile_phases",
    "compile_plan",
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
    slot, a phase without a step, domain tokens that no phase reads, and a source that would be
    read more often than its ``max_epochs``.
    """
    trained = [source for source in sources if source.role != "retention"]
    by_name = {source.name: source for source in trained}
    batch_rows = rows_per_step(schedule, data.seq_len)
    shares = {
        name: source_shares(trained, mix_of_phase(mix, schedule.phases.get(name), trained))
        for name, fraction in phase_fractions(schedule)
        if fraction > 0
    }
    rates = {
        name: domain_units_per_row(
            slot_counts(asked, _units_per_row(by_name, asked, mix.unit)), trained, mix.unit
        )
        for name, asked in shares.items()
    }
    steps = run_steps(schedule, batch_rows, data.seq_len, rates, mix.unit)
    asks = [PhaseAsk(name, n, shares[name]) for name, _, n in phase_bounds(schedule, steps)]
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
    units_per_row = _units_per_row(by_name, shares, unit)
    counts = slot_counts(shares, units_per_row)
    slots = list(counts.values())
    sequence = slot_sequence(slots, ask.steps * batch_rows)
    rows = phase_rows(sequence, slots, ask.steps * batch_rows)
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
        marks=marks_of(sequence, slots),
        hash="",
    )


def _units_per_row(
    by_name: Mapping[str, PlanSource], names: Iterable[str], unit: Unit
) -> dict[str, float]:
    return {name: by_name[name].units(unit) / by_name[name].rows for name in names}


def phase_rows(sequence: np.ndarray, counts: Sequence[int], rows: int) -> list[int]:
    """Rows of each source among the first ``rows`` slots of the repeated slot sequence."""
    periods, rest = divmod(rows, sum(counts))
    tail = np.bincount(sequence[:rest], minlength=len(counts)).tolist()
    return [periods * count + more for count, more in zip(counts, tail, strict=True)]


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
