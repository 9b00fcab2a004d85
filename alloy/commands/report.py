"""alloy report: a sweep's records to one page, JSON and Markdown."""

import json
from pathlib import Path

import click

from alloy.commands.shared import emit
from alloy.report.headline import headline_table
from alloy.report.write import write_report


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.argument("folder", type=Path)
def command(folder: Path, as_json: bool) -> None:
    """Write report.html, report.json and report.md into FOLDER, the run folder of a sweep."""
    files = write_report(folder)
    report = json.loads(files.json.read_text(encoding="utf-8"))
    if as_json:
        emit(report)
        return
    click.echo(headline_table(report))
    click.echo(f"{files.html}\n{files.json}")
