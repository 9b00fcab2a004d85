"""Resolves where a run starts: its base and its learning rate, without loading a model.

Recipe ─▶ start_point ─▶ StartPoint (checkpoint, data cursors, peak rate and why)
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloy.models import (
    continued_rate,
    continues,
    known_model,
    rate_after_open_model,
    rate_after_run,
)
from checkpoints import (
    JOB,
    Checkpoint,
    chosen,
    claim,
    identity,
    is_alloy,
    last_good,
    newest,
    read_json,
    run_of,
    steps,
)
from configs import Base, Recipe, Schedule, UserError
from mixing.blend import Cursors

GIVEN = "as given"


@dataclass(frozen=True)
class StartPoint:
    """What a run begins with."""

    base: Base | None
    """The recipe's, with the step of the checkpoint where it is an Alloy run's."""
    schedule: Schedule
    """The recipe's, with a number for the peak rate."""
    lr_reason: str
    """Why the peak rate is what it is."""
    parent: dict[str, Any] | None
    """The checkpoint that the run branches from, where it is an Alloy run's: run, step, hash of
    its manifest, tokens of its whole lineage, learning rate and phase there."""
    cursors: Cursors | None
    """How far the sources were read, where that is carried on."""
    passed_over: tuple[str, ...] = ()
    """What was wrong with checkpoints of the parent newer than the one taken."""

    @property
    def rate_continues(self) -> bool:
        return continues(self.lr_reason)

    @property
    def tokens_before(self) -> int:
        """Tokens that are counted on: those of the parent's lineage where data is continued."""
        kept = self.parent is not None and self.cursors is not None
        return self.parent["tokens"] if kept and self.parent else 0


def run_folder(recipe: Recipe) -> Path:
    return Path(recipe.run_dir) / recipe.name


def start_point(recipe: Recipe, verify: bool = False) -> StartPoint:
    """What the recipe starts from; reads manifests only, unless ``verify`` asks for more: then a
    base without a step is the newest checkpoint whose every byte is right.

    A run that has a checkpoint of its own needs its parent's no more, and keeps what it took then.
    Raises UserError for what the base cannot give: a step, moments, data cursors or a learning
    rate of something that is no Alloy run, and a checkpoint that is not there.
    """
    base = recipe.base
    known = begun(recipe)
    if known is not None and known["lineage"]["parent"] is not None:
        return _after_run(recipe, known["lineage"]["parent"], known["cursors"])
    if base is None or base.model is None or not is_alloy(Path(base.model)):
        _refuse_without_run(base, recipe.schedule)
        schedule, reason = _rate_without_run(recipe.schedule, base)
        return StartPoint(base, schedule, reason, None, None)
    checkpoint, passed_over = _base_checkpoint(recipe, Path(base.model), verify)
    cursors = _cursors(checkpoint) if base.data == "continued" else None
    return _after_run(recipe, _parent(base.model, checkpoint), cursors, tuple(passed_over))


def begun(recipe: Recipe) -> dict[str, Any] | None:
    """The job of this run's earlier starts, where one of them saved a checkpoint that is there;
    None too where the recipe names another base since."""
    root = run_folder(recipe) / "checkpoints"
    earlier = _earlier_job(recipe) if steps(root) else None
    return earlier if earlier is not None and last_good(root, deep=False)[0] else None


def hold_parent(run: Path, start: StartPoint) -> list[str]:
    """See to it that the parent keeps what ``run`` starts from until that has its own checkpoint;
    lines for people where the parent cannot be told."""
    if start.base is None or start.base.model is None or start.parent is None:
        return []
    if steps(run / "checkpoints"):
        return []
    step = start.parent["step"]
    try:
        claim(run_of(Path(start.base.model)), step, run)
    except OSError as error:
        return [
            f"warning: {error.filename or start.base.model}: {error.strerror}; if that run trains "
            f"on, its checkpoint of step {step} may be removed there before this one has its own"
        ]
    return []


