"""plan: what a recipe will do, without doing it."""

from dataclasses import replace

from alloy.planning import (
    Planned,
    disk_use,
    plan_recipe,
    rank_memory,
    require_rows_fit,
    run_folder,
    start_cell,
    start_lines,
    weights_of,
)
from alloy.sweeps import arms, course, repeated_recipes, shared_starts, shared_tokens
from alloy.verbs.plan_result import (
    DomainTotals,
    PlannedArm,
    PlannedPhase,
    PlannedSweep,
    PlanResult,
    SharedSteps,
    SourceInPhase,
)
from checkpoints import Checkpoint, last_good
from configs import Recipe, UserError
from mixing.blend import Plan
from pretrain.training import curve


def plan(recipe: Recipe) -> PlanResult:
    """What a recipe will do: rows, epochs, learning rate, disk, memory, arms of its sweep.

    Nothing is built or written; torch is not loaded. Raises UserError for whatever will be refused
    later, as far as it can be known now.

    >>> import alloy
    >>> planned = alloy.plan(alloy.load("recipe.yaml"))
    >>> planned.steps, planned.tokens
    (12, 3072)
    >>> print(planned.phases[0].sources[0].name)
    own
    """
    reached, _ = last_good(run_folder(recipe) / "checkpoints", deep=False)
    if recipe.base is not None and reached is None:
        require_rows_fit(recipe.base, recipe.data)
    planned = plan_recipe(recipe)
    found = plan_result(recipe, planned, reached)
    many = len(found.sweep.arms) if found.sweep else 0
    lines = start_lines(planned, reached)
    if found.memory is not None:
        lines.append(found.memory.line(recipe.train.nodes * recipe.train.ranks))
    if found.disk is not None:
        lines += found.disk.lines(many)
    return replace(found, remarks=tuple(lines))


def require_built(recipe: Recipe) -> Planned:
    """The plan over the built corpus. Raises UserError where some of it is not built yet."""
    planned = plan_recipe(recipe)
    if planned.corpus is None:
        missing = sorted({s.name for s in recipe.data.sources} - set(planned.keys))
        what = f"not built yet: {', '.join(missing)}"
        if not missing:
            what = f"not searched yet for items of {', '.join(recipe.data.decontaminate)}"
        raise UserError(what, "run `alloy build` first")
    return planned


def plan_result(recipe: Recipe, planned: Planned, reached: Checkpoint | None = None) -> PlanResult:
    """``reached`` is the newest good checkpoint of the recipe's own run."""
    plan, start = planned.plan, planned.start
    weights = weights_of(start, reached)
    return PlanResult(
        name=recipe.name,
        estimated=plan.estimated,
        plan_hash=plan.hash,
        unit=plan.unit,
        steps=plan.steps,
        batch_rows=plan.batch_rows,
        seq_len=plan.seq_len,
        tokens=plan.rows * plan.seq_len,
        asked_tokens=recipe.schedule.tokens,
        tokens_of=recipe.schedule.tokens_of,
        domain=_domain(plan),
        epochs=dict(plan.epochs),
        packing=planned.ledgers,
        phases=_phases(plan),
        start=None if start.base is None else start_cell(start, plan, reached),
        learning_rate=tuple(curve(plan, start.schedule)),
        disk=disk_use(recipe, weights, plan),
        memory=rank_memory(weights, recipe.train),
        sweep=None if recipe.sweep is None else _sweep(recipe),
    )


def _phases(plan: Plan) -> tuple[PlannedPhase, ...]:
    return tuple(
        PlannedPhase(
            name=phase.name,
            steps=phase.steps,
            rows=phase.rows,
            tokens=phase.rows * plan.seq_len,
            general_share=phase.general,
            denominator=phase.denominator,
            weight_error=phase.weight_error,
            sources=tuple(
                SourceInPhase(
                    name=part.name,
                    share=part.asked_share,
                    rows=part.rows,
                    tokens=part.tokens,
                    supervised_tokens=part.supervised_tokens,
                    epochs=part.epochs,
                )
                for part in phase.sources
            ),
        )
        for phase in plan.phases
    )


def _domain(plan: Plan) -> DomainTotals:
    names = {source.name for source in plan.sources if source.role == "domain"}
    parts = [part for phase in plan.phases for part in phase.sources if part.name in names]
    return DomainTotals(
        rows=sum(part.rows for part in parts),
        tokens=sum(part.tokens for part in parts),
        supervised_tokens=sum(part.supervised_tokens for part in parts),
    )


def _sweep(recipe: Recipe) -> PlannedSweep:
    wanted = arms(recipe)
    repeated = repeated_recipes(recipe, wanted)
    courses = [course(own, plan_recipe(own)) for own, _ in repeated]
    starts = shared_starts(courses)
    rows = []
    for i, arm in enumerate(wanted):
        plan, start, repetition = courses[i].plan, starts[i], repeated[i][1]
        shared = None
        if start is not None:
            tokens = start.steps * plan.batch_rows * plan.seq_len
            shared = SharedSteps(wanted[start.by].name, start.steps, tokens)
        rows.append(
            PlannedArm(
                name=arm.name,
                kind=arm.kind,
                general_share=arm.general_share,
                seed=arm.seed,
                settings=arm.settings,
                steps=plan.steps,
                tokens=plan.rows * plan.seq_len,
                shared=shared,
                most_epochs=max(plan.epochs.values()),
                repetition=None if repetition is None else repetition.beside(plan),
            )
        )
    saved = sum(shared_tokens(courses, starts))
    return PlannedSweep(tuple(rows), sum(row.tokens for row in rows), saved)
