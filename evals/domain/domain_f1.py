"""Computes the scores of a domain task from its records.

The headline of labels is the weighted F1 over whole labels (leaf paths; verdict and categories),
as Nova Forge reports it, and the mean token F1 of free answers. Every single-label output that is
no known label counts as one and the same wrong class: it costs recall to the right label, and never
invents a class that would dilute the macro average, which is taken over the labels that occur in
the test set. Averages of single labels are scikit-learn's; those of sets are ``label_counts``'.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.metrics import precision_recall_fscore_support

from configs import DomainMetric
from evals.domain.extractive import summarize_answers
from evals.domain.labels import FLAGGED, SEPARATOR, SETS
from evals.stats import (
    Labels,
    bootstrap_f1,
    curve,
    lengths,
    recall_at_precision,
    review,
    set_scores,
)

INVALID = "\x00invalid"  # cannot be a label: labels are stripped text
_UNDEFINED: Any = 0.0  # precision of a label that was never predicted
_AVERAGES = ("weighted", "macro", "micro")
Record = Mapping[str, Any]


def summarize_domain(
    records: Sequence[Record],
    metric: DomainMetric,
    resamples: int,
    seed: int = 0,
    precision: float = 0.9,
) -> dict[str, Any]:
    """All scores of a task from its records.

    ``headline`` names the measure that ``domain_f1`` and ``interval`` (95% bootstrap over rows)
    are of. ``per_level_f1`` (paths only): weighted F1 of the path's first k parts, over the rows
    whose right path has k parts. ``recall_at_precision`` is at ``precision``.
    """
    n = len(records)
    if metric == "extractive":
        scores = summarize_answers(records, resamples, seed)
    else:
        gold = [_gold(r) for r in records]
        scores = _label_scores(gold, [_predicted(r) for r in records], metric, resamples, seed)
    return {
        "metric": metric,
        "n": n,
        **scores,
        "exact_match": sum(r["exact"] for r in records) / n,
        "accuracy_format_free": sum(r["correct_format_free"] for r in records) / n,
        "invalid_rate": sum(not r["valid"] for r in records) / n,
        "empty_answers": sum(not r["prediction"].strip() for r in records),
        "truncated_prompts": sum(r.get("truncated", False) for r in records),
        "unfinished_answers": sum(not r.get("finished", True) for r in records),
        **_likelihood(records, metric),
        **_certainty(records, precision),
    }


def _gold(record: Record) -> Labels:
    return record.get("gold_labels", record["gold"])


def _predicted(record: Record) -> Labels:
    return record["labels"] if "labels" in record else record["label"] or INVALID


def _label_scores(
    gold: Sequence[Labels],
    predicted: Sequence[Labels],
    metric: DomainMetric,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    found = set_scores(gold, predicted) if metric in SETS else _single_scores(gold, predicted)
    scores = {
        "headline": "f1_weighted",
        "domain_f1": found["weighted"]["f1"],
        **{f"f1_{average}": found[average]["f1"] for average in _AVERAGES},
        "precision_weighted": found["weighted"]["precision"],
        "recall_weighted": found["weighted"]["recall"],
        "precision_micro": found["micro"]["precision"],
        "recall_micro": found["micro"]["recall"],
        "labels": len(found["per_label"]),
        "per_label": found["per_label"],
        "per_level_f1": _per_level(gold, predicted) if metric == "label_path" else [],
        "interval": list(bootstrap_f1(gold, predicted, resamples, seed)),
    }
    if metric in SETS:
        scores["mean_labels"] = sum(map(len, predicted)) / len(predicted)
    if metric == "moderation":
        scores |= _verdicts(gold, predicted)
        gold, predicted = [_verdict(g) for g in gold], [_verdict(p) for p in predicted]
    if metric != "multi_label":
        scores["confusion"] = _confusion(gold, predicted)
    return scores


def _single_scores(gold: Sequence[Any], predicted: Sequence[Any]) -> dict[str, Any]:
    labels = sorted(set(gold))
    precision, recall, f1, support = precision_recall_fscore_support(
        gold, predicted, labels=labels, average=None, zero_division=_UNDEFINED
    )
    rows = zip(labels, precision, recall, f1, support, strict=True)  # type: ignore[arg-type]
    return {
        **{
            average: _averages(gold, predicted, average)
            for average in ("weighted", "macro", "micro")
        },
        "per_label": {
            label: {"precision": float(p), "recall": float(r), "f1": float(f), "n": int(n)}
            for label, p, r, f, n in rows
        },
    }


def _averages(gold: Sequence[str], predicted: Sequence[str], average: str) -> dict[str, float]:
    """micro counts every output; the others average over gold labels."""
    labels = None if average == "micro" else sorted(set(gold))
    precision, recall, f1, _ = precision_recall_fscore_support(
        gold, predicted, labels=labels, average=average, zero_division=_UNDEFINED
    )
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}


def _per_level(gold: Sequence[Any], predicted: Sequence[Any]) -> list[float]:
    depth = max(len(label.split(SEPARATOR)) for label in gold)
    scores = []
    for level in range(1, depth + 1):
        pairs = [
            (_prefix(truth, level), _prefix(guess, level) or INVALID)
            for truth, guess in zip(gold, predicted, strict=True)
            if _prefix(truth, level) is not None
        ]
        truths, guesses = zip(*pairs, strict=True)
        scores.append(_averages(truths, guesses, "weighted")["f1"])
    return scores


def _prefix(label: str, level: int) -> str | None:
    """The first ``level`` parts of a path; None where it has fewer."""
    parts = label.split(SEPARATOR)
    return SEPARATOR.join(parts[:level]) if len(parts) >= level else None


def _verdict(labels: Labels) -> str:
    return labels[0] if labels else INVALID


def _verdicts(gold: Sequence[Labels], predicted: Sequence[Labels]) -> dict[str, Any]:
    """Flagging as a yes-or-no question, and the categories by themselves (where there are any)."""
    truths, guesses = [_verdict(g) for g in gold], [_verdict(p) for p in predicted]
    precision, recall, f1, _ = precision_recall_fscore_support(
        truths, guesses, labels=[FLAGGED], average="micro", zero_division=_UNDEFINED
    )
    found: dict[str, Any] = {
        "flagged": {"precision": float(precision), "recall": float(recall), "f1": float(f1)},
        "verdict_accuracy": sum(map(str.__eq__, truths, guesses)) / len(truths),
    }
    asked = [i for i, labels in enumerate(gold) if len(labels) > 1]
    if asked:
        pairs = [(list(gold[i][1:]), list(predicted[i][1:])) for i in asked]
        scores = set_scores(*zip(*pairs, strict=True))
        found["categories"] = {a: scores[a] for a in _AVERAGES}
    return found


def _confusion(gold: Sequence[Any], predicted: Sequence[Any]) -> list[list[Any]]:
    """[right label, scored label or null, rows], the most frequent first; zeros are left out."""
    counts = Counter(zip(gold, predicted, strict=True))
    rows = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [[g, None if p == INVALID else p, count] for (g, p), count in rows]


def _likelihood(records: Sequence[Record], metric: DomainMetric) -> dict[str, Any]:
    """The label that is likeliest, where every label was scored."""
    if not all("likelihood_label" in r for r in records):
        return {}
    gold = [_verdict(_gold(r)) if metric == "moderation" else r["gold"] for r in records]
    guess = [r["likelihood_label"] for r in records]
    weighted = _averages(gold, guess, "weighted")
    scores: dict[str, Any] = {
        "f1_weighted": weighted["f1"],
        "f1_macro": _averages(gold, guess, "macro")["f1"],
        "accuracy": sum(map(str.__eq__, gold, guess)) / len(gold),
    }
    if metric == "label_path":
        scores["per_level_f1"] = _per_level(gold, guess)
    return {"likelihood": scores}


def _certainty(records: Sequence[Record], precision: float) -> dict[str, Any]:
    """Curves over the probability of the answer, or of the likeliest label where it was scored;
    of a verdict, over the probability of flagging where that was scored."""
    if not all("certainty" in r for r in records):
        return {}
    positives = len(records)
    if all("flag_probability" in r for r in records):
        hits = [_verdict(_gold(r)) == FLAGGED for r in records]
        scores, positives = [r["flag_probability"] for r in records], sum(hits)
    elif all("likelihood_label" in r for r in records):
        hits = [r["likelihood_label"] == r["gold"] for r in records]
        scores = [r["likelihood_certainty"] for r in records]
    else:
        hits, scores = [bool(r["correct"]) for r in records], [r["certainty"] for r in records]
    certainty = "likelihood_certainty" if "likelihood_certainty" in records[0] else "certainty"
    return {
        "precision_recall": curve(hits, scores, positives),
        "recall_at_precision": recall_at_precision(hits, scores, positives, precision),
        "review": review(records, certainty),
        "answer_tokens": lengths([r["answer_tokens"] for r in records]),
    }
