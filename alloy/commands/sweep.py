"""alloy sweep: an arm for each general share, the ratio that follows, and its confirmation."""

import math

import click

from alloy.commands.shared import emit, load, recipe_options, show
from alloy.planning import run_folder
from alloy.reports.judging import join_report
from alloy.reports.records import read_records
from alloy.sweeps import failures, run_sweep
from configs import CheckFailed, Recipe


@click.command()
@click.option(
    "--confirm", is_flag=True, help="Also train the recommended share and judge it on the budgets."
)
@recipe_options
def command(recipe_path: str, overrides: tuple[str, ...], as_json: bool, confirm: bool) -> None:
    """Train and measure an arm for each general share of RECIPE; `alloy report` joins them."""
    recipe = load(recipe_path, overrides)
    record = run_sweep(recipe, show)
    report = join_report(read_records(run_folder(recipe)))
    if confirm:
        record = run_sweep(recipe, show, _share_to_confirm(report))
        report = join_report(read_records(run_folder(recipe)))
    if as_json:
        emit(record)
    else:
        click.echo(str(run_folder(recipe) / "sweep.json"))
        click.echo(report["recommendation"]["text"])
        for told in report["confirmations"]:
            click.echo(told["text"])
    _refuse_failures(recipe, failures(record))


def _share_to_confirm(report: dict) -> float:
    """The recommended share, rounded up to a tenth of a per cent."""
    told = report["recommendation"]
    if told["general_share"] is None:
        raise CheckFailed(f"there is no share to confirm: {told['text']}", "see `alloy report`")
    return math.ceil(round(told["general_share"] * 1000, 6)) / 1000


def _refuse_failures(recipe: Recipe, failed: list[str]) -> None:
    if failed:
        raise CheckFailed(
            f"{recipe.name}: {len(failed)} arms failed: {'; '.join(failed)}",
            "run it again: what is done is kept",
        )
