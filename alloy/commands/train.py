"""alloy train: one recipe from its start to the exported model."""

import click

from alloy.commands.shared import emit, load, recipe_options, show
from alloy.training import run_folder, train_recipe


@click.command()
@recipe_options
def command(recipe_path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Train RECIPE; running it again goes on where it stopped."""
    recipe = load(recipe_path, overrides)
    export = train_recipe(recipe, show)
    if as_json:
        emit({"run": str(run_folder(recipe)), "export": str(export)})
    else:
        click.echo(str(export))
