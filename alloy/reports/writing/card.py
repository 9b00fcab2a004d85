"""One arm as a section of a model card of the hub: what it is, what it gained and lost."""

import json
from typing import Any

from alloy.reports.judging import judged_arm
from alloy.reports.text import number, with_interval
from alloy.reports.writing.headline import escape_markdown
from configs import UserError

Tree = dict[str, Any]
_ROWS = (
    ("Exam accuracy", "exam_accuracy", "percent", "exam", "points"),
    ("Domain F1 (weighted)", "domain_f1", "f1", "domain_f1", "f1_change"),
    ("Domain precision", "domain_precision", "f1", None, ""),
    ("Domain recall", "domain_recall", "f1", None, ""),
    ("General bits per byte", "general_bpb", "bpb", "general_bpb", "bpb_change"),
    ("Retention bits per byte", "retention_bpb", "bpb", "retention_bpb", "bpb_change"),
    ("Domain bits per byte", "domain_bpb", "bpb", "domain_bpb", "bpb_change"),
)


def model_card(report: Tree, name: str | None = None) -> str:
    """Front matter and Markdown of one arm (``gate.judged_arm``).

    Raises UserError where there is no such arm or it has no scores.
    """
    arm = judged_arm(report, name)
    if arm is None:
        raise UserError("the report names no arm for a model card", "give --arm NAME")
    if arm["failed"] is not None or arm["exam_accuracy"] is arm["domain_f1"] is None:
        raise UserError(f"{arm['name']} has no scores", "give --arm NAME of another")
    base = (arm["lineage"] or {}).get("base")
    parts = [
        _front_matter(base),
        "## Continued pretraining: what was gained, what was forgotten",
        f"{_made(arm)}, from {escape_markdown(base or 'the base', 120)}"
        f". Measured by Alloy against {escape_markdown(report['base']['name'], 40)}, item by item; "
        "intervals are 95%.",
        _table(report["base"], arm),
        "\n".join(
            f"- Budget {escape_markdown(v['task'] or v['budget'])}: {escape_markdown(v['text'])}"
            for v in arm["verdicts"]
        ),
        "### Limits",
        "\n".join(f"- {escape_markdown(c['text'])}" for c in report["caveats"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _made(arm: Tree) -> str:
    if arm["kind"] == "merge":
        told = arm["merge"]
        return f"Merged: {told['lambda']:g} of the way to {escape_markdown(told['of'], 60)}"
    if arm["kind"] == "average":
        told = arm["average"]
        last = number(told["checkpoints"], "count")
        return f"Mean of the last {last} checkpoints of {escape_markdown(told['of'], 60)}"
    share, tokens = number(arm["general_share"], "share"), number(arm["tokens"], "tokens")
    return f"{share} general text, {tokens} tokens"


def _front_matter(base: str | None) -> str:
    # JSON strings are YAML strings, whatever a name holds.
    lines = ["---", "tags:", "- continued-pretraining", "- alloy"]
    if base is not None and "/" in base and not base.startswith((".", "/")):
        lines.append(f"base_model: {json.dumps(base)}")
    return "\n".join([*lines, "---"])


def _table(base: Tree, arm: Tree) -> str:
    lines = ["| | base | this model | change |", "|---|---:|---:|---:|"]
    for title, key, kind, change_key, change_kind in _ROWS:
        if arm[key] is None:
            continue
        change = arm["change"][change_key] if change_key else None
        told = ""
        if change:
            told = with_interval(change["change"], change["interval"], change_kind)
        lines.append(f"| {title} | {number(base[key], kind)} | {number(arm[key], kind)} | {told} |")
    return "\n".join(lines)
