"""alloy merge: between a base and its continuation, or what tuning added to it."""

from pathlib import Path

import click
from transformers.utils import logging as transformers_logging

from alloy.commands.shared import emit, show
from alloy.runs import merge_between, merge_residual, open_part, told
from configs import UserError


@click.command()
@click.option("--base", required=True, help="Run, folder or hub id that training started from.")
@click.option("--base-revision", help="Hub revision of the base.")
@click.option("--trained", required=True, help="Run, folder or hub id of its continuation.")
@click.option("--add", "tuned", help="Instruct model of the same base: its difference is added.")
@click.option("--lambda", "share", type=float, help="How much; with --add 1 when left out.")
@click.option("--out", type=Path, required=True, help="Folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(
    base: str,
    base_revision: str | None,
    trained: str,
    tuned: str | None,
    share: float | None,
    out: Path,
    as_json: bool,
) -> None:
    """Write base + lambda x (trained - base), or with --add trained + lambda x (added - base)."""
    transformers_logging.disable_progress_bar()
    if share is None and tuned is None:
        raise UserError("no --lambda", "0 is the base, 1 the trained model; 0.5 lies between")
    parts = [open_part(base, base_revision), open_part(trained)]
    parts += [] if tuned is None else [open_part(tuned)]
    for part in parts:
        if "step" in part.origin:
            for line in told(Path(part.name), [part.origin["step"]]):
                show(line)
    if tuned is None:
        assert share is not None
        record = merge_between(parts[0], parts[1], share, out)
    else:
        record = merge_residual(parts[0], parts[1], parts[2], 1.0 if share is None else share, out)
    if as_json:
        emit(record)
    else:
        click.echo(str(out))
