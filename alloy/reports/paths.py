"""Values of the report by their dotted JSON path."""

from typing import Any

Tree = dict[str, Any]


def lookup(report: Any, path: str) -> Any:
    """The value at ``path``; None below a part that was not measured."""
    value: Any = report
    for part in path.split("."):
        if value is None:
            return None
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value
