"""Scores the answers of a domain task: one record for each row."""

from collections.abc import Iterable, Sequence
from typing import Any

from configs import DomainMetric
from evals.domain.domain_items import DomainRow
from evals.domain.extractive import answer_scores
from evals.domain.labels import (
    FLAGGED,
    JOINER,
    NOTHING,
    SETS,
    UNFLAGGED,
    canonical,
    labels_found,
    search_forms,
    written_labels,
)


def domain_records(
    rows: Sequence[DomainRow],
    predictions: Sequence[str],
    metric: DomainMetric,
    known_labels: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """One record a row. ``known_labels`` are those that were trained on, beside the test set's.

    ``valid``: the answer has the task's form and holds known labels only, each once; of an
    extractive task, that it is not empty. ``correct``: it is right, after the spaces around it
    and, for a path, around its separators are dropped. ``correct_format_free``: see
    ``labels.labels_found``. ``label`` is what F1 counts, null where that is no known label; rows
    with sets also have ``gold_labels`` and ``labels`` as they were written.
    """
    if metric == "extractive":
        pairs = zip(rows, predictions, strict=True)
        return [_extractive(row, prediction) for row, prediction in pairs]
    known = {label for row in rows for label in row.gold} | set(known_labels)
    known |= {"multi_label": {NOTHING}, "moderation": {FLAGGED, UNFLAGGED}}.get(metric, set())
    forms = search_forms(known)
    one = _set_record if metric in SETS else _label_record
    records = []
    for row, prediction in zip(rows, predictions, strict=True):
        record = one(row, prediction, metric, known)
        record["correct_format_free"] = labels_found(prediction, row.gold, forms)
        records.append(record)
    return records


def _label_record(
    row: DomainRow, prediction: str, metric: DomainMetric, known: set[str]
) -> dict[str, Any]:
    [truth], guess = row.gold, canonical(prediction, metric)
    return {
        "id": row.id,
        "gold": truth,
        "prediction": prediction,
        "label": guess if guess in known else None,
        "correct": guess == truth,
        "exact": prediction.strip() == truth,
        "valid": guess in known,
    }


def _set_record(
    row: DomainRow, prediction: str, metric: DomainMetric, known: set[str]
) -> dict[str, Any]:
    labels = written_labels(prediction, metric)
    valid = bool(labels) and set(labels) <= known and len(set(labels)) == len(labels)
    first = 1 if metric == "moderation" else 0  # the verdict stays in front
    return {
        "id": row.id,
        "gold": row.label,
        "prediction": prediction,
        "label": JOINER.join([*labels[:first], *sorted(labels[first:])]) if valid else None,
        "gold_labels": list(row.gold),
        "labels": labels,
        "correct": valid and set(labels) == set(row.gold),
        "exact": valid and set(labels) == set(row.gold),  # a set has no one way to be written
        "valid": valid,
    }


def _extractive(row: DomainRow, prediction: str) -> dict[str, Any]:
    scores = answer_scores(prediction, row.gold)
    return {
        "id": row.id,
        "gold": row.gold[0],
        "gold_labels": list(row.gold),
        "prediction": prediction,
        "label": prediction.strip(),
        "correct": scores["quasi_exact"],
        "correct_format_free": scores["quasi_exact"],
        "valid": bool(prediction.strip()),
        **scores,
    }
