"""The numbers of one model: what its own records say, before any comparison."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from alloy.reports.records import (
    BpbRow,
    BpbSummary,
    DomainSummary,
    Entry,
    ExamRow,
    ExamSummary,
    TaskSummary,
)
from evals import stats

ROLES = ("general", "retention", "domain")
SEED = 0
CURVE_POINTS = 120
SHOWN = 20
"""Rows of the commonest confusions and of those to review that a report repeats."""

Tree = dict[str, Any]


def model_scores(entry: Entry, resamples: int) -> tuple[Tree, list[str]]:
    """Exam, domain and bits-per-byte of one model, and where its files contradict each other.

    A score that was not measured is None. Accuracies and bits-per-byte come from the per-item
    records; F1 is the evaluator's own (summary.json).
    """
    exam, contradictions = _exam(entry)
    tasks = [_domain_task(name, entry) for name in entry.domain]
    return {
        **exam,
        **_headline_domain(tasks),
        "domain_tasks": tasks,
        "lm_eval_tasks": [
            {"name": name, **told.model_dump(include=set(TaskSummary.model_fields))}
            for name, told in entry.summary.lm_eval.items()
        ],
        "decontaminated": entry.summary.decontaminated,
        **_bpb(entry, resamples),
        "dtype": entry.summary.dtype,
        "model": entry.summary.model,
        "weights_hash": entry.summary.weights_hash,
        "task_hash": entry.summary.task_hash,
    }, contradictions


def curve(entry: Entry) -> Tree | None:
    """Loss and learning rate over tokens, in at most CURVE_POINTS points.

    A point is the mean loss of its logged steps, and the tokens and learning rate of the last of
    them. ``non_finite`` counts logged steps without a finite loss.
    """
    rows = entry.metrics
    if not rows:
        return None
    groups = [list(g) for g in np.array_split(np.arange(len(rows)), min(len(rows), CURVE_POINTS))]
    chunks = [[rows[i] for i in group] for group in groups]
    names = sorted({name for row in rows for name in row.loss_by_source})
    return {
        "steps_logged": len(rows),
        "steps_per_point": max(len(chunk) for chunk in chunks),
        "non_finite": sum(finite(row.loss) is None for row in rows),
        "tokens": [chunk[-1].tokens for chunk in chunks],
        "lr": [finite(chunk[-1].lr) for chunk in chunks],
        "loss": [_mean(row.loss for row in chunk) for chunk in chunks],
        "loss_by_source": [
            {"name": name, "loss": [_mean(r.loss_by_source.get(name) for r in c) for c in chunks]}
            for name in names
        ],
    }


def heldout_curve(entry: Entry) -> Tree | None:
    """Bits per byte of each source over tokens, as they were measured during training."""
    rows = entry.heldout
    if not rows:
        return None
    names = sorted({name for row in rows for name in row.sources})
    return {
        "tokens": [row.tokens for row in rows],
        "sources": [
            {
                "name": name,
                "bpb": [row.sources[name].bpb if name in row.sources else None for row in rows],
            }
            for name in names
        ],
    }


def finite(value: Any) -> float | None:
    """The number, or None where it is none: NaN and infinity have no place in JSON."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def bpb_rows(rows: Iterable[BpbRow], role: str) -> list[BpbRow]:
    """Rows of one role."""
    return [row for row in rows if row.role == role]


def _mean(values: Iterable[float | None]) -> float | None:
    kept = [value for value in map(finite, values) if value is not None]
    return sum(kept) / len(kept) if kept else None


def _exam(entry: Entry) -> tuple[Tree, list[str]]:
    told = entry.summary.exam or ExamSummary()
    rows = entry.exam
    replayed = [row for row in rows if row.replayed is True]
    unreplayed = [row for row in rows if row.replayed is False]
    accuracy = _accuracy(rows)
    band = list(stats.chance_band(len(rows))) if rows else None
    at_chance = told.at_chance
    if at_chance is None and band and accuracy is not None:
        at_chance = accuracy <= band[1]
    scores: Tree = {
        "exam_accuracy": accuracy,
        "exam_accuracy_replayed": _accuracy(replayed),
        "exam_accuracy_unreplayed": _accuracy(unreplayed),
        "exam_n": len(rows) or None,
        "exam_n_replayed": len(replayed),
        "exam_n_unreplayed": len(unreplayed),
        "exam_interval": _wilson(rows),
        "exam_interval_replayed": _wilson(replayed),
        "exam_interval_unreplayed": _wilson(unreplayed),
        "exam_shots": told.shots,
        "at_chance": at_chance if rows else None,
        "chance_band": told.chance_band or band,
        "exam_truncated_prompts": told.truncated_prompts,
        "exam_near_ties": told.near_ties,
        "generative_accuracy": told.generative_accuracy,
        "generative_invalid_rate": told.generative_invalid_rate,
        "generative_gap": told.generative_gap and told.generative_gap.model_dump(),
        "format_collapse": told.format_collapse,
        "cloze_accuracy": told.cloze_accuracy,
        "cloze_accuracy_norm": told.cloze_accuracy_norm,
        "gold_bpb": told.gold_bpb,
        "by_category": _by(rows, [row.category for row in rows]),
        "by_subject": _by(rows, [row.subject for row in rows]),
    }
    return scores, _contradictions(scores, told, rows)


