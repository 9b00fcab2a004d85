"""A recipe from YAML and ``--set`` overrides, with errors that a person can act on."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from configs.errors import UserError
from configs.recipe import Recipe


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``overrides`` are ``section.key=value`` with YAML values.

    Raises UserError naming the key, the nearest valid one, and what was expected.
    """
    return parse_recipe(_read_yaml(Path(path)), overrides, origin=str(path))


def parse_recipe(tree: Any, overrides: Sequence[str] = (), origin: str = "recipe") -> Recipe:
    """Check a recipe that is already a tree of dicts and lists."""
    if not isinstance(tree, dict):
        raise UserError(f"{origin}: the file is not a mapping", "see docs/recipe.md for the keys")
    for override in overrides:
        tree = _with_override(tree, override)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise _explained(error, origin) from None


def with_values(recipe: Recipe, values: dict[str, Any], origin: str) -> Recipe:
    """A recipe with other values at dotted keys, checked anew; keys as ``--set`` takes them."""
    tree = recipe.model_dump(mode="json")
    for key, value in values.items():
        tree = _set_in(tree, key.split("."), value, key)
    return parse_recipe(tree, origin=origin)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe", _nearest_file(path)) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder", "give the recipe's YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    except yaml.YAMLError as error:
        where = str(error).splitlines()
        raise UserError(f"{path}: not YAML: {' '.join(where)}", "check the indentation") from None


def _nearest_file(path: Path) -> str:
    there = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1)
    return f"did you mean {path.parent / near[0]}?" if near else "give the path of a YAML file"


def _with_override(tree: dict[str, Any], override: str) -> dict[str, Any]:
    key, found, raw = override.partition("=")
    if not found or not key:
        raise UserError(f"--set {override}: not key=value", "write --set section.key=value")
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: '{raw}' is not a YAML value", "quote it") from None
    return _set_in(tree, key.split("."), value, f"--set {override}")


def _set_in(node: Any, keys: list[str], value: Any, override: str) -> Any:
    """A copy of ``node`` with the value at ``keys``; list items go by index or by name."""
    if not keys:
        return value
    head, rest = keys[0], keys[1:]
    if isinstance(node, list):
        index = _list_index(node, head, override)
        return [_set_in(n, rest, value, override) if i == index else n for i, n in enumerate(node)]
    if node is not None and not isinstance(node, dict):
        raise UserError(f"{override}: '{head}' is below a plain value", "check the key")
    copy = dict(node or {})
    copy[head] = _set_in(copy.get(head), rest, value, override)
    return copy


def _list_index(items: list[Any], head: str, override: str) -> int:
    names = [
        str(item.get("name", i)) if isinstance(item, dict) else str(i)
        for i, item in enumerate(items)
    ]
    if head in names:
        return names.index(head)
    if head.isdigit() and int(head) < len(items):
        return int(head)
    raise UserError(f"{override}: no item '{head}'", f"there are: {', '.join(names)}")


def _explained(error: ValidationError, origin: str) -> UserError:
    first = error.errors()[0]
    keys = [str(part) for part in first["loc"]]
    where = ".".join(keys)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return UserError(f"{origin}: unknown key '{where}'{more}", _nearest_key(first["loc"]))
    if first["type"] == "missing":
        return UserError(f"{origin}: '{where}' is missing{more}", f"add {keys[-1]}: to the recipe")
    message = first["msg"].removeprefix("Value error, ")
    if not where:
        return UserError(f"{origin}: {message}{more}", "correct these keys together")
    got = f", not {first['input']!r}" if not isinstance(first["input"], dict) else ""
    return UserError(f"{origin}: {where}: {message}{got}{more}", f"correct {where}")


def _nearest_key(loc: tuple[int | str, ...]) -> str:
    model: Any = Recipe
    for part in loc[:-1]:
        model = model.model_fields[part].annotation if isinstance(part, str) else model
        model = _section_in(model)
        if model is None:
            return "see the recipe reference in docs/recipe.md"
    valid = list(model.model_fields)
    near = difflib.get_close_matches(str(loc[-1]), valid, n=1)
    return f"did you mean '{near[0]}'?" if near else f"valid keys: {', '.join(valid)}"


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_section_in(a) for a in get_args(annotation))
    return next((section for section in inner if section is not None), None)
