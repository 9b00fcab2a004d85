"""alloy eval: measure one model, several in one table, or a run at the ends of its stages."""

from pathlib import Path
from typing import Any

import click

from alloy.commands.shared import emit, load, recipe_options, show, table
from alloy.models import hugging_face_folder
from alloy.planning import plan_recipe, run_folder
from alloy.reports.writing import HEADER, many_models, table_rows
from alloy.runs import build_recipe, evaluate, evaluate_stages
from alloy.sweeps import reference_name
from checkpoints import step_name
from configs import Recipe, UserError

BASE = "base"
Measured = tuple[str, Path, dict[str, Any]]
"""Name in the table, folder of the records, summary."""


@click.command("eval")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Run folder, Hugging Face folder, hub id, or base; default: base. Several: one table.",
)
@click.option("--out", type=Path, help="Folder of the records; of several models one in it each.")
@click.option("--stages", is_flag=True, help="The recipe's own run, at the ends of its stages.")
@recipe_options
def command(
    recipe_path: str,
    overrides: tuple[str, ...],
    as_json: bool,
    models: tuple[str, ...],
    out: Path | None,
    stages: bool,
) -> None:
    """Measure models on the exam, the tasks and the held-out text of RECIPE."""
    recipe = load(recipe_path, overrides)
    if stages and (models or out):
        raise UserError("--stages measures the recipe's own run", "leave --model and --out away")
    found = _stages(recipe) if stages else _models(recipe, models or (BASE,), out)
    folders = [(name, folder) for name, folder, _ in found]
    many = many_models(folders) if len(folders) > 1 else None
    if as_json:
        emit(many or found[0][2])
    elif many:
        _print_many(many)
    else:
        _print_one(found[0][2], folders[0][1])


def _models(recipe: Recipe, models: tuple[str, ...], out: Path | None) -> list[Measured]:
    wanted = _named(recipe, models)
    places = {name: hugging_face_folder(*named) for name, named in wanted.items()}
    build_recipe(recipe, show)
    planned = plan_recipe(recipe)
    found = []
    for name, named in wanted.items():
        folder = out or run_folder(recipe) / "evals" / name
        folder = folder if out is None or len(wanted) == 1 else out / name
        summary = evaluate(recipe, planned, places[name], folder, name, show, named)
        found.append((name, folder, summary))
    return found


def _stages(recipe: Recipe) -> list[Measured]:
    build_recipe(recipe, show)
    summaries = evaluate_stages(recipe, plan_recipe(recipe), show)
    evals = run_folder(recipe) / "evals"
    return [(step_name(s), evals / step_name(s), told) for s, told in summaries.items()]


def _named(recipe: Recipe, models: tuple[str, ...]) -> dict[str, tuple[str, str | None]]:
    """{name in the table: (model, revision)}. Raises UserError where two have one name."""
    found: dict[str, tuple[str, str | None]] = {}
    for model in models:
        name = BASE if model == BASE else Path(model).name
        if name in found:
            raise UserError(f"two models are called '{name}'", "their last parts must differ")
        found[name] = reference_name(recipe) if model == BASE else (model, None)
    return found


def _print_many(many: dict[str, Any]) -> None:
    click.echo(table(HEADER, table_rows(many)))
    for caveat in many["caveats"]:
        click.echo(f"caveat: {caveat}", err=True)
    for model in many["models"]:
        click.echo(model["folder"])


def _print_one(summary: dict[str, Any], folder: Path) -> None:
    exam = summary["exam"]
    if exam is not None:
        click.echo(f"exam accuracy {exam['accuracy']:.4f} of {exam['n']}")
        low, high = exam["chance_band"]
        if exam["at_chance"]:
            click.echo(f"exam at chance ({low:.4f} to {high:.4f} by guessing): no claim")
        if exam["format_collapse"]:
            gap = exam["generative_gap"]["gap"]
            click.echo(f"exam format lost: {gap:.4f} more known than written")
    for row in summary["published"]:
        click.echo(row["text"])
    for task, scores in summary["domain"].items():
        measure = scores["headline"].replace("_", " ")
        click.echo(f"{task} {measure} {scores['domain_f1']:.4f} of {scores['n']}")
    for task, scores in summary["lm_eval"].items():
        told = "" if scores["score"] is None else f" {scores['headline']} {scores['score']:.4f}"
        click.echo(f"{task}{told} of {scores['n']}")
    for source, scores in summary["bpb"].items():
        click.echo(f"{source} ({scores['role']}) bits per byte {scores['bpb']:.4f}")
    for caveat in summary["caveats"]:
        click.echo(f"caveat: {caveat}", err=True)
    click.echo(str(folder))
