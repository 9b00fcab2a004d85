"""A sweep: independent runs, measured in the same way as their base, and the record of them."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from alloy.models import hugging_face_folder
from alloy.planning import plan_recipe, run_folder
from alloy.runs import average_steps, begin_from, build_recipe, measure, train_recipe
from alloy.sweep_record import NAME as SWEEP_JSON
from alloy.sweep_record import (
    NOT_FINISHED,
    NOT_RUN,
    ArmEntry,
    BaseEntry,
    BudgetEntry,
    SharedSteps,
    SweepRecord,
    read_sweep,
)
from alloy.sweeps.arm import Arm, arm_recipe, arms, confirming
from alloy.sweeps.merge_points import averaged_steps, merge_entries, merged_model
from alloy.sweeps.repetition import Repetition, repeated_recipes, repetition_line
from alloy.sweeps.sharing import (
    Course,
    SharedStart,
    course,
    kept_steps,
    shared_starts,
    training_order,
)
from checkpoints import write_json
from configs import AlloyError, Recipe, Stopped, StopSignal, UserError, exit_code_of, stop_came
from mixing.blend import Plan

Show = Callable[[str], None]


@dataclass(frozen=True)
class _Run:
    """An arm, planned."""

    arm: Arm
    recipe: Recipe
    course: Course
    begin: SharedStart | None
    keep_steps: tuple[int, ...]
    """Where other arms go on from this one."""
    repetition: Repetition | None
    averaged: dict[int, tuple[int, ...]]
    """The steps whose checkpoints are averaged, by how many they are."""


def reference_model(recipe: Recipe) -> Path:
    """The folder of the model that arms are compared with."""
    return hugging_face_folder(*reference_name(recipe))


def reference_name(recipe: Recipe) -> tuple[str, str | None]:
    """Name and revision of the model that arms are compared with: ``compare_with``, else the
    start."""
    base = recipe.base
    if base is not None and base.compare_with is not None:
        return base.compare_with, base.compare_with_revision
    if base is None or base.model is None:
        raise UserError("the recipe names no model to measure", "set base.model or --model")
    return base.model, base.revision


def run_sweep(recipe: Recipe, show: Show, confirm: float | None = None) -> SweepRecord:
    """Train and measure every arm, and write sweep.json beside them.

    All arms are planned before the first is trained, so that a share that cannot be met costs
    nothing. First steps that arms have in common are trained once. A failed arm is recorded with
    its reason and does not stop the others, which then train those steps themselves; what is done
    already is reused. sweep.json is written anew after each arm. ``confirm`` adds a run at that
    share, which stays in the record of later sweeps in this folder. A stop ends the sweep: its arm
    is recorded as not finished, and Stopped or KeyboardInterrupt is raised.
    """
    folder = run_folder(recipe)
    before = _before(folder)
    began = time.monotonic() - ((before.seconds or 0.0) if before else 0.0)
    build_recipe(recipe, show)
    wanted = [*arms(recipe), *_confirming(recipe, folder, confirm)]
    runs = _runs(recipe, wanted, show)
    measured_on = plan_recipe(recipe)
    base, named = reference_model(recipe), reference_name(recipe)
    measure(recipe, measured_on, base, folder / "evals/base", "base", show, named)
    entries = [arm_entry(run.arm, run.recipe, run.course.plan, run.repetition) for run in runs]
    repeated = [entry.repetition for entry in entries if entry.repetition]
    if repeated:
        show(repetition_line(repeated))
    assert recipe.sweep is not None
    whole = runs[0].course.plan
    tokens = whole.rows * whole.seq_len
    entries += merge_entries(recipe.sweep, runs[0].arm, tokens=tokens, failed=NOT_RUN)

    def attempt(
        index: int,
        make: Callable[[], Path],
        begin: Callable[[], SharedSteps | None] = lambda: None,
    ) -> None:
        """Make and measure a model; the reason, if that failed, is in its entry of the record."""
        entry = entries[index]

        def record(failed: str | None) -> None:
            entries[index] = entry.model_copy(update={"failed": failed})
            seconds = round(time.monotonic() - began, 1)
            write_json(folder / SWEEP_JSON, sweep_record(recipe, entries, seconds).to_json())

        _end_if_stopped()
        try:
            if entry.run is not None:
                entry = entry.model_copy(update={"shared": begin()})
            measure(recipe, measured_on, make(), folder / entry.eval, entry.name, show)
            failed = None
        except Stopped as stop:
            record(NOT_FINISHED)
            # 1 is of a sweep with arms that failed.
            code = exit_code_of(stop.number)
            raise Stopped(stop.message, stop.hint, stop.number, code) from stop
        except KeyboardInterrupt:
            record(NOT_FINISHED)
            raise
        except AlloyError as error:
            failed = error.message
        except (RuntimeError, OSError) as error:  # torch's, memory among them, and the disk's
            failed = f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
        if failed and stop_came() is not None:
            failed = NOT_FINISHED  # a library made another error of the stop
        elif failed:
            show(f"{entry.name}: failed: {failed}")
        record(failed)

    for index in training_order([run.course for run in runs]):
        run = runs[index]
        train = partial(train_recipe, run.recipe, show, run.keep_steps)
        attempt(index, train, partial(_begin, run, runs, show))
    for index in range(len(runs), len(entries)):
        attempt(index, lambda index=index: _merged(recipe, runs[0], entries[0], entries[index]))
    return sweep_record(recipe, entries, round(time.monotonic() - began, 1))


def _end_if_stopped() -> None:
    """Before anything new is begun: a library may have swallowed the stop."""
    number = stop_came()
    if number is not None:
        raise StopSignal(number)


def _before(folder: Path) -> SweepRecord | None:
    """What earlier starts of this sweep wrote."""
    return read_sweep(folder) if (folder / SWEEP_JSON).is_file() else None


def sweep_record(recipe: Recipe, entries: Sequence[ArmEntry], seconds: float) -> SweepRecord:
    """What the report reads: where the records of the base and of each arm are."""
    return SweepRecord(
        name=recipe.name,
        seconds=seconds,
        # Arms with the domain's tokens fixed are of different lengths.
        tokens_per_arm=recipe.schedule.tokens if recipe.schedule.tokens_of == "run" else None,
        budget=BudgetEntry(**recipe.budget.model_dump()),
        note=recipe.note,
        base=BaseEntry(
            name="base",
            model=str(reference_model(recipe)),
            annealed=_annealed(recipe),
            eval="evals/base",
        ),
        arms=tuple(entries),
    )


def arm_entry(arm: Arm, own: Recipe, plan: Plan, repetition: Repetition | None) -> ArmEntry:
    """An arm's line in sweep.json, before it was run."""
    return ArmEntry(
        name=arm.name,
        kind=arm.kind,
        general_share=arm.general_share,
        tokens=plan.rows * plan.seq_len,
        seed=arm.seed,
        settings=arm.settings,
        ranks=own.train.ranks,
        run=f"arms/{arm.name}",
        eval=f"evals/{arm.name}",
        repetition=None if repetition is None else repetition.beside(plan),
        shared=None,
        failed=NOT_RUN,
    )


