"""Predictions to in-domain scores: exact labels and label paths ("billing > refund > late").

The headline is the weighted F1 over whole labels (leaf paths), as Nova Forge reports it. Averages
are scikit-learn's. Every output that is no known label counts as one and the same wrong class:
it costs recall to the right label, and never invents a class that would dilute the macro average,
which is taken over the labels that occur in the test set.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from sklearn.metrics import precision_recall_fscore_support

from evals.bootstrap import bootstrap_f1

Metric = Literal["exact_label", "label_path"]
INVALID = "\x00invalid"  # cannot be a label: labels are stripped text
_SEPARATOR = " > "
_UNDEFINED: Any = 0.0  # precision of a label that was never predicted
_NOT_WORD = re.compile(r"[\W_]+")


def domain_records(
    rows: Sequence[tuple[str, str, str]],
    metric: Metric,
    known_labels: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """One record a row of (id, gold, prediction).

    ``valid``: the prediction is a label of the test set or of ``known_labels`` (those trained
    on). ``correct``: it is the right one, after the spaces around it and, for a path, around its
    separators are dropped. ``correct_format_free``: see ``label_found``. An answer with more
    after the label, or the label twice, is neither valid nor correct.
    """
    valid = {canonical(label, metric) for label in (*(gold for _, gold, _ in rows), *known_labels)}
    forms = search_forms(valid)
    records = []
    for row_id, gold, prediction in rows:
        truth, guess = canonical(gold, metric), canonical(prediction, metric)
        records.append(
            {
                "id": row_id,
                "gold": truth,
                "prediction": prediction,
                "label": guess if guess in valid else None,
                "correct": guess == truth,
                "exact": prediction.strip() == gold.strip(),
                "correct_format_free": label_found(prediction, truth, forms),
                "valid": guess in valid,
            }
        )
    return records


def canonical(text: str, metric: Metric) -> str:
    """A label as it is compared: outer spaces dropped, separators of a path evened out."""
    if metric == "exact_label":
        return text.strip()
    return _SEPARATOR.join(part.strip() for part in text.split(">"))


def normalized(text: str) -> str:
    """Words in lower case with single spaces: case, punctuation and spacing do not count."""
    return " ".join(_NOT_WORD.sub(" ", text.casefold()).split())


def search_forms(labels: Iterable[str]) -> list[str]:
    """What ``label_found`` looks for: the labels' words, the longest label first."""
    forms = {_spaced(label) for label in labels} - {""}
    return sorted(forms, key=lambda form: (-len(form), form))


def label_found(prediction: str, gold: str, forms: Sequence[str]) -> bool:
    """Whether the answer names the right label and no other, whatever is written around it.

    ``forms`` are the ``search_forms`` of all labels. Whole words count, the longest label first,
    so "late refund" is not also "refund". The label named twice, or beside another one, is not
    an answer.
    """
    text, want = _spaced(prediction), _spaced(gold)
    if not want:  # a label of punctuation alone
        return prediction.strip() == gold
    found = []
    for form in forms:
        pieces = text.split(form)
        found += [form] * (len(pieces) - 1)
        text = "\x00".join(pieces)  # what was matched is not matched again
    return found == [want]


def _spaced(text: str) -> str:
    """Words with a space on either side of each, so that two that touch are both found."""
    return "".join(f" {word} " for word in normalized(text).split())


def summarize_domain(
    records: Sequence[Mapping[str, Any]], metric: Metric, resamples: int, seed: int = 0
) -> dict[str, Any]:
    """All scores of a task from its records.

    ``per_level_f1`` (paths only): weighted F1 of the path's first k parts, over the rows whose
    right path has k parts. ``interval`` is a 95% bootstrap of the weighted F1 over rows.
    """
    gold = [r["gold"] for r in records]
    labels = [r["label"] or INVALID for r in records]
    n = len(records)
    weighted = _averages(gold, labels, "weighted")
    return {
        "metric": metric,
        "n": n,
        "f1_weighted": weighted[2],
        "f1_macro": _averages(gold, labels, "macro")[2],
        "f1_micro": _averages(gold, labels, "micro")[2],
        "precision_weighted": weighted[0],
        "recall_weighted": weighted[1],
        "exact_match": sum(r["exact"] for r in records) / n,
        "accuracy_format_free": sum(r["correct_format_free"] for r in records) / n,
        "invalid_rate": sum(not r["valid"] for r in records) / n,
        "labels": len(set(gold)),
        "per_level_f1": _per_level(gold, labels) if metric == "label_path" else [],
        "interval": list(bootstrap_f1(gold, labels, resamples, seed)),
        "truncated_prompts": sum(r.get("truncated", False) for r in records),
        "unfinished_answers": sum(not r.get("finished", True) for r in records),
    }


def _averages(
    gold: Sequence[str], predicted: Sequence[str], average: str
) -> tuple[float, float, float]:
    """(precision, recall, F1). micro counts every output; the others average over gold labels."""
    labels = None if average == "micro" else sorted(set(gold))
    precision, recall, f1, _ = precision_recall_fscore_support(
        gold, predicted, labels=labels, average=average, zero_division=_UNDEFINED
    )
    return float(precision), float(recall), float(f1)


def _per_level(gold: Sequence[str], predicted: Sequence[str]) -> list[float]:
    depth = max(len(label.split(_SEPARATOR)) for label in gold)
    scores = []
    for level in range(1, depth + 1):
        pairs = [
            (_prefix(truth, level), _prefix(guess, level) or INVALID)
            for truth, guess in zip(gold, predicted, strict=True)
            if _prefix(truth, level) is not None
        ]
        truths, guesses = zip(*pairs, strict=True)
        scores.append(_averages(truths, guesses, "weighted")[2])
    return scores


def _prefix(label: str, level: int) -> str | None:
    """The first ``level`` parts of a path; None where it has fewer."""
    parts = label.split(_SEPARATOR)
    return _SEPARATOR.join(parts[:level]) if len(parts) >= level else None
