"""alloy merge: between a base and its continuation, or what tuning added to it."""

from pathlib import Path

import click

from alloy.commands.shared import emit
from alloy.merging import merge_between, merge_residual, open_part
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
    if share is None and tuned is None:
        raise UserError("no --lambda", "0 is the base, 1 the trained model; 0.5 lies between")
    parts = open_part(base, base_revision), open_part(trained)
    if tuned is None:
        assert share is not None
        record = merge_between(*parts, share, out)
    else:
        record = merge_residual(*parts, open_part(tuned), 1.0 if share is None else share, out)
    if as_json:
        emit(record)
    else:
        click.echo(str(out))
