"""The recipe's reference in Markdown, from the sections themselves: python -m configs.reference"""

import sys
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from configs.recipe import Recipe


def reference() -> str:
    """One table a section, in the order of the recipe; every key with its default and meaning."""
    parts = ["# The recipe", "", (Recipe.__doc__ or "").strip(), ""]
    parts += ["Counts take K, M, B and T; shares take a number or a percentage.", ""]
    for path, section in sections(Recipe, ""):
        parts += [f"## {path or 'top level'}", "", (section.__doc__ or "").strip(), ""]
        parts += ["| key | default | meaning |", "|---|---|---|"]
        parts += [_row(name, field) for name, field in section.model_fields.items()]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """(dotted path, section) of a model and all sections inside it, depth first."""
    yield path, model
    for name, field in model.model_fields.items():
        for inner, mark in _inner(field.annotation):
            yield from sections(inner, f"{path}.{name}{mark}".lstrip("."))


def _inner(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
        return
    many = {tuple: "[]", dict: ".*"}.get(getattr(annotation, "__origin__", None), "")
    for argument in get_args(annotation):
        for found, mark in _inner(argument):
            yield found, many + mark


def _row(name: str, field: FieldInfo) -> str:
    meaning = (
        " ".join((field.description or "").split()).replace("``", "`") or "its own section below"
    )
    return f"| `{name}` | {_default(field)} | {meaning} |"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel):
        return ""
    return "none" if field.default in (None, (), {}) else f"`{field.default}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
