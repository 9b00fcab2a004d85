"""alloy export: a Hugging Face folder from a run's checkpoint."""

from pathlib import Path

import click

from checkpoints.export import export_folder
from checkpoints.folder import chosen
from pretrain.job import JOB, read_job
from pretrain.model import model_from


@click.command()
@click.option("--out", type=Path, required=True, help="Folder to write.")
@click.option("--step", type=int, help="Which checkpoint; left out: the newest good one.")
@click.argument("run", type=Path)
def command(run: Path, out: Path, step: int | None) -> None:
    """Write a checkpoint of RUN as a Hugging Face folder."""
    job = read_job(run / JOB)
    export_folder(model_from(chosen(run, step)), job.tokenizer, out)
    click.echo(str(out))
