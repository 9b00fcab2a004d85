"""Where a run starts: its base and its learning rate made definite, without loading a model.

Recipe ─▶ start_point ─▶ StartPoint (checkpoint, data cursors, peak rate and why)
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloy.open_models import known_model
from alloy.peak_rate import continued_rate, continues, rate_after_open_model, rate_after_run
from checkpoints.folder import Checkpoint, chosen, identity, is_alloy
from configs import Base, Recipe, Schedule, UserError
from mixing.cursors import Cursors
from pretrain.job import JOB

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


def start_point(recipe: Recipe) -> StartPoint:
    """What the recipe starts from; reads manifests only.

    Raises UserError for what the base cannot give: a step, moments, data cursors or a learning
    rate of something that is no Alloy run, and a checkpoint that is not there.
    """
    base = recipe.base
    if base is None or base.model is None or not is_alloy(Path(base.model)):
        _refuse_without_run(base, recipe.schedule)
        schedule, reason = _rate_without_run(recipe.schedule, base)
        return StartPoint(base, schedule, reason, None, None)
    step = base.step if base.step is not None else _first_start(recipe, base.model)
    checkpoint = chosen(Path(base.model), step, deep=False)
    parent = _parent(base.model, checkpoint)
    schedule, reason = _rate_after_run(recipe.schedule, parent)
    return StartPoint(
        base=base.model_copy(update={"step": checkpoint.step}),
        schedule=schedule,
        lr_reason=reason,
        parent=parent,
        cursors=_cursors(checkpoint) if base.data == "continued" else None,
    )


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


def _first_start(recipe: Recipe, model: str) -> int | None:
    """The step that an earlier start of this run took, which a longer parent must not change."""
    path = run_folder(recipe) / JOB
    if not path.is_file():
        return None
    base = json.loads(path.read_text(encoding="utf-8"))["base"]
    same = base["model"] == str(Path(model).resolve())
    return base.get("step") if same else None


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
