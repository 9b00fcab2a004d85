"""Free answers against the accepted ones: exact and quasi-exact match, token F1, ROUGE.

Of several accepted answers the one that scores best counts, for each measure by itself (SQuAD,
Rajpurkar et al. 2016). Quasi-exact match drops case, punctuation and articles (HELM, Liang et al.
2022). ROUGE is rouge-score's, with stemming (Lin 2004).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rouge_score.rouge_scorer import RougeScorer

from evals.domain.labels import normalized
from evals.stats import bootstrap_ratio

ROUGE = ("rouge1", "rouge2", "rougeL")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_SCORER = RougeScorer(list(ROUGE), use_stemmer=True)


def quasi(text: str) -> str:
    """Words without case, punctuation and articles."""
    return " ".join(_ARTICLES.sub(" ", normalized(text)).split())


def token_f1(prediction: str, gold: str) -> float:
    """Harmonic mean of the shares of words that the two have in common, repetitions counted."""
    guess, truth = quasi(prediction).split(), quasi(gold).split()
    if not guess or not truth:
        return float(guess == truth)
    common = sum((Counter(guess) & Counter(truth)).values())
    return 2 * common / (len(guess) + len(truth))


def answer_scores(prediction: str, accepted: Sequence[str]) -> dict[str, Any]:
    """Every measure of one answer."""
    text = prediction.strip()
    scores = [_SCORER.score(gold, text) for gold in accepted]
    return {
        "exact": any(text == gold.strip() for gold in accepted),
        "quasi_exact": any(quasi(text) == quasi(gold) for gold in accepted),
        "token_f1": max(token_f1(text, gold) for gold in accepted),
        **{name: max(score[name].fmeasure for score in scores) for name in ROUGE},
    }


def summarize_answers(
    records: Sequence[Mapping[str, Any]], resamples: int, seed: int
) -> dict[str, Any]:
    """Means over the rows; ``interval`` is a 95% bootstrap of the mean token F1."""
    n = len(records)
    token = np.array([r["token_f1"] for r in records], dtype=float)
    return {
        "headline": "token_f1",
        "domain_f1": float(token.mean()),
        "token_f1": float(token.mean()),
        "quasi_exact_match": sum(r["quasi_exact"] for r in records) / n,
        **{name: sum(r[name] for r in records) / n for name in ROUGE},
        "interval": list(bootstrap_ratio(token, np.ones(n), resamples, seed)),
    }
