"""Every label's probability after a prompt, beside the answer that a model writes by itself.

A label counts with its end (a line break or the end of the text), or one that begins another would
always be likelier than it. Probabilities are normalised over the labels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from configs import DomainMetric
from evals.domain.labels import FLAGGED, UNFLAGGED
from evals.scoring import (
    Question,
    encode_options,
    require_end_of_text,
    score_continuations,
    undisturbed,
)


def label_likelihoods(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    labels: Sequence[str],
    metric: DomainMetric,
    batch_tokens: int,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """For each prompt the likeliest label and how certain it is: fields of its record.

    Of a verdict only Yes and No are scored, without an end: categories may follow.
    """
    verdict = metric == "moderation"
    labels = [FLAGGED, UNFLAGGED] if verdict else list(labels)
    asked = [_question(tokenizer, prompt, labels, with_end=not verdict) for prompt in prompts]
    every = sum(len(question.options) for question in asked)
    with undisturbed(model):
        scores = score_continuations(
            model, asked, batch_tokens, lambda done: progress(f"labels: {done} of {every} scored")
        )
    return [_fields(np.array(row), labels, verdict) for row in scores]


def _question(tokenizer: Any, prompt: str, labels: Sequence[str], with_end: bool) -> Question:
    """The labels' ids, and behind them, where ends count, the same with the other end."""
    gap = "" if prompt[-1:].isspace() else " "
    texts = [f"{gap}{label}\n" if with_end else f"{gap}{label}" for label in labels]
    [context], [options] = encode_options(tokenizer, [prompt], [texts])
    if with_end:
        end = require_end_of_text(tokenizer, "labels")
        _, [bare] = encode_options(tokenizer, [prompt], [[f"{gap}{label}" for label in labels]])
        options = options + [[*ids, end] for ids in bare]
    return Question(context, options)


def _fields(logprobs: np.ndarray, labels: Sequence[str], verdict: bool) -> dict[str, Any]:
    """``logprobs``: (labels,), or (2 x labels,) with the two ends of a label to be added up."""
    if not verdict:
        logprobs = np.logaddexp(*logprobs.reshape(2, len(labels)))
    shares = np.exp(logprobs - np.logaddexp.reduce(logprobs))
    best = int(np.argmax(shares))
    fields = {
        "likelihood_label": labels[best],
        "likelihood_certainty": float(shares[best]),
        "likelihood_logprob": float(logprobs[best]),
    }
    return fields | {"flag_probability": float(shares[0])} if verdict else fields