def _after_run(
    recipe: Recipe,
    parent: dict[str, Any],
    cursors: Cursors | None,
    passed_over: tuple[str, ...] = (),
) -> StartPoint:
    assert recipe.base is not None
    schedule, reason = _rate_after_run(recipe.schedule, parent)
    base = recipe.base.model_copy(update={"step": parent["step"]})
    return StartPoint(base, schedule, reason, parent, cursors, passed_over)


def _base_checkpoint(recipe: Recipe, run: Path, verify: bool) -> tuple[Checkpoint, list[str]]:
    """The parent's checkpoint, and what was wrong with newer ones. Where a step is asked for, by
    the recipe or an earlier start, it is that one; the ranks look at its contents."""
    assert recipe.base is not None
    earlier = _earlier_job(recipe)
    step = recipe.base.step
    if step is None and earlier is not None:  # which a longer parent must not change
        step = earlier["base"].get("step")
    if step is not None:
        return chosen(run, step, deep=False), []
    return newest(run, deep=verify)


def _refuse_without_run(base: Base | None, schedule: Schedule) -> None:
    model = "the recipe" if base is None else base.model or "a base of random weights"
    asked = {
        "base.step": base is not None and base.step is not None,
        "base.start weights+moments": base is not None and base.start == "weights+moments",
        "base.data continued": base is not None and base.data == "continued",
        "schedule.peak_lr continued": schedule.peak_lr == "continued",
    }
    for what, is_asked in asked.items():
        if is_asked:
            raise UserError(
                f"{what}: {model} is no Alloy run, which alone has checkpoints, moments, data "
                "cursors and a learning rate of its own",
                "name the folder of a run in base.model, or take this out",
            )


def _earlier_job(recipe: Recipe) -> dict[str, Any] | None:
    """What the ranks of an earlier start of this run were told, where its base was the same."""
    base, path = recipe.base, run_folder(recipe) / JOB
    if base is None or base.model is None or not path.is_file():
        return None
    job = read_json(path)
    same = job["base"]["model"] == str(Path(base.model).resolve())
    return job if same and base.step in (None, job["base"].get("step")) else None


def _parent(model: str, checkpoint: Checkpoint) -> dict[str, Any]:
    state = checkpoint.state
    return {
        "run": model,
        "step": checkpoint.step,
        "manifest_sha256": identity(checkpoint),
        "plan_hash": state["plan_hash"],
        "tokens": state["tokens"] + state["lineage"].get("tokens_before", 0),
        "lr": state.get("lr"),
        "peak_lr": state["lineage"]["peak_lr"],
        "phase": state.get("phase"),
    }


def _with_rate(schedule: Schedule, found: tuple[float, str]) -> tuple[Schedule, str]:
    rate, reason = found
    return schedule.model_copy(update={"peak_lr": rate}), reason


def _rate_after_run(schedule: Schedule, parent: dict[str, Any]) -> tuple[Schedule, str]:
    if schedule.peak_lr == "continued":
        return _with_rate(schedule, continued_rate(parent))
    if schedule.peak_lr == "auto":
        return _with_rate(schedule, rate_after_run(parent))
    return schedule, GIVEN


def _rate_without_run(schedule: Schedule, base: Base | None) -> tuple[Schedule, str]:
    if schedule.peak_lr != "auto":
        return schedule, GIVEN
    if base is None or base.model is None:
        raise UserError(
            "schedule.peak_lr auto: without a model there is no rate to go by",
            "give schedule.peak_lr as a number",
        )
    found = rate_after_open_model(base.model, base.revision, known_model(base.model))
    return _with_rate(schedule, found)


def _cursors(checkpoint: Checkpoint) -> Cursors:
    cursors = checkpoint.state.get("cursors")
    if cursors is None:
        raise UserError(
            f"base.data continued: {checkpoint.path} does not say how far its sources were read",
            "set base.data: fresh",
        )
    return cursors
