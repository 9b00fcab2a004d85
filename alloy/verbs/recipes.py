"""load: reads a recipe file."""

from collections.abc import Sequence
from pathlib import Path

from configs import Recipe, load_recipe


def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe. ``overrides`` are ``a.b=value`` strings, as `--set` takes them.

    Raises UserError for a file that is missing, is no YAML, or has keys that no recipe has.

    >>> import alloy
    >>> recipe = alloy.load("recipe.yaml", ["mix.general=0.5"])
    >>> recipe.mix.general
    0.5
    """
    return load_recipe(str(path), tuple(overrides))
