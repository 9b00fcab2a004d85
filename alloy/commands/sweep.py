"""alloy sweep: an arm for each general share, the ratio that follows, and its confirmation."""

import click

from alloy.commands.shared import emit, recipe_options, show
from alloy.verbs import load, sweep


@click.command()
@click.option(
    "--confirm", is_flag=True, help="Also train the recommended share and judge it on the budgets."
)
@recipe_options
def command(recipe_path: str, overrides: tuple[str, ...], as_json: bool, confirm: bool) -> None:
    """Train and measure an arm for each general share of RECIPE; `alloy report` joins them."""
    found = sweep(load(recipe_path, overrides), confirm=confirm, progress=show)
    if as_json:
        emit(found.to_json())
    else:
        click.echo(found.table())
    found.require_complete()
