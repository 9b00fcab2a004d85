"""Runs the exam on a model, one subject after the other; each is kept as soon as it is done."""

import string
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from configs import MmluTask
from evals.exam.exam_records import SubjectScorer, item_records
from evals.exam.mmlu_items import LETTERS, Exam, MmluItem, MmluSubject
from evals.exam.mmlu_prompts import letter_prompt
from evals.parts import Parts
from evals.scoring import Answer, answer_all, require_finite

_ANSWER_TOKENS = 8
"""Enough for a letter and punctuation; what is longer is wrong whatever comes next."""


def run_exam(
    model: Any,
    tokenizer: Any,
    exam: Exam,
    task: MmluTask,
    scorer: SubjectScorer,
    batch_tokens: int,
    parts: Parts,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Every question's record, in the order of the exam. Letter and cloze form are always scored,
    the generative one where the task asks for it."""
    records = []
    for done, subject in enumerate(exam.subjects, 1):

        def compute(subject: MmluSubject = subject) -> list[dict[str, Any]]:
            alone = replace(exam, subjects=(subject,))
            found = item_records(alone, scorer(subject, "letter"), scorer(subject, "cloze"))
            require_finite(p for r in found for p in (*r["logprobs"], *r["cloze_logprobs"]))
            if task.generative:
                answers = _answers(model, tokenizer, subject, batch_tokens)
                for record, item, answer in zip(found, subject.test, answers, strict=True):
                    record |= generated_fields(item, answer)
            return found

        records += parts.of(f"exam-{subject.name}", compute)
        progress(f"exam: {subject.name} ({done} of {len(exam.subjects)} subjects)")
    return records


def _answers(model: Any, tokenizer: Any, subject: MmluSubject, batch_tokens: int) -> list[Answer]:
    prompts = [letter_prompt(subject, item) for item in subject.test]
    return answer_all(model, tokenizer, prompts, _ANSWER_TOKENS, batch_tokens, lambda _: None)


def generated_fields(item: MmluItem, answer: Answer) -> dict[str, Any]:
    """The letter that was written, as lm-eval's mmlu_generative reads it: the first line without
    the spaces around it, case and punctuation; null where that is no letter."""
    kept = "".join(c for c in answer.text.strip() if c not in string.punctuation).upper()
    choice = LETTERS.index(kept) if len(kept) == 1 and kept in LETTERS else None
    return {
        "generated": answer.text,
        "generated_choice": choice,
        "generated_correct": choice == item.answer,
        "generated_truncated": answer.truncated,
    }
