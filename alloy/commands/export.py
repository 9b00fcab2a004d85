"""alloy export: a Hugging Face folder from a run's checkpoint."""

from pathlib import Path

import click
from transformers.utils import logging as transformers_logging

from alloy.commands.shared import show
from alloy.planning import trained_tokenizer
from alloy.runs import average_last, told
from checkpoints import chosen, export_folder
from configs import UserError
from pretrain.model import model_from


@click.command()
@click.option("--out", type=Path, required=True, help="Folder to write.")
@click.option("--step", type=int, help="Which checkpoint; left out: the newest good one.")
@click.option("--average", type=click.IntRange(min=2), help="Mean of so many last checkpoints.")
@click.argument("run", type=Path)
def command(run: Path, out: Path, step: int | None, average: int | None) -> None:
    """Write a checkpoint of RUN, or the mean of its last ones, as a Hugging Face folder."""
    transformers_logging.disable_progress_bar()
    if average is not None and step is not None:
        raise UserError("--step and --average name different models", "give one of them")
    if average is not None:
        record = average_last(run, average, out)
        lines = told(run, [part["step"] for part in record["of"]])
    else:
        checkpoint = chosen(run, step)
        export_folder(model_from(checkpoint), trained_tokenizer(checkpoint.path), out)
        lines = told(run, [checkpoint.step]) if step is None else []
    for line in lines:
        show(line)
    click.echo(str(out))
