"""alloy report: records of sweeps to one page, JSON and Markdown; a gate and a model card."""

from pathlib import Path

import click

from alloy.commands.shared import emit
from alloy.verbs import report


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.option("--out", type=Path, help="Folder of the report; FOLDER itself where there is one.")
@click.option("--price", type=click.FloatRange(min=0), help="Money for one rank for one hour.")
@click.option("--gate", "gated", is_flag=True, help="Exit 0 only if the arm keeps every budget.")
@click.option("--model-card", "card", is_flag=True, help="Also write model_card.md of the arm.")
@click.option(
    "--arm", metavar="NAME", help="For --gate and --model-card; else the confirmed or recommended."
)
@click.argument("folders", metavar="FOLDER...", type=Path, nargs=-1, required=True)
def command(
    folders: tuple[Path, ...],
    out: Path | None,
    price: float | None,
    arm: str | None,
    *,
    as_json: bool,
    gated: bool,
    card: bool,
) -> None:
    """Write report.html, report.json and report.md of one or more run folders of sweeps."""
    first, *more = folders
    found = report(first, more, out=out, price=price)
    paths = [found.html, found.json]
    if card:
        paths.append(found.write_model_card(arm))
    if as_json:
        emit(found.to_json())
    else:
        click.echo(found.table())
        click.echo("\n".join(map(str, paths)))
    if gated:
        click.echo(found.require_kept(arm), err=as_json)
