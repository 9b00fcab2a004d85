"""Many test sets against many models in one table: python table.py EVAL_FOLDER [EVAL_FOLDER ...]

Each folder is one that `alloy eval` wrote; a Markdown table goes to stdout, one row a task and
model, with 95% intervals and, against the first model, the paired change of the headline.
"""

import sys
from pathlib import Path
from typing import Any

from evals.bootstrap import bootstrap_f1_difference
from evals.records import domain_file, read_records, read_summary

COLUMNS = ("task", "model", "rows", "headline F1", "change", "macro F1", "exact", "format-free")
COLUMNS += ("invalid", "details")
INVALID = ""


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folders = [Path(argument) for argument in sys.argv[1:]]
    summaries = [read_summary(folder) for folder in folders]
    rows = [COLUMNS, ["---"] * len(COLUMNS)]
    for task in summaries[0]["domain"]:
        for folder, summary in zip(folders, summaries, strict=True):
            rows.append(task_row(task, summary, folder, folders[0]))
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))
    print()
    rows = [("source", "model", "bits per byte"), ["---"] * 3]
    for source in summaries[0]["bpb"]:
        for summary in summaries:
            found = summary["bpb"][source]
            rows.append((source, summary["name"], with_interval(found["bpb"], found["interval"])))
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))


def task_row(task: str, summary: dict[str, Any], folder: Path, first: Path) -> list[str]:
    scores = summary["domain"][task]
    return [
        task,
        summary["name"],
        str(scores["n"]),
        with_interval(scores["domain_f1"], scores["interval"]),
        "-" if folder == first else change(task, first, folder, summary["settings"]),
        f"{scores['f1_macro']:.3f}",
        f"{scores['exact_match']:.3f}",
        f"{scores['accuracy_format_free']:.3f}",
        f"{scores['invalid_rate']:.3f}",
        details(scores),
    ]


def change(task: str, base: Path, arm: Path, settings: dict[str, Any]) -> str:
    left, right = (read_records(folder / domain_file(task)) for folder in (base, arm))
    gold = [r.get("gold_labels", r["gold"]) for r in left]
    before, after = ([label(record) for record in side] for side in (left, right))
    found = bootstrap_f1_difference(gold, before, after, settings["bootstrap"], seed=0)
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def label(record: dict[str, Any]) -> Any:
    return record["labels"] if "labels" in record else record["label"] or INVALID


def details(scores: dict[str, Any]) -> str:
    parts = []
    if scores["per_level_f1"]:
        parts.append("levels " + ", ".join(f"{level:.3f}" for level in scores["per_level_f1"]))
    if "flagged" in scores:
        flagged = scores["flagged"]
        parts.append(f"flagged P {flagged['precision']:.3f} R {flagged['recall']:.3f}")
        parts.append(f"F1 {flagged['f1']:.3f}")
    if "likelihood" in scores:
        parts.append(f"likeliest label right {scores['likelihood']['accuracy']:.3f}")
        best = scores["recall_at_precision"]
        parts.append(f"recall {best['recall']:.3f} at precision {best['precision']:g}")
    return ", ".join(parts)


def with_interval(value: float, interval: list[float] | None) -> str:
    if interval is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


if __name__ == "__main__":
    main()
