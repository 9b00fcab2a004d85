"""The headline table as fixed-width text and as Markdown."""

from collections.abc import Sequence
from typing import Any

from alloy.reports.text import MISSING, aligned, number, visible
from alloy.sweep_record import UNFINISHED

Tree = dict[str, Any]

_COLUMNS = (
    "model",
    "general",
    "tokens",
    "exam",
    "replayed",
    "never",
    "change",
    "F1",
    "prec.",
    "recall",
    "gen. bpb",
    "ret. bpb",
    "dom. bpb",
    "verdict",
)
ASCII = str.maketrans({"−": "-", MISSING: "-", "…": "~"})
_LEGEND = (
    "exam, replayed, never: accuracy on all questions, on replayed facts and on facts that are not "
    "replayed; change: exam points against the base."
)


def headline_table(report: Tree) -> str:
    """Fixed-width text with one row for the base and each arm, for a terminal.

    Runs against other bases follow in tables of their own.
    """
    tables = [_text_table(one) for one in (report, *report["others"])]
    return "\n\n".join([*tables, _LEGEND]).translate(ASCII)


def _text_table(report: Tree) -> str:
    """Names and verdicts to the left, numbers to the right."""
    rows: list[list[str]] = [[*_COLUMNS]]
    rows += [_cells(entry) for entry in (report["base"], *report["arms"])]
    rule = ["-" * max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(aligned([rows[0], rule, *rows[1:]], left={0, len(_COLUMNS) - 1}))


def _cells(entry: Tree) -> list[str]:
    exam = (entry.get("change") or {}).get("exam")
    return [
        visible(entry["name"], 28),
        number(entry["general_share"], "share"),
        number(entry["tokens"], "tokens"),
        number(entry["exam_accuracy"], "percent"),
        number(entry["exam_accuracy_replayed"], "percent"),
        number(entry["exam_accuracy_unreplayed"], "percent"),
        number(exam["change"] if exam else None, "points"),
        number(entry["domain_f1"], "f1"),
        number(entry["domain_precision"], "f1"),
        number(entry["domain_recall"], "f1"),
        number(entry["general_bpb"], "bpb"),
        number(entry["retention_bpb"], "bpb"),
        number(entry["domain_bpb"], "bpb"),
        verdict_word(entry),
    ]


def verdict_word(entry: Tree) -> str:
    """The verdict over all budgets in a word; missing: no scores; none: no budget."""
    if entry["kind"] == "base":
        return MISSING
    if entry["failed"] is not None and entry["failed"] not in UNFINISHED:
        return "failed"
    if entry["exam_accuracy"] is None and entry["domain_f1"] is None:
        return "missing"
    return entry["verdict"] or "none"


def markdown_table(report: Tree) -> str:
    """The table of one report for Markdown."""
    lines = [_row(_COLUMNS), _row(["---", *["---:"] * (len(_COLUMNS) - 2), "---"])]
    lines += [
        _row([escape_markdown(c) for c in _cells(e)]) for e in (report["base"], *report["arms"])
    ]
    return "\n".join([*lines, "", _LEGEND])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def escape_markdown(text: object, limit: int | None = None) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no links."""
    line = visible(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\`*_[]|~#!":
        line = line.replace(sign, "\\" + sign)
    return line.replace("://", ":&#47;&#47;")
