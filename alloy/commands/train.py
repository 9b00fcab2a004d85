"""alloy train: one recipe from its start to the exported model."""

from typing import get_args

import click

from alloy.commands.shared import emit, recipe_options, show
from alloy.verbs import Launcher, load, prepare_training, train
from configs import UserError


@click.command()
@click.option(
    "--launcher",
    type=click.Choice(get_args(Launcher)),
    default="deepspeed",
    help="torchrun and slurm: prepare the run, and say what to start it with.",
)
@click.option("--dry-run", is_flag=True, help="Prepare the run and start nothing.")
@recipe_options
def command(
    recipe_path: str, overrides: tuple[str, ...], as_json: bool, launcher: Launcher, dry_run: bool
) -> None:
    """Train RECIPE; running it again goes on where it stopped."""
    recipe = load(recipe_path, overrides)
    if launcher != "deepspeed" and not dry_run:
        raise UserError(
            f"--launcher {launcher} starts nothing itself",
            f"add --dry-run, and start what it {'prints' if launcher == 'torchrun' else 'writes'}",
        )
    found = prepare_training(recipe, launcher, show) if dry_run else train(recipe, show)
    if found is None:
        return
    if as_json:
        emit(found.to_json())
    else:
        click.echo(found.table())
