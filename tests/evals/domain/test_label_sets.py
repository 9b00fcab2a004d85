"""Sets of labels and moderation verdicts: scikit-learn, brute force, malformed outputs."""

import json
import random
from fractions import Fraction
from typing import Any

import pytest
from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from evals.domain.domain_f1 import summarize_domain
from evals.domain.domain_items import DomainRow
from evals.domain.domain_records import domain_records
from evals.domain.labels import written_labels
from evals.stats.bootstrap import bootstrap_f1_difference
from evals.stats.label_counts import set_scores

LABELS = ["hate", "violence", "self harm", "spam", "late fee"]
AVERAGES = ("weighted", "macro", "micro")
NOTHING: Any = 0  # what a score without predictions is
CASES = [60, pytest.param(1000, marks=pytest.mark.slow)]


def scored(golds, outputs, metric: Any = "multi_label", known=()):
    rows = [DomainRow(str(n), "", tuple(gold)) for n, gold in enumerate(golds)]
    records = domain_records(rows, outputs, metric, known)
    return records, summarize_domain(records, metric, resamples=2)


def some(rng, labels, least=0):
    return rng.sample(labels, rng.randint(least, len(labels)))


def sklearn_scores(golds, guesses):
    """Of sets of distinct labels that all occur in ``golds``."""
    classes = sorted({label for gold in golds for label in gold})
    binary = MultiLabelBinarizer(classes=classes).fit([classes])
    truths, found = binary.transform(golds), binary.transform(guesses)
    scores = {}
    for average in AVERAGES:
        three = precision_recall_fscore_support(
            truths, found, average=average, zero_division=NOTHING
        )[:3]
        scores[average] = dict(zip(("precision", "recall", "f1"), three, strict=True))
    return scores


@pytest.mark.parametrize("cases", CASES)
def test_sets_equal_scikit_learn(cases):
    rng = random.Random(0)
    for _ in range(cases):
        golds = [some(rng, LABELS, 1) for _ in range(rng.randint(1, 30))]
        seen = sorted({label for gold in golds for label in gold})
        guesses = [some(rng, seen) for _ in golds]
        found, expected = set_scores(golds, guesses), sklearn_scores(golds, guesses)
        for average in AVERAGES:
            assert found[average] == pytest.approx(expected[average], abs=1e-12)


@pytest.mark.parametrize("cases", CASES)
def test_verdicts_equal_scikit_learn(cases):
    rng = random.Random(1)
    for _ in range(cases):
        golds, guesses = (
            [
                ["Yes", *sorted(some(rng, LABELS[:3]))] if rng.random() < 0.5 else ["No"]
                for _ in range(24)
            ]
            for _ in range(2)
        )
        guesses = [[g for g in guess if any(g in gold for gold in golds)] for guess in guesses]
        texts = [json.dumps({"flag": g[:1] == ["Yes"], "category": g[1:]}) for g in guesses]
        if any(not guess for guess in guesses):
            continue
        _, summary = scored(golds, texts, "moderation")
        expected = sklearn_scores(golds, guesses)
        assert summary["f1_weighted"] == pytest.approx(expected["weighted"]["f1"], abs=1e-12)
        assert summary["f1_macro"] == pytest.approx(expected["macro"]["f1"], abs=1e-12)
        flags = [[g[0] == "Yes" for g in side] for side in (golds, guesses)]
        precision, recall, f1, _ = precision_recall_fscore_support(
            *flags, average="binary", zero_division=NOTHING
        )
        assert summary["flagged"] == pytest.approx(
            {"precision": precision, "recall": recall, "f1": f1}
        )


def by_hand(golds, guesses):
    """Weighted and micro F1 with repeated and unknown labels, in fractions, label by label."""
    classes = sorted({label for gold in golds for label in gold})
    hits, right, given = ({label: Fraction(0) for label in classes} for _ in range(3))
    for gold, guess in zip(golds, guesses, strict=True):
        for label in set(gold):
            right[label] += 1
            hits[label] += label in guess
        for label in guess:
            if label in classes:
                given[label] += 1
            else:
                for share in gold:
                    given[share] += Fraction(1, len(gold))

    def f1(labels):
        h, r, g = (sum(t[label] for label in labels) for t in (hits, right, given))
        return 2 * h / (r + g) if r + g else Fraction(0)

    total = sum(right.values())
    return {
        "weighted": float(sum(f1([label]) * right[label] for label in classes) / total),
        "macro": float(sum(f1([label]) for label in classes) / len(classes)),
        "micro": float(f1(classes)),
    }


