"""Free answers by brute force and rouge-score; curves against scikit-learn and by hand."""

import random

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import f1_score, precision_score, recall_score

from evals.domain.domain_f1 import summarize_domain
from evals.domain.domain_items import DomainRow
from evals.domain.domain_records import domain_records
from evals.domain.extractive import ROUGE, answer_scores, quasi, token_f1
from evals.stats.curves import curve, lengths, recall_at_precision, review

WORDS = ["the", "late", "fee", "a", "refund", "Tuesday", "12", "dollars", "an", "order"]


def test_normalization():
    assert quasi("The  Late-fee, a REFUND!") == "late fee refund"
    assert quasi("theatre an") == "theatre"
    assert quasi("...") == ""


def test_token_f1_by_scikit_learn():
    """On words that do not repeat, token F1 is the F1 of a binary choice of words."""
    rng = random.Random(0)
    words = [w for w in WORDS if w not in ("the", "a", "an")]
    for _ in range(1000):
        gold = rng.sample(words, rng.randint(1, 7))
        guess = rng.sample(words, rng.randint(1, 7))
        truth, found = ([w in side for w in words] for side in (gold, guess))
        expected = f1_score(truth, found, zero_division=0)
        assert token_f1(" ".join(guess), " ".join(gold)) == pytest.approx(expected)


def test_repeated_words_cost():
    assert token_f1("refund refund", "refund") == pytest.approx(2 / 3)
    assert token_f1("late refund fee", "refund") == pytest.approx(1 / 2)
    assert token_f1("", "refund") == token_f1("the", "refund") == 0


def test_the_best_accepted_answer_counts_for_each_measure():
    rng = random.Random(1)
    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    for _ in range(200):
        accepted = [" ".join(rng.choices(WORDS, k=rng.randint(1, 6))) for _ in range(3)]
        guess = " ".join(rng.choices(WORDS, k=rng.randint(0, 6)))
        found = answer_scores(f" {guess} ", accepted)
        assert found["exact"] == (guess in accepted)
        assert found["quasi_exact"] == (quasi(guess) in map(quasi, accepted))
        assert found["token_f1"] == max(token_f1(guess, gold) for gold in accepted)
        for name in ROUGE:
            expected = max(scorer.score(gold, guess)[name].fmeasure for gold in accepted)
            assert found[name] == pytest.approx(expected)


def test_summary_of_free_answers():
    rows = [
        DomainRow(str(n), "", gold)
        for n, gold in enumerate([("12 dollars", "$12"), ("Tuesday",), ("a refund",)])
    ]
    records = domain_records(rows, ["$12", "on tuesday", ""], "extractive")
    summary = summarize_domain(records, "extractive", resamples=50)
    assert summary["headline"] == "token_f1"
    assert summary["exact_match"] == pytest.approx(1 / 3)
    assert summary["domain_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert summary["invalid_rate"] == pytest.approx(1 / 3)
    assert summary["empty_answers"] == 1
    assert summary["interval"][0] <= summary["domain_f1"] <= summary["interval"][1]


def test_curves_by_thresholds():
    rng = random.Random(2)
    for _ in range(50):
        n = rng.randint(2, 60)
        truth = [rng.random() < 0.4 for _ in range(n)]
        scores = [round(rng.random(), 1) for _ in range(n)]
        positives = sum(truth) + rng.randint(0, 5)
        if not sum(truth):
            assert curve(truth, scores, n)["points"] == []
            continue
        points = curve(truth, scores, positives)["points"]
        for threshold, precision, recall in points:
            answered = [s >= threshold for s in scores]
            assert precision == pytest.approx(precision_score(truth, answered))
            expected = recall_score(truth, answered) * sum(truth) / positives
            assert recall == pytest.approx(expected)
        best = recall_at_precision(truth, scores, positives, 0.6)
        kept = [recall for _, precision, recall in points if precision >= 0.6]
        assert best["recall"] == pytest.approx(max(kept, default=0.0))
        assert (best["threshold"] is None) == (not kept)


def test_review_and_lengths():
    records = [
        {"id": str(n), "certainty": c, "gold": "a", "prediction": "b"}
        for n, c in enumerate([0.9, 0.2, 0.5])
    ]
    assert [r["id"] for r in review(records, "certainty")] == ["1", "2", "0"]
    assert lengths([1, 2, 3, 10])["max"] == 10
    assert lengths([1, 2, 3, 10])["mean"] == 4
