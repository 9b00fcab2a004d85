"""alloy plan: what a recipe will do, without doing it."""

from typing import Any

import click

from alloy.commands.shared import emit, load, recipe_options, table
from alloy.planning import Planned, plan_recipe
from alloy.start_matrix import described, start_lines
from configs import Recipe
from pretrain.schedule import curve


@click.command()
@recipe_options
def command(recipe_path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what RECIPE will do: rows, epochs, learning rate, steps."""
    recipe = load(recipe_path, overrides)
    planned = plan_recipe(recipe)
    answer = describe(recipe, planned)
    if as_json:
        emit(answer)
    else:
        click.echo("\n".join([render(answer), *start_lines(planned)]))


def describe(recipe: Recipe, planned: Planned) -> dict[str, Any]:
    plan = planned.plan
    phases = [
        {
            "name": phase.name,
            "steps": phase.steps,
            "rows": phase.rows,
            "tokens": phase.rows * plan.seq_len,
            "general_share": phase.general,
            "sources": [
                {
                    "name": part.name,
                    "share": part.asked_share,
                    "rows": part.rows,
                    "tokens": part.tokens,
                    "supervised_tokens": part.supervised_tokens,
                    "epochs": part.epochs,
                }
                for part in phase.sources
            ],
        }
        for phase in plan.phases
    ]
    return {
        "name": recipe.name,
        "estimated": plan.estimated,
        "plan_hash": plan.hash,
        "unit": plan.unit,
        "steps": plan.steps,
        "batch_rows": plan.batch_rows,
        "seq_len": plan.seq_len,
        "tokens": plan.rows * plan.seq_len,
        "asked_tokens": recipe.schedule.tokens,
        "epochs": plan.epochs,
        "phases": phases,
        "start": None if planned.start.base is None else described(planned.start, plan),
        "learning_rate": curve(plan, planned.start.schedule),
    }


def render(answer: dict[str, Any]) -> str:
    mark = "  (estimated: not all sources are built)" if answer["estimated"] else ""
    rows = [
        [
            f"{phase['name']} / {part['name']}",
            f"{part['share']:.4%}",
            f"{part['rows']:,}",
            f"{part['tokens']:,}",
            f"{part['supervised_tokens']:,}",
            f"{part['epochs']:.3f}",
        ]
        for phase in answer["phases"]
        for part in phase["sources"]
    ]
    header = ["phase / source", f"share of {answer['unit']}", "rows", "tokens", "supervised"]
    rates = "  ".join(f"{p['step']}: {p['lr']:.3g}" for p in answer["learning_rate"])
    return "\n".join(
        [
            f"{answer['name']}: {answer['steps']:,} steps of {answer['batch_rows']:,} rows x "
            f"{answer['seq_len']:,} = {answer['tokens']:,} tokens "
            f"(asked {answer['asked_tokens']:,}){mark}",
            table([*header, "epochs"], rows),
            f"learning rate by step: {rates}",
            f"plan hash {answer['plan_hash']}",
        ]
    )
