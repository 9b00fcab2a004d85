"""alloy build: tokenize the sources of a recipe into the store."""

from dataclasses import asdict

import click

from alloy.commands.shared import (
    emit,
    load,
    packing_lines,
    recipe_options,
    removal_line,
    show,
    table,
)
from alloy.runs import build_recipe, open_built
from configs import CheckFailed


@click.command()
@recipe_options
def command(recipe_path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Tokenize the sources of RECIPE into the store; what is built already is reused."""
    recipe = load(recipe_path, overrides)
    reports = build_recipe(recipe, show)
    corpus = open_built(recipe, {r.name: r.key for r in reports})
    removed = [removed.to_json() for removed in corpus.removed]
    packing = {name: ledger.to_json() for name, ledger in corpus.ledgers.items()}
    balanced = all(r.ledger_balanced for r in reports)
    balanced = balanced and all(ledger.balanced for ledger in corpus.ledgers.values())
    if as_json:
        sources = [asdict(r) for r in reports]
        found = {"sources": sources, "packing": packing, "decontaminated": removed}
        emit({**found, "ledger_balanced": balanced})
        _require(balanced)
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
    for line in [*packing_lines(packing), *map(removal_line, removed)]:
        click.echo(line)
    _require(balanced)


def _require(balanced: bool) -> None:
    if not balanced:
        raise CheckFailed("a ledger does not balance, see `alloy build --json`", "report it")
