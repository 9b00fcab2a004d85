"""evaluate: models measured on the exam, the tasks and the held-out text of a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloy.models import hugging_face_folder
from alloy.planning import plan_recipe, run_folder
from alloy.reports.writing import HEADER, many_models, table_rows
from alloy.runs import build_recipe, evaluate_stages, measure
from alloy.sweeps import reference_name
from alloy.verbs.result import Progress, Result, to_stderr
from alloy.verbs.text_tables import table
from checkpoints import step_name
from configs import Recipe, UserError

BASE = "base"


@dataclass(frozen=True)
class Measured:
    """One model: ``folder`` holds its records, ``summary`` is what summary.json says."""

    name: str
    folder: str
    summary: dict[str, Any]

    def lines(self) -> list[str]:
        """The scores for people."""
        summary, exam = self.summary, self.summary["exam"]
        lines = [] if exam is None else _exam_lines(exam)
        lines += [row["text"] for row in summary["published"]]
        for task, scores in summary["domain"].items():
            name = scores["headline"].replace("_", " ")
            lines.append(f"{task} {name} {scores['domain_f1']:.4f} of {scores['n']}")
        for task, scores in summary["lm_eval"].items():
            told = "" if scores["score"] is None else f" {scores['headline']} {scores['score']:.4f}"
            lines.append(f"{task}{told} of {scores['n']}")
        for source, scores in summary["bpb"].items():
            lines.append(f"{source} ({scores['role']}) bits per byte {scores['bpb']:.4f}")
        return lines


@dataclass(frozen=True)
class EvaluateResult(Result):
    """One or more models; ``compared`` is their table with paired changes, None for one model."""

    models: tuple[Measured, ...]
    compared: dict[str, Any] | None

    @property
    def caveats(self) -> list[str]:
        """What must be read first."""
        if self.compared is not None:
            return list(self.compared["caveats"])
        return list(self.models[0].summary["caveats"])

    def table(self) -> str:
        """The scores, and the folders of the records."""
        folders = [model.folder for model in self.models]
        if self.compared is None:
            return "\n".join([*self.models[0].lines(), *folders])
        return "\n".join([table(HEADER, table_rows(self.compared)), *folders])

    def to_json(self) -> dict[str, Any]:
        """The summary of one model, or the comparison of several."""
        return self.models[0].summary if self.compared is None else self.compared


def evaluate(
    recipe: Recipe,
    models: Sequence[str] = (BASE,),
    out: str | Path | None = None,
    *,
    stages: bool = False,
    progress: Progress = to_stderr,
) -> EvaluateResult:
    """Measure models: run folders, Hugging Face folders, hub ids, or ``base``, the recipe's own.

    ``out`` holds the records, of several models in a folder each; ``stages`` measures the recipe's
    own run at the ends of its stages instead. A finished evaluation of the same weights and items
    is reused. Raises UserError for what cannot be measured.

    >>> import alloy
    >>> measured = alloy.evaluate(alloy.load("recipe.yaml"), ["exported"])
    >>> sorted(measured.models[0].summary["bpb"])
    ['own', 'web', 'wiki']
    """
    if stages and (tuple(models) != (BASE,) or out):
        raise UserError("--stages measures the recipe's own run", "leave --model and --out away")
    place = None if out is None else Path(out)
    found = _stages(recipe, progress) if stages else _models(recipe, models, place, progress)
    folders = [(model.name, Path(model.folder)) for model in found]
    compared = many_models(folders) if len(folders) > 1 else None
    return EvaluateResult(tuple(found), compared)


def _models(
    recipe: Recipe, models: Sequence[str], out: Path | None, progress: Progress
) -> list[Measured]:
    wanted = _named(recipe, models)
    places = {name: hugging_face_folder(*named) for name, named in wanted.items()}
    build_recipe(recipe, progress)
    planned = plan_recipe(recipe)
    found = []
    for name, named in wanted.items():
        folder = out or run_folder(recipe) / "evals" / name
        folder = folder if out is None or len(wanted) == 1 else out / name
        summary = measure(recipe, planned, places[name], folder, name, progress, named)
        found.append(Measured(name, str(folder), summary))
    return found


def _stages(recipe: Recipe, progress: Progress) -> list[Measured]:
    build_recipe(recipe, progress)
    summaries = evaluate_stages(recipe, plan_recipe(recipe), progress)
    evals = run_folder(recipe) / "evals"
    return [Measured(step_name(s), str(evals / step_name(s)), t) for s, t in summaries.items()]


def _named(recipe: Recipe, models: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """{name in the table: (model, revision)}. Raises UserError where two have one name."""
    found: dict[str, tuple[str, str | None]] = {}
    for model in models:
        name = BASE if model == BASE else Path(model).name
        if name in found:
            raise UserError(f"two models are called '{name}'", "their last parts must differ")
        found[name] = reference_name(recipe) if model == BASE else (model, None)
    return found


def _exam_lines(exam: dict[str, Any]) -> list[str]:
    lines = [f"exam accuracy {exam['accuracy']:.4f} of {exam['n']}"]
    low, high = exam["chance_band"]
    if exam["at_chance"]:
        lines.append(f"exam at chance ({low:.4f} to {high:.4f} by guessing): no claim")
    if exam["format_collapse"]:
        gap = exam["generative_gap"]["gap"]
        lines.append(f"exam format lost: {gap:.4f} more known than written")
    return lines
