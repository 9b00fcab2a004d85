"""alloy sweep: an arm for each general share, and the report."""

import click

from alloy.commands.shared import emit, load, recipe_options, show
from alloy.sweep import run_sweep
from alloy.training import run_folder


@click.command()
@recipe_options
def command(recipe_path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Train and measure an arm for each general share of RECIPE; `alloy report` joins them."""
    recipe = load(recipe_path, overrides)
    record = run_sweep(recipe, show)
    if as_json:
        emit(record)
    else:
        click.echo(str(run_folder(recipe) / "sweep.json"))
