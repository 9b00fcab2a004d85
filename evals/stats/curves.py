"""How certain answers are: precision-recall curve, recall at a fixed precision, what to review."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

_CURVE_POINTS = 51
_REVIEWED = 50
_QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


def curve(hits: Sequence[bool], scores: Sequence[float], positives: int) -> dict[str, Any]:
    """Precision and recall of the answers whose score is at least a threshold.

    ``hits``: whether answering is right; ``positives``: how many rows ask for an answer, the
    denominator of the recall. Points are [threshold, precision, recall], at most 51 of them.
    """
    right = sum(hits)
    if not right:
        return {"positives": positives, "points": []}
    precision, recall, thresholds = precision_recall_curve(list(hits), list(scores))
    recall = recall * (right / positives)
    keep = np.unique(np.linspace(0, len(thresholds) - 1, _CURVE_POINTS).astype(int))
    points = [[float(thresholds[i]), float(precision[i]), float(recall[i])] for i in keep]
    return {"positives": positives, "points": points}


def recall_at_precision(
    hits: Sequence[bool], scores: Sequence[float], positives: int, precision: float
) -> dict[str, Any]:
    """The largest recall of a threshold that keeps ``precision``; 0 and no threshold where none
    does."""
    best = {"precision": precision, "recall": 0.0, "threshold": None}
    if sum(hits):
        found, recall, thresholds = precision_recall_curve(list(hits), list(scores))
        kept = np.flatnonzero(found[:-1] >= precision)
        if len(kept):  # recall falls with the threshold: the first is the largest
            best["recall"] = float(recall[kept[0]] * sum(hits) / positives)
            best["threshold"] = float(thresholds[kept[0]])
    return best


def review(records: Sequence[Mapping[str, Any]], certainty: str) -> list[dict[str, Any]]:
    """The rows that the model was least certain of, the most uncertain first."""
    order = sorted(records, key=lambda r: (r[certainty], r["id"]))
    return [
        {"id": r["id"], "certainty": r[certainty], "gold": r["gold"], "prediction": r["prediction"]}
        for r in order[:_REVIEWED]
    ]


def lengths(tokens: Sequence[int]) -> dict[str, float]:
    """Distribution of the answers' lengths in tokens."""
    values = np.array(tokens)
    found = {name: float(np.quantile(values, q)) for name, q in _QUANTILES.items()}
    return {
        "min": float(values.min()),
        **found,
        "max": float(values.max()),
        "mean": float(values.mean()),
    }
