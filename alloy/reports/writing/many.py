"""Many test sets against many models in one table; the first model is what others are set against.

folders of evaluations ─▶ records.Entry ─▶ a row for each measure ─▶ JSON, terminal's table
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alloy.reports.judging import (
    bpb_change,
    bpb_interval,
    cloze_change,
    exam_change,
    model_scores,
    task_changes,
)
from alloy.reports.records import DEFAULT_RESAMPLES, Entry, read_entry
from alloy.reports.text import MISSING, number, visible, with_interval
from alloy.reports.writing.headline import ASCII
from alloy.sweep_record import BaseEntry

Tree = dict[str, Any]
_CHANGES = {"percent": "points", "f1": "f1_change", "bpb": "bpb_change"}
HEADER = ["test set", "measure", "items", "model", "score", "change"]


def many_models(folders: Sequence[tuple[str, Path]]) -> Tree:
    """The table as JSON values, from (name, folder of an evaluation) of each model.

    A row is a measure of a test set; its ``scores`` are in the order of ``models``, None where a
    model was not measured on it. Intervals are 95%; ``change`` is against the first model, paired
    over the items that both answered, None of the first itself.
    """
    specs = [(path.parent, BaseEntry(name=name, eval=path.name)) for name, path in folders]
    entries = [read_entry(*spec) for spec in specs]
    measured = [_measures(entry, entries[0] if i else None) for i, entry in enumerate(entries)]
    kinds = {key: score["kind"] for one in measured for key, score in one.items()}
    rows = [
        {
            "test_set": test_set,
            "measure": measure,
            "kind": kind,
            "scores": [one.get((test_set, measure)) for one in measured],
        }
        for (test_set, measure), kind in kinds.items()
    ]
    models = [
        {"name": entry.spec.name, "folder": str(path), "weights_hash": entry.summary.weights_hash}
        for entry, (_, path) in zip(entries, folders, strict=True)
    ]
    caveats = dict.fromkeys(line for entry in entries for line in entry.summary.caveats)
    problems = [problem for entry in entries for problem in entry.problems]
    return {"models": models, "rows": rows, "caveats": [*caveats, *problems]}


def table_rows(many: Tree) -> list[list[str]]:
    """A line for each measure and model, under ``HEADER``."""
    names = [visible(model["name"], 28) for model in many["models"]]
    lines = []
    for row in many["rows"]:
        kind = row["kind"]
        for name, score in zip(names, row["scores"], strict=True):
            change, told = score and score["change"], ""
            if change:
                told = with_interval(change["change"], change["interval"], _CHANGES[kind])
            cells = [
                visible(row["test_set"], 28),
                visible(row["measure"], 32),
                number(score and score["items"], "count"),
                name,
                with_interval(score["value"], score["interval"], kind) if score else MISSING,
                told,
            ]
            lines.append([cell.translate(ASCII) for cell in cells])
    return lines


def _measures(entry: Entry, base: Entry | None) -> dict[tuple[str, str], Tree]:
    """Every measure of a model under (test set, measure)."""
    resamples = (base or entry).summary.settings.bootstrap or DEFAULT_RESAMPLES
    scores, _ = model_scores(entry, resamples)
    found = {}
    if scores["exam_accuracy"] is not None:
        n, rows = scores["exam_n"], base.exam if base else ()
        exam, cloze = (f(rows, entry.exam) if rows else None for f in (exam_change, cloze_change))
        found["mmlu", "accuracy"] = _score(
            "percent", n, scores["exam_accuracy"], scores["exam_interval"], exam
        )
        by_text = scores["cloze_accuracy"]
        found["mmlu", "cloze accuracy"] = _score("percent", n, by_text, None, cloze)
        if scores["generative_accuracy"] is not None:
            written = scores["generative_accuracy"]
            found["mmlu", "written letter"] = _score("percent", n, written, None, None)
    changes = task_changes(base, entry, resamples) if base else {}
    for task in (*scores["domain_tasks"], *scores["lm_eval_tasks"]):
        if task["score"] is not None:
            key = task["name"], task["headline"].replace("_", " ")
            change = changes.get(task["name"])
            found[key] = _score("f1", task["n"], task["score"], task["interval"], change)
    for source in scores["bpb_by_source"]:
        own, other = (
            [row for row in one.bpb if row.source == source["name"]] if one else []
            for one in (entry, base)
        )
        change = bpb_change(other, own, resamples) if other else None
        interval = bpb_interval(own, resamples)
        found[source["name"], "bits per byte"] = _score(
            "bpb", source["documents"], source["bpb"], interval, change
        )
    return found


def _score(kind: str, items: int, value: float, interval: Any, change: Tree | None) -> Tree:
    return {
        "kind": kind,
        "items": items,
        "value": value,
        "interval": interval if interval is None else list(interval),
        "change": change,
    }