def test_repeated_and_unknown_labels_by_brute_force():
    rng = random.Random(2)
    pool = [*LABELS, "unknown", "another", "hate", "spam"]
    for _ in range(300):
        golds = [some(rng, LABELS[:3], 1) for _ in range(rng.randint(1, 12))]
        guesses = [rng.choices(pool, k=rng.randint(0, 5)) for _ in golds]
        records, summary = scored(golds, [", ".join(guess) for guess in guesses])
        expected = by_hand(golds, guesses)
        for average in AVERAGES:
            assert summary[f"f1_{average}"] == pytest.approx(expected[average], abs=1e-12)
        for record, gold, guess in zip(records, golds, guesses, strict=True):
            assert record["correct"] == (sorted(gold) == sorted(guess))


@pytest.mark.parametrize("metric", ["multi_label", "moderation"])
def test_more_labels_never_help_unless_they_are_right(metric):
    rng = random.Random(3)
    for _ in range(100):
        golds = [some(rng, LABELS, 1) for _ in range(12)]
        if metric == "moderation":
            golds = [["Yes", *gold] for gold in golds]
        texts = [", ".join(gold) for gold in golds]
        right = scored(golds, texts, metric)[1]
        assert right["domain_f1"] == right["f1_macro"] == right["f1_micro"] == 1
        row = rng.randrange(12)
        missing = [label for label in LABELS if label not in golds[row]]
        for extra in (*missing[:1], golds[row][-1], "no label of this task"):
            spoiled = [*texts]
            spoiled[row] += f", {extra}"
            worse = scored(golds, spoiled, metric)[1]
            for score in ("domain_f1", "f1_micro", "f1_macro", "precision_weighted"):
                assert worse[score] < 1, (extra, score)
            assert worse["recall_weighted"] == 1


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Yes", ["Yes"]),
        (" no. ", ["No"]),
        ("YES: hate, violence", ["Yes", "hate", "violence"]),
        ("Yes - hate; spam", ["Yes", "hate", "spam"]),
        ("Yes\nhate", ["Yes", "hate"]),
        ("No, hate", ["No", "hate"]),
        ("Yes: none", ["Yes"]),
        ('{"flag": true, "category": ["hate", "spam"], "reason": "rude"}', ["Yes", "hate", "spam"]),
        ('{"flag": "no", "category": null, "reason": "{fine}"}', ["No"]),
        ('Sure! {"flag": "Yes", "category": "hate, spam"} I {hope}', ["Yes", "hate", "spam"]),
        ('```json\n{"flagged": false,\n "categories": []}\n```', ["No"]),
        ('{"thought": {"flag": true}} {"flag": false}', ["No"]),
        ('{"flag": true} or {"flag": false}', []),
        ('{"flag": maybe}', []),
        ('{"flag": "perhaps"}', []),
        ('{"flag": true, "category": [1, 2]}', []),
        ('{"flag": true', []),
        ("Yesterday was fine", []),
        ("I think yes", []),
        ("", []),
        ("[]", []),
    ],
)  # fmt: skip
def test_verdicts_are_read_strictly(text, labels):
    assert written_labels(text, "moderation") == labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a, b", ["a", "b"]),
        ('["a", "b, c"]', ["a", "b, c"]),
        ("a;b|c\nd", ["a", "b", "c", "d"]),
        ("a, a", ["a", "a"]),
        ("none", ["none"]),
        ("", []),
        (" , ", []),
        ("[1, 2]", []),
        ('["a"', []),
    ],
)
def test_sets_are_read_strictly(text, labels):
    assert written_labels(text, "multi_label") == labels


def test_malformed_answers_are_counted():
    golds = [["Yes", "hate"], ["No"], ["No"], ["Yes", "hate"], ["Yes", "spam"]]
    texts = ["Yes: hate", "", "maybe", "Yes: hats", "Yes: spam, spam"]
    records, summary = scored(golds, texts, "moderation")
    assert [r["valid"] for r in records] == [True, False, False, False, False]
    assert summary["exact_match"] == 0.2
    assert summary["invalid_rate"] == 0.8
    assert summary["empty_answers"] == 1
    assert [r["label"] for r in records] == ["Yes | hate", None, None, None, None]
    assert summary["verdict_accuracy"] == 0.6
    assert summary["categories"]["micro"]["recall"] == pytest.approx(2 / 3)
    assert ["No", None, 2] in summary["confusion"]
    assert scored([["none"]], ["none"])[1]["domain_f1"] == 1
    assert scored([["none"]], [""])[1]["domain_f1"] == 0


def test_differences_of_sets_are_paired():
    rng = random.Random(4)
    golds = [some(rng, LABELS, 1) for _ in range(80)]
    base = [gold if n % 2 else ["spam"] for n, gold in enumerate(golds)]
    found = bootstrap_f1_difference(golds, base, golds, 200, seed=0)
    expected = 1 - set_scores(golds, base)["weighted"]["f1"]
    assert found.value == pytest.approx(expected)
    assert found.low > 0
