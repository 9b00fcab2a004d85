"""Options and printing that the verbs have in common."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from configs import Recipe, load_recipe

F = TypeVar("F", bound=Callable[..., Any])


def recipe_options(function: F) -> F:
    """RECIPE, --set and --json."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE"),
        click.argument("recipe_path", metavar="RECIPE"),
    ):
        function = option(function)
    return function


def load(recipe_path: str, overrides: tuple[str, ...]) -> Recipe:
    return load_recipe(recipe_path, overrides)


def show(line: str) -> None:
    """Progress, to stderr."""
    click.echo(line, err=True)


def emit(value: Any) -> None:
    """An answer as JSON, to stdout."""
    click.echo(json.dumps(value, indent=1))


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns aligned by width, the first to the left and the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def packing_lines(packing: dict[str, Any]) -> list[str]:
    """What the rows of each source leave out."""
    return [
        f"{name}: {ledger['documents'][reason]:,} documents ({ledger['tokens'][reason]:,} tokens) "
        f"not packed: {reason}"
        for name, ledger in packing.items()
        for reason in ledger["documents"]
        if reason != "packed" and ledger["documents"][reason]
    ]