def _contradictions(scores: Tree, told: ExamSummary, rows: Sequence[ExamRow]) -> list[str]:
    found = []
    keys = Counter((row.subject, row.index) for row in rows)
    repeated = sum(count - 1 for count in keys.values())
    if repeated:
        found.append(f"exam.jsonl scores {repeated} questions more than once")
    for here, there in (
        ("exam_accuracy", "accuracy"),
        ("exam_accuracy_replayed", "accuracy_replayed"),
        ("exam_accuracy_unreplayed", "accuracy_unreplayed"),
    ):
        ours, theirs = scores[here], getattr(told, there)
        if ours is not None and theirs is not None and abs(ours - theirs) > 1e-9:
            found.append(
                f"summary.json says exam {there} {theirs:.6f}, its item records give {ours:.6f}"
            )
    return found


def _by(rows: Sequence[ExamRow], names: Sequence[str | None]) -> list[Tree]:
    groups: dict[str, list[ExamRow]] = {}
    for row, name in zip(rows, names, strict=True):
        if name is not None:
            groups.setdefault(name, []).append(row)
    return [
        {"name": name, "n": len(members), "accuracy": _accuracy(members)}
        for name, members in sorted(groups.items())
    ]


def _accuracy(rows: Sequence[ExamRow]) -> float | None:
    return sum(row.correct for row in rows) / len(rows) if rows else None


def _wilson(rows: Sequence[ExamRow]) -> list[float] | None:
    return list(stats.wilson(sum(row.correct for row in rows), len(rows))) if rows else None


def _domain_task(name: str, entry: Entry) -> Tree:
    told = entry.summary.domain[name]
    fields = told.model_dump(include=set(DomainSummary.model_fields))
    wrong = [row for row in told.confusion if row[0] != row[1]]
    return {
        "name": name,
        **fields,
        "headline": told.headline or "f1_weighted",
        "score": told.domain_f1,
        "confusion": wrong[:SHOWN],
        "review": fields["review"][:SHOWN],
        "records": len(entry.domain[name]),
    }


def _headline_domain(tasks: Sequence[Tree]) -> Tree:
    """The first task under the names that the headline table uses."""
    first: Tree = tasks[0] if tasks else {}
    return {
        "domain_task": first.get("name"),
        "domain_n": first.get("n"),
        "domain_f1": first.get("domain_f1"),
        "domain_interval": first.get("interval"),
        "domain_precision": first.get("precision_weighted"),
        "domain_recall": first.get("recall_weighted"),
        "domain_f1_macro": first.get("f1_macro"),
    }


def _bpb(entry: Entry, resamples: int) -> Tree:
    scores: Tree = {}
    for role in ROLES:
        rows = bpb_rows(entry.bpb, role)
        scores[f"{role}_bpb"] = _bits_per_byte(rows)
        scores[f"{role}_bpb_interval"] = bpb_interval(rows, resamples)
    sources = dict.fromkeys((row.source, row.role) for row in entry.bpb)
    scores["bpb_by_source"] = [_source_bpb(name, role, entry) for name, role in sources]
    return scores


def _source_bpb(name: str, role: str, entry: Entry) -> Tree:
    own = [row for row in entry.bpb if row.source == name and row.role == role]
    return {
        "name": name,
        "role": role,
        "split": entry.summary.bpb.get(name, BpbSummary()).split,
        "bpb": _bits_per_byte(own),
        "documents": len(own),
        "bytes": sum(row.bytes for row in own),
    }


def _bits_per_byte(rows: Sequence[BpbRow]) -> float | None:
    size = sum(row.bytes for row in rows)
    return finite(sum(row.bits for row in rows) / size) if size else None


def bpb_interval(rows: Sequence[BpbRow], resamples: int) -> list[float] | None:
    """95% bootstrap over documents."""
    if len(rows) < stats.FEWEST_DOCUMENTS or _bits_per_byte(rows) is None:
        return None
    bits, size = np.array([r.bits for r in rows]), np.array([r.bytes for r in rows])
    return list(stats.bootstrap_ratio(bits, size, resamples, SEED))
