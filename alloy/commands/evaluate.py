"""alloy eval: measure one model, or a run at the ends of its stages."""

from pathlib import Path
from typing import Any

import click

from alloy.building import build_recipe
from alloy.commands.shared import emit, load, recipe_options, show
from alloy.evaluation import evaluate
from alloy.hub import hugging_face_folder
from alloy.planning import plan_recipe
from alloy.stages import evaluate_stages
from alloy.sweep import reference_model
from alloy.training import run_folder
from configs import UserError


@click.command("eval")
@click.option("--model", help="Run folder, Hugging Face folder or hub id; default: the base.")
@click.option("--out", type=Path, help="Folder of the records.")
@click.option("--stages", is_flag=True, help="The recipe's own run, at the ends of its stages.")
@recipe_options
def command(
    recipe_path: str,
    overrides: tuple[str, ...],
    as_json: bool,
    model: str | None,
    out: Path | None,
    stages: bool,
) -> None:
    """Measure a model on the exam, domain tasks and held-out text of RECIPE."""
    recipe = load(recipe_path, overrides)
    if stages and (model or out):
        raise UserError("--stages measures the recipe's own run", "leave --model and --out away")
    build_recipe(recipe, show)
    if stages:
        found = evaluate_stages(recipe, plan_recipe(recipe), show)
        if as_json:
            emit({str(step): summary for step, summary in found.items()})
            return
        for step, summary in found.items():
            click.echo(f"step {step}")
            _print(summary)
        return
    chosen = hugging_face_folder(model, None) if model else reference_model(recipe)
    name = Path(model).name if model else "base"
    folder = out or run_folder(recipe) / "evals" / name
    summary = evaluate(recipe, plan_recipe(recipe), chosen, folder, name, show)
    if as_json:
        emit(summary)
        return
    _print(summary)
    click.echo(str(folder))


def _print(summary: dict[str, Any]) -> None:
    if summary["exam"] is not None:
        click.echo(f"exam accuracy {summary['exam']['accuracy']:.4f} of {summary['exam']['n']}")
    for task, scores in summary["domain"].items():
        measure = scores["headline"].replace("_", " ")
        click.echo(f"{task} {measure} {scores['domain_f1']:.4f} of {scores['n']}")
    for source, scores in summary["bpb"].items():
        click.echo(f"{source} ({scores['role']}) bits per byte {scores['bpb']:.4f}")
    for caveat in summary["caveats"]:
        click.echo(f"caveat: {caveat}", err=True)
