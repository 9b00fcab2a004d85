"""alloy build: tokenize the sources of a recipe into the store."""

import click

from alloy.commands.shared import emit, recipe_options, show
from alloy.verbs import build, load


@click.command()
@recipe_options
def command(recipe_path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Tokenize the sources of RECIPE into the store; what is built already is reused."""
    found = build(load(recipe_path, overrides), show)
    if as_json:
        emit(found.to_json())
    else:
        click.echo(found.table())
    found.require_balanced()
