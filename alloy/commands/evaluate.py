"""alloy eval: measure one model, several in one table, or a run at the ends of its stages."""

from pathlib import Path

import click

from alloy.commands.shared import emit, recipe_options, show
from alloy.verbs import BASE, evaluate, load


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
    found = evaluate(recipe, models or (BASE,), out, stages=stages, progress=show)
    if as_json:
        emit(found.to_json())
        return
    for caveat in found.caveats:
        click.echo(f"caveat: {caveat}", err=True)
    click.echo(found.table())