def _annealed(recipe: Recipe) -> bool | None:
    """Whether the reference ends annealed, where it is an Alloy run, which says so."""
    lineage = reference_model(recipe).parent / "lineage.json"
    if not lineage.is_file():
        return None
    return bool(json.loads(lineage.read_text(encoding="utf-8"))["annealed"])


def _confirming(recipe: Recipe, folder: Path, confirm: float | None) -> list[Arm]:
    """The confirming runs of this folder so far, and the one that is asked for."""
    before = _before(folder)
    known = () if before is None else before.arms
    shares = [arm.general_share for arm in known if arm.kind == "confirm"]
    shares = [share for share in [*shares, confirm] if share is not None]
    return [confirming(recipe, share) for share in dict.fromkeys(shares)]


def _runs(recipe: Recipe, wanted: Sequence[Arm], show: Show) -> list[_Run]:
    """Every arm with its plan and what it shares; an arm with data of its own is built first."""
    for arm in wanted:
        own = arm_recipe(recipe, arm)
        if own.data != recipe.data:
            build_recipe(own, show)
    found = repeated_recipes(recipe, wanted)
    courses = [course(own, plan_recipe(own)) for own, _ in found]
    starts = shared_starts(courses)
    assert recipe.sweep is not None
    runs = []
    for i, (arm, (own, repetition)) in enumerate(zip(wanted, found, strict=True)):
        counts = recipe.sweep.average if i == 0 else ()
        averaged = averaged_steps(courses[i].plan, own.train, counts)
        kept = {step for last in averaged.values() for step in last}
        keep = tuple(sorted({*kept_steps(starts, i), *kept}))
        runs.append(_Run(arm, own, courses[i], starts[i], keep, repetition, averaged))
    return runs


def _merged(recipe: Recipe, first: _Run, of: ArmEntry, entry: ArmEntry) -> Path:
    """The model of a merge's or average's entry. Raises AlloyError where the arm that it needs
    failed, or did not keep the checkpoints."""
    if of.failed:
        raise AlloyError(f"{of.name} failed", "run the sweep again")
    run, out = run_folder(first.recipe), run_folder(recipe) / "merges" / entry.name
    if entry.merge is not None:
        share = entry.merge.share
        return merged_model(reference_model(recipe), run / "export", share, out)
    assert entry.average is not None
    average_steps(run, first.averaged[entry.average.checkpoints], out)
    return out


def _begin(run: _Run, runs: Sequence[_Run], show: Show) -> SharedSteps | None:
    """Let an arm that shares its first steps go on from the one that trained them."""
    if run.begin is None:
        return None
    trunk, plan = runs[run.begin.by], run.course.plan
    folders = run_folder(run.recipe), run_folder(trunk.recipe)
    steps = begin_from(*folders, plan, run.begin.steps)
    if steps == 0:
        show(f"{run.arm.name}: {trunk.arm.name} left no checkpoint, so it trains all steps itself")
        return None
    show(f"{run.arm.name}: its first {steps:,} steps are those of {trunk.arm.name}")
    tokens = steps * plan.batch_rows * plan.seq_len
    return SharedSteps(arm=trunk.arm.name, steps=steps, tokens=tokens)
