"""The report as Markdown: what fits a pull request or a model card."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from alloy.reports.judging import budget_title
from alloy.reports.paths import lookup
from alloy.reports.text import number, with_interval
from alloy.reports.writing.headline import escape_markdown, markdown_table

Tree = dict[str, Any]


class Column(NamedTuple):
    """A column of a table: what stands at ``path`` of each row, written as ``kind``."""

    header: str
    path: str
    kind: str


_CHANGES = (
    Column("model", "name", "name"),
    Column("exam points", "change.exam", "points"),
    Column("lost", "change.exam.lost", "count"),
    Column("gained", "change.exam.gained", "count"),
    Column("p", "change.exam.p", "p"),
    Column("p (Holm)", "change.exam.p_holm", "p"),
    Column("F1", "change.domain_f1", "f1_change"),
    Column("general bpb", "change.general_bpb", "bpb_change"),
    Column("retention bpb", "change.retention_bpb", "bpb_change"),
    Column("domain bpb", "change.domain_bpb", "bpb_change"),
)
_TASKS = (
    Column("model", "model", "name"),
    Column("task", "name", "name"),
    Column("measure", "headline", "name"),
    Column("items", "n", "count"),
    Column("score", "score", "f1"),
    Column("change", "change", "f1_change"),
)
_COST = (
    Column("model", "name", "name"),
    Column("tokens", "tokens", "tokens"),
    Column("tokens a second", "cost.tokens_per_second", "count"),
    Column("ranks", "cost.ranks", "count"),
    Column("rank-hours", "cost.rank_hours", "hours"),
    Column("money", "cost.money", "money"),
)
_RECEIPTS = (
    Column("model", "model", "name"),
    Column("phase", "phase", "name"),
    Column("source", "name", "name"),
    Column("role", "role", "name"),
    Column("asked", "asked_share", "share"),
    Column("realised", "realised_share", "share"),
    Column("tokens", "tokens", "tokens"),
    Column("epochs", "epochs", "epochs"),
)


def markdown_report(report: Tree) -> str:
    """Recommendation, caveats, headline table, comparisons, verdicts, law, cost, receipts.

    Runs against other bases follow, each in the same way.
    """
    return "\n".join(_one_report(one) for one in (report, *report["others"]))


def _one_report(report: Tree) -> str:
    parts = [
        f"# Forgetting report: {escape_markdown(report['name'], 120)}",
        _recommendation(report),
        "## Read this first",
        "\n".join(f"- {escape_markdown(c['text'])}" for c in report["caveats"]),
        "## Base and arms",
        markdown_table(report),
        "## Change against the base",
        _changes(report),
        _published(report),
        "## Tasks",
        _tasks(report),
        "## Budgets",
        _budgets(report),
        "## The law of the ratio",
        _law(report),
        "## Cost",
        _cost(report),
        "## Receipts",
        _receipts(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _recommendation(report: Tree) -> str:
    told = report["recommendation"]
    sentences = [f"**{escape_markdown(told['text'])}**"]
    if told["replayed_only"]:
        sentences.append(escape_markdown(told["replayed_only"]["text"]))
    if report["saturation"]:
        sentences.append(escape_markdown(report["saturation"]["text"]))
    return "\n\n".join(sentences)


def _changes(report: Tree) -> str:
    note = (
        "Arm minus base, with paired 95% intervals. lost: right before, wrong now; p: exact "
        "McNemar, two-sided."
    )
    rows = [_cells(arm, _CHANGES) for arm in report["arms"]]
    return _table(_CHANGES, rows) + "\n\n" + note


def _published(report: Tree) -> str:
    """The base beside its published scores; nothing where none is known."""
    rows = report["base"]["published"]
    lines = [f"- {escape_markdown(row['text'])}" for row in rows]
    return "\n".join(["## The base beside published scores", "", *lines]) if lines else ""


def _tasks(report: Tree) -> str:
    """Every task of every model, with its change against the base."""
    rows = [
        [
            *_cells({"model": entry["name"], **task}, _TASKS[:-2]),
            _scored(task),
            _cell(task.get("change"), "f1_change"),
        ]
        for entry in (report["base"], *report["arms"])
        for task in (*entry["domain_tasks"], *entry["lm_eval_tasks"])
    ]
    return _table(_TASKS, rows) if rows else "No task was measured."


def _scored(task: Tree) -> str:
    if task["score"] is None:
        return number(None, "f1")
    return with_interval(task["score"], task["interval"], "f1")


def _budgets(report: Tree) -> str:
    lines = []
    for arm in report["arms"]:
        for verdict in arm["verdicts"]:
            name = escape_markdown(budget_title(verdict), 60)
            lines.append(
                f"- {escape_markdown(arm['name'], 40)}, {name}: {escape_markdown(verdict['text'])}"
            )
    return "\n".join(lines) or "No budget was judged."


def _law(report: Tree) -> str:
    told = [*report["law"], *report["confirmations"]]
    lines = [f"- {escape_markdown(one['text'])}" for one in told]
    return "\n".join(lines) or "No law is fitted: it needs arms at four general shares or more."


def _cost(report: Tree) -> str:
    return _table(_COST, [_cells(arm, _COST) for arm in report["arms"]])


def _receipts(report: Tree) -> str:
    rows = [
        _cells({"model": arm["name"], "phase": phase["name"], **source}, _RECEIPTS)
        for arm in report["arms"]
        for phase in (arm["receipt"] or {}).get("phases") or []
        for source in phase["sources"]
    ]
    return _table(_RECEIPTS, rows) if rows else "No receipt was found."


def _cells(tree: Tree, columns: Sequence[Column]) -> list[str]:
    return [_cell(lookup(tree, column.path), column.kind) for column in columns]


def _cell(value: Any, kind: str) -> str:
    """A name, a number, or a change with its interval."""
    if kind == "name":
        return number(None, kind) if value is None else escape_markdown(value, 40)
    if isinstance(value, dict):
        return with_interval(value["change"], value["interval"], kind)
    return number(value, kind)


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    lines = [[column.header for column in columns], *rows]
    header, *body = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join([header, "|" + "---|" * len(columns), *body])
