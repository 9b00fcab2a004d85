"""alloy plan: what a recipe will do, without doing it."""

import click

from alloy.commands.shared import emit, recipe_options
from alloy.verbs import load, plan


@click.command()
@recipe_options
def command(recipe_path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what RECIPE will do: rows, epochs, learning rate, steps."""
    found = plan(load(recipe_path, overrides))
    if as_json:
        emit(found.to_json())
    else:
        click.echo(found.table())
