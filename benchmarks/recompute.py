"""Recompute a report's numbers from the per-item records alone: python recompute.py runs/demo

Nothing of Alloy is imported. Prints each number beside the report's, and exits 1 where one differs.
"""

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sklearn.metrics import f1_score

TOLERANCE = 1e-9
Row = dict[str, Any]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    sweep = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    wrong = compare(report["base"], recompute(folder / sweep["base"]["eval"]))
    evals = {arm["name"]: folder / arm["eval"] for arm in sweep["arms"] if not arm["failed"]}
    for entry in report["arms"]:
        if entry["name"] in evals:
            wrong += compare(entry, recompute(evals[entry["name"]]))
    print(f"{wrong} numbers differ")
    sys.exit(1 if wrong else 0)


def recompute(folder: Path) -> dict[str, float | int | None]:
    """The numbers of one model from exam.jsonl, domain_*.jsonl and bpb.jsonl."""
    exam = rows(folder / "exam.jsonl")
    domain = rows(sorted(folder.glob("domain_*.jsonl"))[0])
    bpb = rows(folder / "bpb.jsonl")
    gold = [row["gold"] for row in domain]
    predicted = [row["prediction"].strip() for row in domain]
    labels = sorted(set(gold) | set(predicted))
    return {
        "exam_accuracy": accuracy(exam),
        "exam_accuracy_replayed": accuracy(r for r in exam if r.get("replayed") is True),
        "exam_accuracy_unreplayed": accuracy(r for r in exam if r.get("replayed") is False),
        "exam_n": len(exam),
        "domain_f1": float(
            f1_score(gold, predicted, labels=labels, average="weighted", zero_division=0)
        ),
        "domain_n": len(domain),
        "general_bpb": bits_per_byte(r for r in bpb if r["role"] == "general"),
        "retention_bpb": bits_per_byte(r for r in bpb if r["role"] == "retention"),
        "domain_bpb": bits_per_byte(r for r in bpb if r["role"] == "domain"),
    }


def compare(entry: Row, found: dict[str, float | int | None]) -> int:
    wrong = 0
    for key, value in found.items():
        told = entry[key]
        same = told == value or (
            isinstance(told, float)
            and value is not None
            and math.isclose(told, value, abs_tol=TOLERANCE)
        )
        wrong += not same
        print(f"{entry['name']:32} {key:26} {told!s:24} {value!s:24} {'' if same else 'DIFFERS'}")
    return wrong


def accuracy(exam: Iterable[Row]) -> float | None:
    correct = [row["choice"] == row["answer"] for row in exam]
    return sum(correct) / len(correct) if correct else None


def bits_per_byte(documents: Iterable[Row]) -> float | None:
    chosen = list(documents)
    total = sum(row["bytes"] for row in chosen)
    return math.fsum(row["bits"] for row in chosen) / total if total else None


def rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
