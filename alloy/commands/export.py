"""alloy export: a Hugging Face folder from a run's checkpoint."""

from pathlib import Path

import click

from alloy.commands.shared import show
from alloy.verbs import export


@click.command()
@click.option("--out", type=Path, required=True, help="Folder to write.")
@click.option("--step", type=int, help="Which checkpoint; left out: the newest good one.")
@click.option("--average", type=click.IntRange(min=2), help="Mean of so many last checkpoints.")
@click.argument("run", type=Path)
def command(run: Path, out: Path, step: int | None, average: int | None) -> None:
    """Write a checkpoint of RUN, or the mean of its last ones, as a Hugging Face folder."""
    click.echo(export(run, out, step=step, average=average, progress=show).table())
