"""A model's measured MMLU beside the scores that its makers, or others, have published.

A published score is comparable where it was got as ours is: lm-eval's prompts, the same form and
number of shots, all questions, and this very model. Otherwise both numbers stand there with the
reason why their difference means nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from evals.exam.subjects import MMLU_CATEGORIES
from evals.stats import wilson

Tree = dict[str, Any]
HARNESS = "lm-eval"
"""Whose prompts and scoring ours are."""
MMLU_QUESTIONS = 14_042
ROUNDING = 0.0005  # published to a tenth of a point
_MEASURED = {"letter": "accuracy", "cloze": "cloze_accuracy_norm"}


def beside_published(
    exam: Mapping[str, Any] | None, scores: Sequence[Mapping[str, Any]]
) -> list[Tree]:
    """A row for each published score of the model that ``exam`` (the summary's) is of.

    ``scores`` have model, form, shots, accuracy (0 to 1), harness, source and other_model (why it
    is not this model's, or None). ``difference`` is measured minus published, None where the two
    are not comparable; ``agrees``: whether the published one lies in the measured 95% interval.
    """
    return [] if exam is None else [_row(exam, score) for score in scores]


def _row(exam: Mapping[str, Any], score: Mapping[str, Any]) -> Tree:
    measured, published = exam[_MEASURED[score["form"]]], score["accuracy"]
    low, high = wilson(round(measured * exam["n"]), exam["n"])
    reasons = _differences(exam, score)
    comparable = not reasons
    return {
        **{key: score[key] for key in ("model", "form", "shots", "harness", "source")},
        "published": published,
        "measured": measured,
        "interval": [low, high],
        "comparable": comparable,
        "reasons": reasons,
        "difference": measured - published if comparable else None,
        "agrees": low - ROUNDING <= published <= high + ROUNDING if comparable else None,
        "text": _text(measured, score, reasons),
    }


def _differences(exam: Mapping[str, Any], score: Mapping[str, Any]) -> list[str]:
    """Why the two numbers are of different things; none where they are not."""
    subjects = set(exam["by_subject"])
    found = [] if score["other_model"] is None else [score["other_model"]]
    if score["shots"] != exam["shots"]:
        found.append(f"{score['shots']} shots against {exam['shots']}")
    if score["harness"] != HARNESS:
        found.append(f"scored by {score['harness']}, not as {HARNESS} does")
    if not subjects <= MMLU_CATEGORIES.keys():
        found.append("another exam than MMLU was measured")
    elif exam["n"] != MMLU_QUESTIONS:
        found.append(f"{exam['n']:,} of {MMLU_QUESTIONS:,} questions were measured")
    if exam["truncated_prompts"]:
        found.append(f"{exam['truncated_prompts']:,} prompts lost their start")
    return found


def _text(measured: float, score: Mapping[str, Any], reasons: Sequence[str]) -> str:
    what = (
        f"MMLU, {score['form']} form, {score['shots']} shots: {measured:.1%} measured, "
        f"{score['accuracy']:.1%} published for {score['model']} ({score['source']})"
    )
    if reasons:
        return f"{what}; not comparable: {'; '.join(reasons)}"
    return f"{what}; difference {100 * (measured - score['accuracy']):+.1f} points"
