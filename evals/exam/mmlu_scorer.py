"""The letter and the cloze form without lm-eval: the same numbers, with shared parts run once."""

from collections.abc import Sequence
from typing import Any

from evals.exam.exam_records import Form, ItemScore, SubjectScorer
from evals.exam.mmlu_items import MmluSubject
from evals.exam.mmlu_prompts import CONTINUATIONS, cloze_prompt, letter_prompt
from evals.scoring import (
    Question,
    context_tokens,
    encode,
    encode_options,
    score_continuations,
    undisturbed,
)


def native_scorer(model: Any, tokenizer: Any, batch_tokens: int) -> SubjectScorer:
    """Scores one subject in one form: log-probabilities as ``lm_eval_tasks.lm_eval_scorer`` gives
    them (fp32: within 1e-4).

    ``batch_tokens`` counts the tokens of one forward pass after what is shared. The model may be
    live and in training mode: modes, gradients and random states come back as they were.
    """

    def score(subject: MmluSubject, form: Form) -> list[ItemScore]:
        asked = _letters(tokenizer, subject) if form == "letter" else _clozes(tokenizer, subject)
        limit = context_tokens(model)
        with undisturbed(model):
            scores = score_continuations(model, asked, batch_tokens)
        return [
            ItemScore(item.subject, item.index, tuple(logprobs), question.is_cut(limit))
            for item, logprobs, question in zip(subject.test, scores, asked, strict=True)
        ]

    return score


def _letters(tokenizer: Any, subject: MmluSubject) -> list[Question]:
    """One encoding a prompt where each letter is one token after it (every prompt ends alike)."""
    prompts = [letter_prompt(subject, item) for item in subject.test]
    _, [letters] = encode_options(tokenizer, prompts[:1], [CONTINUATIONS])
    if all(len(ids) == 1 for ids in letters):
        return [Question(ids, letters) for ids in encode(tokenizer, prompts)]
    return _pairs(tokenizer, prompts, [CONTINUATIONS] * len(prompts))


def _clozes(tokenizer: Any, subject: MmluSubject) -> list[Question]:
    prompts = [cloze_prompt(subject, item) for item in subject.test]
    return _pairs(tokenizer, prompts, [[f" {c}" for c in item.choices] for item in subject.test])


def _pairs(
    tokenizer: Any, prompts: Sequence[str], options: Sequence[Sequence[str]]
) -> list[Question]:
    contexts, answers = encode_options(tokenizer, prompts, options)
    return [Question(*pair) for pair in zip(contexts, answers, strict=True)]
