"""The report as Markdown: what fits a pull request or a model card."""

from typing import Any

from alloy.report.budgets import budget_title
from alloy.report.headline import escape_markdown, markdown_table
from alloy.report.text import MISSING, number, with_interval

Tree = dict[str, Any]


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
    header = ["model", "exam points", "lost", "gained", "p", "p (Holm)", "F1", "general bpb"]
    header += ["retention bpb", "domain bpb"]
    rows = []
    for arm in report["arms"]:
        change = arm["change"]
        exam = change["exam"] or {}
        rows.append(
            [
                escape_markdown(arm["name"], 40),
                _with_interval(change["exam"], "points"),
                number(exam.get("lost"), "count"),
                number(exam.get("gained"), "count"),
                number(exam.get("p"), "p"),
                number(exam.get("p_holm"), "p"),
                _with_interval(change["domain_f1"], "f1_change"),
                *(
                    _with_interval(change[f"{role}_bpb"], "bpb_change")
                    for role in ("general", "retention", "domain")
                ),
            ]
        )
    note = (
        "Arm minus base, with paired 95% intervals. lost: right before, wrong now; p: exact "
        "McNemar, two-sided."
    )
    return _table(header, rows) + "\n\n" + note


def _with_interval(change: Tree | None, kind: str) -> str:
    if change is None:
        return MISSING
    return with_interval(change["change"], change["interval"], kind)


def _published(report: Tree) -> str:
    """The base beside its published scores; nothing where none is known."""
    rows = report["base"]["published"]
    lines = [f"- {escape_markdown(row['text'])}" for row in rows]
    return "\n".join(["## The base beside published scores", "", *lines]) if lines else ""


def _tasks(report: Tree) -> str:
    """Every task of every model, with its change against the base."""
    header = ["model", "task", "measure", "items", "score", "change"]
    rows = []
    for entry in (report["base"], *report["arms"]):
        for task in (*entry["domain_tasks"], *entry["lm_eval_tasks"]):
            cells = [entry["name"], task["name"], task["headline"]]
            rows.append(
                [
                    *(escape_markdown(cell, 40) if cell else MISSING for cell in cells),
                    number(task["n"], "count"),
                    _score(task),
                    _with_interval(task.get("change"), "f1_change"),
                ]
            )
    return _table(header, rows) if rows else "No task was measured."


def _score(task: Tree) -> str:
    if task["score"] is None:
        return MISSING
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
    header = ["model", "tokens", "tokens a second", "ranks", "rank-hours", "money"]
    rows = []
    for arm in report["arms"]:
        cost = arm["cost"] or {}
        rows.append(
            [
                escape_markdown(arm["name"], 40),
                number(arm["tokens"], "tokens"),
                number(cost.get("tokens_per_second"), "count"),
                number(cost.get("ranks"), "count"),
                number(cost.get("rank_hours"), "hours"),
                number(cost.get("money"), "money"),
            ]
        )
    return _table(header, rows)


def _receipts(report: Tree) -> str:
    header = ["model", "phase", "source", "role", "asked", "realised", "tokens", "epochs"]
    rows = []
    for arm in report["arms"]:
        for phase in (arm["receipt"] or {}).get("phases") or []:
            for source in phase.get("sources") or []:
                rows.append(
                    [
                        escape_markdown(arm["name"], 40),
                        escape_markdown(phase.get("name"), 40),
                        escape_markdown(source.get("name"), 40),
                        escape_markdown(source.get("role"), 20),
                        number(source.get("asked_share"), "share"),
                        number(source.get("realised_share"), "share"),
                        number(source.get("tokens"), "tokens"),
                        number(source.get("epochs"), "epochs"),
                    ]
                )
    return _table(header, rows) if rows else "No receipt was found."


def _table(header: list[str], rows: list[list[str]]) -> str:
    rule = "|" + "---|" * len(header)
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join(["| " + " | ".join(header) + " |", rule, *lines])
