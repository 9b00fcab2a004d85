"""Measures a run at the ends of its stages: each kept checkpoint is exported and measured.

run folder ─▶ pinned checkpoints ─▶ stages/STEP (Hugging Face) ─▶ evals/STEP
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alloy.planning import Planned, run_folder, trained_tokenizer
from alloy.runs.evaluation import measure
from checkpoints import chosen, export_folder, pinned_steps, step_name
from configs import Recipe, UserError
from pretrain.model import model_from
from pretrain.training import stage_ends


def evaluate_stages(
    recipe: Recipe, planned: Planned, show: Callable[[str], None]
) -> dict[int, dict[str, Any]]:
    """{step: summary} of the run's stage ends so far, which may be while it is still training.

    What is exported already, or measured, is not done again. Raises UserError where no stage has
    ended yet, and for a damaged checkpoint.
    """
    run = run_folder(recipe)
    ends = sorted(pinned_steps(run / "checkpoints"))
    if not ends:
        first = stage_ends(planned.plan)[0]
        raise UserError(
            f"{run}: no stage has ended yet; the first does after step {first}",
            "train the recipe, or wait for it",
        )
    found = {}
    for step in ends:
        name = step_name(step)
        folder = _exported(run, step, run / "stages" / name)
        found[step] = measure(recipe, planned, folder, run / "evals" / name, name, show)
    return found


def _exported(run: Path, step: int, target: Path) -> Path:
    """An export is put in place as a whole: what is there is complete."""
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        export_folder(model_from(chosen(run, step)), trained_tokenizer(run), target)
    return target
