"""train: a recipe to its exported model, or to what another launcher starts."""

import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from alloy.planning import run_folder
from alloy.runs import prepare_run, train_recipe
from alloy.verbs.result import Progress, Result, to_stderr
from checkpoints import JOB
from configs import Recipe, StoppedAtEnd
from pretrain.launch import slurm_script, torchrun_lines

Launcher = Literal["deepspeed", "torchrun", "slurm"]


@dataclass(frozen=True)
class TrainResult(Result):
    """Where a finished run lies."""

    run: str
    """The run folder: checkpoints, metrics.jsonl, receipt.json, lineage.json."""
    export: str
    """The trained model as a Hugging Face folder."""

    def table(self) -> str:
        """The folder of the model."""
        return self.export


@dataclass(frozen=True)
class PreparedRun(Result):
    """A run that is ready to be started by other means."""

    job: str
    """The file that ranks are told."""
    start: tuple[str, ...]
    """Command lines that start them."""

    def table(self) -> str:
        """The command lines."""
        return "\n".join(self.start)


def train(recipe: Recipe, progress: Progress = to_stderr) -> TrainResult:
    """Train a recipe to the end of its plan, in ranks of its own that the deepspeed launcher
    starts; a run that was interrupted goes on where it stopped.

    Raises UserError for a recipe that cannot be trained, and AlloyError where a rank fails or the
    run is stopped.

    >>> import alloy
    >>> trained = alloy.train(alloy.load("recipe.yaml"))
    >>> trained.export
    'runs/tiny/export'
    """
    with suppress(StoppedAtEnd):  # there is nothing left to begin
        train_recipe(recipe, progress)
    run = run_folder(recipe)
    return TrainResult(run=str(run), export=str(run / "export"))


def prepare_training(
    recipe: Recipe, launcher: Launcher, progress: Progress = to_stderr
) -> PreparedRun | None:
    """Build, plan and take the run folder, and start nothing; None for a finished run."""
    job = prepare_run(recipe, progress)
    if job is None:
        return None
    path = (job.folder / JOB).resolve()
    if launcher == "slurm":
        script = path.with_name("slurm.sh")
        text = slurm_script(recipe.name, path.parent, recipe.train)
        script.write_text(text, encoding="utf-8")
        lines = [shlex.join(["sbatch", str(script)])]
    elif launcher == "torchrun":
        lines = torchrun_lines(path, recipe.train)
    else:
        lines = [f"alloy train would start {recipe.train.ranks} ranks on {path}"]
    return PreparedRun(job=str(path), start=tuple(lines))
