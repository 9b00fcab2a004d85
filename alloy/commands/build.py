"""alloy build: tokenize the sources of a recipe into the store."""

from dataclasses import asdict

import click

from alloy.building import build_recipe
from alloy.commands.shared import emit, load, recipe_options, show, table


@click.command()
@recipe_options
def command(recipe_path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Tokenize the sources of RECIPE into the store; what is built already is reused."""
    reports = build_recipe(load(recipe_path, overrides), show)
    balanced = all(r.ledger_balanced for r in reports)
    if as_json:
        emit({"sources": [asdict(r) for r in reports], "ledger_balanced": balanced})
        return
    rows = [
        [
            r.name,
            r.role,
            f"{r.documents_in:,}",
            f"{r.documents_written:,}",
            f"{sum(r.dropped.values()):,}",
            f"{r.tokens:,}",
            str(r.shards),
            "reused" if r.reused else f"{r.seconds:.1f} s",
        ]
        for r in reports
    ]
    header = ["source", "role", "documents in", "written", "dropped", "tokens", "shards", "time"]
    click.echo(table(header, rows))
    for r in reports:
        for reason, count in sorted(r.dropped.items()):
            click.echo(f"{r.name}: dropped {count:,} {reason}, listed in {r.quarantine}")
