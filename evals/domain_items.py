"""Labelled rows of the domain from JSONL."""

import json
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from configs.recipe import DomainTask


@dataclass(frozen=True)
class DomainRow:
    """One prompt and its right label; where a row has no id, its line number is it."""

    id: str
    prompt: str
    label: str


def load_rows(task: DomainTask) -> list[DomainRow]:
    """The rows that ``task`` names, the first ``limit`` of them. Raises UserError with the line."""
    path = Path(task.path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", f"correct the path of {task.name}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    rows = [
        _row(task, f"{path}:{number}", number, line)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not rows:
        raise UserError(f"{path}: no rows", "each line is a JSON object")
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise UserError(f"{path}: two rows have the id '{row.id}'", "ids pair the models")
        seen.add(row.id)
    return rows[: task.limit]


def _row(task: DomainTask, where: str, number: int, line: str) -> DomainRow:
    try:
        tree = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}", "one JSON object a line") from None
    if not isinstance(tree, dict):
        raise UserError(f"{where}: not a JSON object", "one JSON object a line")
    cells = []
    for column in (task.prompt_column, task.label_column):
        cell = tree.get(column)
        if not isinstance(cell, str) or not cell.strip():
            raise UserError(
                f"{where}: no text in '{column}'", f"the row has: {', '.join(tree) or 'nothing'}"
            )
        cells.append(cell)
    return DomainRow(str(tree.get("id", number)), *cells)
