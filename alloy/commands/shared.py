"""Options and printing that the verbs have in common."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

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


def show(line: str) -> None:
    """Progress, to stderr."""
    click.echo(line, err=True)


def emit(value: Any) -> None:
    """An answer as JSON, to stdout."""
    click.echo(json.dumps(value, indent=1))
