"""Labelled rows of the domain from JSONL, and the prompts that a template makes of them."""

import json
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from configs import DomainTask, UserError
from evals.domain.labels import JOINER, NOTHING, SEPARATOR, canonical, written_labels


@dataclass(frozen=True)
class DomainRow:
    """One prompt and what is right: a label, a set of labels (of a verdict, Yes or No first), or
    the accepted answers. Where a row has no id, its line number is it."""

    id: str
    prompt: str
    gold: tuple[str, ...]

    @property
    def label(self) -> str:
        """What is right, as one line."""
        return JOINER.join(self.gold)


@dataclass(frozen=True)
class TemplateUse:
    """The fixed parts of a task's prompts, and how many of some training texts hold them all."""

    parts: tuple[str, ...]
    texts: int
    holding: int


def load_rows(task: DomainTask) -> list[DomainRow]:
    """The rows that ``task`` names, the first ``limit`` of them. Raises UserError with the line."""
    path = Path(task.path)
    rows = [
        _row(task, f"{path}:{number}", number, line)
        for number, line in enumerate(_lines(path, task), 1)
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


def load_labels(task: DomainTask, rows: Iterable[DomainRow]) -> list[str]:
    """Every label of a task, in order: those of its ``labels`` file and those of the rows."""
    known = {label for row in rows for label in row.gold}
    if task.labels is not None:
        lines = _lines(Path(task.labels), task)
        known |= {canonical(line, task.metric) for line in lines if line.strip()}
    return sorted(known)


def template_use(template: str | None, prompts: Sequence[str], texts: Iterable[str]) -> TemplateUse:
    """Whether training rows look like the prompts: a text counts when it holds the template's
    fixed parts one after the other; without a template, what all prompts begin and end with."""
    if template is None:
        end = _common_start([prompt[::-1] for prompt in prompts])[::-1]
        parts = [_common_start(prompts), end]
    else:
        parts = [literal for literal, *_ in string.Formatter().parse(template)]
    parts = [part for part in parts if part.strip()]
    count = holding = 0
    for text in texts:
        count += 1
        place = 0
        for part in parts:
            place = text.find(part, place)
            if place < 0:
                break
            place += len(part)
        holding += place >= 0
    return TemplateUse(tuple(parts), count, holding)


def _common_start(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), None)
    return low[:shared]


def _lines(path: Path, task: DomainTask) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", f"correct the path of {task.name}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from None


def _row(task: DomainTask, where: str, number: int, line: str) -> DomainRow:
    try:
        tree = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}", "one JSON object a line") from None
    if not isinstance(tree, dict):
        raise UserError(f"{where}: not a JSON object", "one JSON object a line")
    return DomainRow(
        str(tree.get("id", number)), _prompt(task, where, tree), _gold(task, where, tree)
    )


def _prompt(task: DomainTask, where: str, tree: Mapping[str, Any]) -> str:
    if task.template is None:
        return _text(tree, task.prompt_column, where)
    columns = {
        column: _text(tree, column, where)
        for _, column, _, _ in string.Formatter().parse(task.template)
        if column is not None
    }
    return task.template.format_map(columns)


def _text(tree: Mapping[str, Any], column: str, where: str) -> str:
    cell = tree.get(column)
    if not isinstance(cell, str) or not cell.strip():
        raise UserError(
            f"{where}: no text in '{column}'", f"the row has: {', '.join(tree) or 'nothing'}"
        )
    return cell


def _gold(task: DomainTask, where: str, tree: Mapping[str, Any]) -> tuple[str, ...]:
    """What is right, in the form of the task's metric."""
    cell = tree.get(task.label_column)
    match task.metric:
        case "exact_label":
            return (_text(tree, task.label_column, where).strip(),)
        case "label_path":
            text = SEPARATOR.join(cell) if _are_texts(cell) else cell
            return (
                canonical(_text({task.label_column: text}, task.label_column, where), task.metric),
            )
        case "extractive":
            cells = cell if _are_texts(cell) and cell else [_text(tree, task.label_column, where)]
            return tuple(cells)
        case "multi_label":
            text = json.dumps(cell) if _are_texts(cell) else _text(tree, task.label_column, where)
            found = [label for label in written_labels(text, task.metric) if label != NOTHING]
            return tuple(sorted(set(found))) or (NOTHING,)
        case "moderation":
            text = json.dumps(cell) if isinstance(cell, dict) else str(cell)
            if isinstance(cell, bool):
                text = "Yes" if cell else "No"
            found = written_labels(text, task.metric)
            if not found:
                raise UserError(
                    f"{where}: no verdict in '{task.label_column}'",
                    'write "No", "Yes: hate", or {"flag": true, "category": ["hate"]}',
                )
            return (found[0], *sorted(set(found[1:])))


def _are_texts(cell: Any) -> TypeGuard[list[str]]:
    return isinstance(cell, list) and all(isinstance(c, str) and c.strip() for c in cell)
