"""alloy build: tokenize the sources of a recipe into the store."""

from dataclasses import asdict

import click

from alloy.building import build_recipe, packing_ledgers
from alloy.commands.shared import emit, load, packing_lines, recipe_options, show, table


@click.command()
@recipe_options
def command(recipe_path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Tokenize the sources of RECIPE into the store; what is built already is reused."""
    recipe = load(recipe_path, overrides)
    reports = build_recipe(recipe, show)
    ledgers = packing_ledgers(recipe, reports).items()
    packing = {name: ledger.to_json() for name, ledger in ledgers}
    balanced = all(r.ledger_balanced for r in reports)
    balanced = balanced and all(ledger.balanced for _, ledger in ledgers)
    if as_json:
        sources = [asdict(r) for r in reports]
        emit({"sources": sources, "packing": packing, "ledger_balanced": balanced})
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
    for line in packing_lines(packing):
        click.echo(line)
