"""alloy merge: between a base and its continuation, or what tuning added to it."""

from pathlib import Path

import click

from alloy.commands.shared import emit, show
from alloy.verbs import merge


@click.command()
@click.option("--base", required=True, help="Run, folder or hub id that training started from.")
@click.option("--base-revision", help="Hub revision of the base.")
@click.option("--trained", required=True, help="Run, folder or hub id of its continuation.")
@click.option("--add", help="Instruct model of the same base: its difference is added.")
@click.option("--lambda", "share", type=float, help="How much; with --add 1 when left out.")
@click.option("--out", type=Path, required=True, help="Folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(
    base: str,
    base_revision: str | None,
    trained: str,
    add: str | None,
    share: float | None,
    out: Path,
    as_json: bool,
) -> None:
    """Write base + lambda x (trained - base), or with --add trained + lambda x (added - base)."""
    found = merge(
        base, trained, out, share=share, add=add, base_revision=base_revision, progress=show
    )
    if as_json:
        emit(found.record)
    else:
        click.echo(found.table())
