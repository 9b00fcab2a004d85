"""Where a run starts: its base and its learning rate made definite, without loading a model.

Recipe ─▶ start_point ─▶ StartPoint (checkpoint, data cursors, peak rate and why)
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoints.folder import Checkpoint, chosen, identity, is_alloy
from configs import Base, Recipe, Schedule, UserError
from mixing.cursors import Cursors
from pretrain.job import JOB


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
        return StartPoint(base, recipe.schedule, "as given", None, None)
    step = base.step if base.step is not None else _first_start(recipe, base.model)
    checkpoint = chosen(Path(base.model), step, deep=False)
    parent = _parent(base.model, checkpoint)
    schedule, reason = _schedule(recipe.schedule, parent)
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
        "phase": state.get("phase"),
    }


def _schedule(schedule: Schedule, parent: dict[str, Any]) -> tuple[Schedule, str]:
    if schedule.peak_lr != "continued":
        return schedule, "as given"
    where = f"{parent['run']}, step {parent['step']}"
    if parent["lr"] is None:
        raise UserError(
            f"schedule.peak_lr continued: the checkpoint of {where} does not say its learning rate",
            "give schedule.peak_lr as a number",
        )
    reason = f"continues at the rate of {where}, in its {parent['phase']} phase"
    return schedule.model_copy(update={"peak_lr": parent["lr"]}), reason


def _cursors(checkpoint: Checkpoint) -> Cursors:
    cursors = checkpoint.state.get("cursors")
    if cursors is None:
        raise UserError(
            f"base.data continued: {checkpoint.path} does not say how far its sources were read",
            "set base.data: fresh",
        )
    return cursors
