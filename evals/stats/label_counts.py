"""Hits, right labels and predictions per label: F1 of single labels and of sets of labels.

A single label is a string, a set a sequence of strings. Only labels that occur in the test set are
classes. In a set, a label that no test row has, or that is written twice, is one more prediction:
twice written, it counts at its own class; unknown, it is spread evenly over the right labels of
its row, so that it always costs precision. An unknown single label costs the recall of the right
one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

Labels = str | Sequence[str]


def count_table(
    gold: Sequence[Labels], predicted: Sequence[Labels]
) -> tuple[list[str], sparse.csr_array]:
    """(classes, (rows, 3 x classes) table): hits, right labels and predictions of each row."""
    classes = sorted({label for labels in gold for label in as_set(labels)})
    codes = {label: code for code, label in enumerate(classes)}
    entries: list[tuple[int, int, float]] = []
    for row, (truths, guesses) in enumerate(zip(gold, predicted, strict=True)):
        right = set(as_set(truths))
        entries += [(row, 3 * codes[label] + 1, 1.0) for label in right]
        entries += [(row, 3 * codes[label], 1.0) for label in right & set(as_set(guesses))]
        for guess in as_set(guesses):
            if guess in codes:
                entries.append((row, 3 * codes[guess] + 2, 1.0))
            elif not isinstance(truths, str):
                entries += [(row, 3 * codes[label] + 2, 1 / len(right)) for label in right]
    rows, columns, values = (np.array(part) for part in zip(*entries, strict=True))
    table = sparse.coo_array((values, (rows, columns)), shape=(len(gold), 3 * len(classes)))
    return classes, table.tocsr()


def as_set(labels: Labels) -> Sequence[str]:
    return (labels,) if isinstance(labels, str) else labels


def weighted_f1(sums: np.ndarray) -> np.ndarray:
    """(resamples, 3 x classes) column sums of ``count_table`` to (resamples,) weighted F1."""
    hits, gold, predicted = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]
    f1 = np.divide(2 * hits, gold + predicted, out=np.zeros_like(hits), where=gold > 0)
    return (f1 * gold).sum(axis=1) / gold.sum(axis=1)


def set_scores(gold: Sequence[Labels], predicted: Sequence[Labels]) -> dict[str, Any]:
    """Weighted, macro and micro (precision, recall, F1), and the scores of each class.

    On rows whose predictions are distinct classes the numbers are scikit-learn's.
    """
    classes, table = count_table(gold, predicted)
    sums = np.asarray(table.sum(axis=0)).reshape(len(classes), 3)
    each = np.array([_scores(*row) for row in sums])  # (classes, 3)
    support = sums[:, 1]
    weighted = (each * support[:, None]).sum(axis=0) / support.sum()
    return {
        "weighted": _named(weighted),
        "macro": _named(each.mean(axis=0)),
        "micro": _named(_scores(*sums.sum(axis=0))),
        "per_label": {
            label: {**_named(scores), "n": int(n)}
            for label, scores, n in zip(classes, each, support, strict=True)
        },
    }


def _scores(hits: float, gold: float, predicted: float) -> tuple[float, float, float]:
    """(precision, recall, F1); 0 where nothing was predicted or nothing was right."""
    precision = hits / predicted if predicted else 0.0
    recall = hits / gold if gold else 0.0
    return precision, recall, 2 * hits / (gold + predicted) if gold + predicted else 0.0


def _named(scores: Sequence[float] | np.ndarray) -> Mapping[str, float]:
    return {name: float(s) for name, s in zip(("precision", "recall", "f1"), scores, strict=True)}
