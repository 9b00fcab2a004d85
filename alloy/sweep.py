"""The arms of a ratio sweep: independent runs, measured in the same way as their base."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alloy.building import build_recipe
from alloy.evaluation import evaluate
from alloy.hub import hugging_face_folder
from alloy.planning import plan_recipe
from alloy.training import run_folder, train_recipe
from checkpoints.folder import write_json
from configs import AlloyError, Recipe, UserError
from mixing.plan import Plan

Show = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    """One run of a sweep."""

    name: str
    kind: Literal["arm", "control", "saturation"]
    general_share: float
    tokens: int
    """Of the run or of the domain, as ``schedule.tokens``."""


def reference_model(recipe: Recipe) -> Path:
    """The folder of the model that arms are compared with: ``compare_with``, else the start."""
    base = recipe.base
    if base is not None and base.compare_with is not None:
        return hugging_face_folder(base.compare_with, base.compare_with_revision)
    if base is None or base.model is None:
        raise UserError("the recipe names no model to measure", "set base.model or --model")
    return hugging_face_folder(base.model, base.revision)


def _annealed(recipe: Recipe) -> bool | None:
    """Whether the reference ends annealed, where it is an Alloy run, which says so."""
    lineage = reference_model(recipe).parent / "lineage.json"
    if not lineage.is_file():
        return None
    return bool(json.loads(lineage.read_text(encoding="utf-8"))["annealed"])


def arms(recipe: Recipe) -> list[Arm]:
    """The arms by ascending general share, then the saturation check of the first of them."""
    if recipe.sweep is None:
        raise UserError("the recipe has no sweep", "add sweep: {general: [0, 0.05, 0.25]}")
    shares = sorted(set(recipe.sweep.general))
    total = recipe.schedule.tokens
    found = [
        Arm(f"general_{share:g}", "control" if share == 1 else "arm", share, total)
        for share in shares
    ]
    if recipe.sweep.saturation is not None:
        part = recipe.sweep.saturation
        name = f"general_{shares[0]:g}_at_{part:g}_tokens"
        found.append(Arm(name, "saturation", shares[0], round(part * total)))
    return found


def arm_recipe(recipe: Recipe, arm: Arm) -> Recipe:
    """The recipe of one arm: another share, perhaps other tokens, and a run folder of its own."""
    return recipe.model_copy(
        update={
            "name": f"{recipe.name}/arms/{arm.name}",
            "mix": recipe.mix.model_copy(update={"general": arm.general_share}),
            "schedule": recipe.schedule.model_copy(update={"tokens": arm.tokens}),
            "sweep": None,
        }
    )


def run_sweep(recipe: Recipe, show: Show) -> dict[str, Any]:
    """Train and measure every arm, and write sweep.json beside them.

    All arms are planned before the first is trained, so that a share that cannot be met costs
    nothing. A failed arm is recorded with its reason and does not stop the others.
    """
    began = time.monotonic()
    folder = run_folder(recipe)
    build_recipe(recipe, show)
    planned = [(arm, arm_recipe(recipe, arm)) for arm in arms(recipe)]
    plans = {arm.name: plan_recipe(own).plan for arm, own in planned}
    evaluate(
        recipe, plan_recipe(recipe), reference_model(recipe), folder / "evals/base", "base", show
    )
    done = [_run_arm(arm, own, plans[arm.name], folder, show) for arm, own in planned]
    record = sweep_record(recipe, done, round(time.monotonic() - began, 1))
    write_json(folder / "sweep.json", record)
    return record


def sweep_record(recipe: Recipe, done: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What the report reads: where the records of the base and of each arm are."""
    return {
        "name": recipe.name,
        "seconds": seconds,
        # Arms with the domain's tokens fixed are of different lengths.
        "tokens_per_arm": recipe.schedule.tokens if recipe.schedule.tokens_of == "run" else None,
        "budget": recipe.budget.model_dump(),
        "note": recipe.note,
        "base": {
            "name": "base",
            "model": str(reference_model(recipe)),
            "annealed": _annealed(recipe),
            "eval": "evals/base",
        },
        "arms": done,
    }


def _run_arm(arm: Arm, own: Recipe, plan: Plan, folder: Path, show: Show) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": arm.name,
        "kind": arm.kind,
        "general_share": arm.general_share,
        "tokens": plan.rows * plan.seq_len,
        "run": f"arms/{arm.name}",
        "eval": f"evals/{arm.name}",
        "failed": None,
    }
    try:
        export = train_recipe(own, show)
        evaluate(own, plan_recipe(own), export, folder / entry["eval"], arm.name, show)
    except AlloyError as error:
        show(f"{arm.name}: failed: {error.message}")
        entry["failed"] = error.message
    return entry
