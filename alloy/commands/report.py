"""alloy report: records of sweeps to one page, JSON and Markdown; a gate and a model card."""

import json
from pathlib import Path
from typing import Any

import click

from alloy.commands.shared import emit
from alloy.reports.judging import gate
from alloy.reports.writing import headline_table, model_card, write_report
from configs import CheckFailed


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
    files = write_report(first, out, more=more, price=price)
    report: dict[str, Any] = json.loads(files.json.read_text(encoding="utf-8"))
    paths = [files.html, files.json]
    if card:
        paths.append(files.html.with_name("model_card.md"))
        paths[-1].write_text(model_card(report, arm), encoding="utf-8")
    if as_json:
        emit(report)
    else:
        click.echo(headline_table(report))
        click.echo("\n".join(map(str, paths)))
    if gated:
        told = gate(report, arm)
        if told.word != "kept":
            raise CheckFailed(told.text, "see the budgets in the report")
        click.echo(told.text, err=as_json)
