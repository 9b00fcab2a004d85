"""alloy demo: the embedded world through the whole path."""

from pathlib import Path

import click

from alloy.commands.shared import emit, show
from alloy.demo import run_demo
from alloy.reports.writing import headline_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.option("--run-dir", type=Path, default=Path("runs"), show_default=True)
def command(as_json: bool, run_dir: Path) -> None:
    """Train and measure the embedded tiny world; a second run reuses what is done."""
    files = run_demo(run_dir, show)
    report = files.report.to_json()
    if as_json:
        emit(report)
        return
    click.echo(headline_table(report))
    click.echo(f"{files.html}\n{files.json}")
