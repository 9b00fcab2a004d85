"""Options and printing that the verbs have in common."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from alloy.planning import Planned, plan_recipe
from configs import Recipe, UserError, load_recipe

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


def built(recipe: Recipe) -> Planned:
    """The plan over the built corpus. Raises UserError where some of it is not built yet."""
    planned = plan_recipe(recipe)
    if planned.corpus is None:
        missing = sorted({s.name for s in recipe.data.sources} - set(planned.keys))
        what = f"not built yet: {', '.join(missing)}"
        if not missing:
            what = f"not searched yet for items of {', '.join(recipe.data.decontaminate)}"
        raise UserError(what, "run `alloy build` first")
    return planned


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


def phase_table(phases: list[dict[str, Any]], columns: list[tuple[str, str, str]]) -> str:
    """A row for each source of each phase; ``columns`` are (header, key, format)."""
    rows = [
        [f"{phase['name']} / {source['name']}"]
        + [format(source[key], form) for _, key, form in columns]
        for phase in phases
        for source in phase["sources"]
    ]
    return table(["phase / source", *(header for header, _, _ in columns)], rows)


def packing_lines(packing: dict[str, Any]) -> list[str]:
    """What the rows of each source leave out, besides what has lines of its own."""
    return [
        f"{name}: {ledger['documents'][reason]:,} documents ({ledger['tokens'][reason]:,} tokens) "
        f"not packed: {reason}"
        for name, ledger in packing.items()
        for reason in ledger["documents"]
        if reason not in ("packed", "erased", "contaminated") and ledger["documents"][reason]
    ]


def removal_line(removed: dict[str, Any]) -> str:
    """What an eval set took from a source, as ``mixing.corpus.Removed.to_json`` has it."""
    unjudged = removed["unjudged_items"]
    skipped = f"; {unjudged:,} items are too short or too common to look for" if unjudged else ""
    return (
        f"{removed['source']}: {removed['passages_removed']:,} passages "
        f"({removed['tokens_removed']:,} tokens) in {removed['documents_removed']:,} documents "
        f"left out, they repeat {removed['eval']}{skipped}; see {removed['matches']}"
    )
