"""Turns the scores of an exam into a record for each item, and the records into its summary."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from evals.exam.mmlu_items import Exam, MmluSubject
from evals.stats import chance_band, paired_drop, wilson

Record = Mapping[str, Any]
_COLLAPSE_GAP = 0.05
NEAR_TIE = {"float32": 1e-4, "bfloat16": 0.05}
"""Nats between two log-probabilities that the order of additions may turn round."""


@dataclass(frozen=True)
class ItemScore:
    """Log-probabilities (natural log) of the four continuations of one question, and whether its
    prompt lost its start because it was longer than the context."""

    subject: str
    index: int
    logprobs: tuple[float, ...]
    truncated: bool


Form = Literal["letter", "cloze"]
SubjectScorer = Callable[[MmluSubject, Form], list[ItemScore]]
"""What either scorer is: the scores of one subject's questions in one form, in their order."""


def score_exam(
    scorer: SubjectScorer, exam: Exam, form: Form, progress: Callable[[str], None]
) -> list[ItemScore]:
    """Every question in one form, in the exam's order."""
    scores = []
    for done, subject in enumerate(exam.subjects, 1):
        scores += scorer(subject, form)
        progress(f"exam, {form} form: {subject.name} ({done} of {len(exam.subjects)} subjects)")
    return scores


def item_records(
    exam: Exam, letters: Sequence[ItemScore], clozes: Sequence[ItemScore]
) -> list[dict[str, Any]]:
    """One record a question, in the order of the exam; both score lists must be in that order.

    ``choice`` is the first maximum, as in lm-eval. The cloze choice is taken by the summed
    log-probability and by its mean over the bytes of the choice (lm-eval's acc_bytes; its
    acc_norm divides by characters, the same thing for ASCII). ``gold_bytes`` leaves out the
    space in front, ``gold_bits`` cannot.
    """
    categories = {subject.name: subject.category for subject in exam.subjects}
    records = []
    for item, letter, cloze in zip(exam.items(), letters, clozes, strict=True):
        key = (item.subject, item.index)
        if key != (letter.subject, letter.index) or key != (cloze.subject, cloze.index):
            raise ValueError(f"scores are not in the exam's order at {key}")
        sizes = [len(choice.encode()) for choice in item.choices]
        choice = int(np.argmax(letter.logprobs))
        by_sum = int(np.argmax(cloze.logprobs))
        by_byte = int(np.argmax(np.array(cloze.logprobs) / sizes))
        record = {
            "subject": item.subject,
            "index": item.index,
            "category": categories[item.subject],
            "answer": item.answer,
            "choice": choice,
            "correct": choice == item.answer,
            "logprobs": list(letter.logprobs),
            "truncated": letter.truncated,
            "cloze_choice": by_sum,
            "cloze_correct": by_sum == item.answer,
            "cloze_choice_norm": by_byte,
            "cloze_correct_norm": by_byte == item.answer,
            "cloze_logprobs": list(cloze.logprobs),
            "cloze_truncated": cloze.truncated,
            "gold_bits": -cloze.logprobs[item.answer] / math.log(2),
            "gold_bytes": sizes[item.answer],
        }
        if exam.replayed is not None:
            record["replayed"] = exam.replayed[key]
        records.append(record)
    return records


def summarize_exam(records: Sequence[Record], shots: int, dtype: str = "float32") -> dict[str, Any]:
    """The exam's numbers, all from its records. Accuracies are micro averages over questions.

    ``gold_bpb`` is total bits over total bytes of the right choices. ``at_chance`` is true when
    the accuracy is not above the chance band, nor above what always giving the commonest right
    letter would score (answers are not balanced: 26.9% of MMLU's are D). ``near_ties`` are
    questions whose two likeliest letters are closer than another batch could move them.
    """
    n = len(records)
    accuracy = _accuracy(records, "correct")
    band = chance_band(n, choices=4)
    answers = np.bincount([r["answer"] for r in records], minlength=4)
    choices = np.bincount([r["choice"] for r in records], minlength=4)
    constant = float(answers.max() / n)
    known = [r for r in records if "replayed" in r]
    replayed = [r for r in known if r["replayed"]]
    unreplayed = [r for r in known if not r["replayed"]]
    return {
        "n": n,
        "accuracy": accuracy,
        "accuracy_replayed": _accuracy(replayed, "correct"),
        "accuracy_unreplayed": _accuracy(unreplayed, "correct"),
        "n_replayed": len(replayed),
        "n_unreplayed": len(unreplayed),
        "cloze_accuracy": _accuracy(records, "cloze_correct"),
        "cloze_accuracy_norm": _accuracy(records, "cloze_correct_norm"),
        "cloze_at_chance": bool(sum(r["cloze_correct_norm"] for r in records) <= band[1] * n),
        "gold_bpb": sum(r["gold_bits"] for r in records) / sum(r["gold_bytes"] for r in records),
        "shots": shots,
        "at_chance": bool(accuracy is not None and accuracy <= max(band[1], constant)),
        "chance_band": list(band),
        "constant_accuracy": constant,
        "choice_shares": [float(count / n) for count in choices],
        "near_ties": sum(_gap(r["logprobs"]) < NEAR_TIE[dtype] for r in records),
        "near_tie_band": NEAR_TIE[dtype],
        "interval": list(wilson(sum(r["correct"] for r in records), n)),
        **_generative(records),
        "truncated_prompts": sum(r["truncated"] for r in records),
        "truncated_cloze_prompts": sum(r["cloze_truncated"] for r in records),
        "by_category": _grouped(records, lambda r: r["category"]),
        "by_subject": _grouped(records, lambda r: r["subject"]),
    }


def _generative(records: Sequence[Record]) -> dict[str, Any]:
    """What the model writes by itself, against what it finds likeliest. All null where it was
    not asked to write.

    ``generative_gap`` is the letter accuracy minus that of the written answers, paired, with
    one-sided 95% bounds. ``format_collapse``: its lower bound is over 5 points, so the model knows
    more than it says in the asked form.
    """
    keys = ("accuracy", "invalid_rate", "gap")
    if not all("generated_correct" in r for r in records):
        empty = dict.fromkeys(f"generative_{key}" for key in keys)
        return {**empty, "format_collapse": None}
    n = len(records)
    found = paired_drop(
        np.array([r["correct"] for r in records]),
        np.array([r["generated_correct"] for r in records]),
        [r["subject"] for r in records],
    )
    return {
        "generative_accuracy": _accuracy(records, "generated_correct"),
        "generative_invalid_rate": sum(r["generated_choice"] is None for r in records) / n,
        "generative_gap": {"gap": found.drop, "lower": found.lower, "upper": found.upper},
        "format_collapse": found.lower > _COLLAPSE_GAP,
    }


def _gap(logprobs: Sequence[float]) -> float:
    best, second = sorted(logprobs, reverse=True)[:2]
    return best - second


def _accuracy(records: Sequence[Record], key: str) -> float | None:
    return sum(r[key] for r in records) / len(records) if records else None


def _grouped(records: Iterable[Record], name: Callable[[Record], str]) -> dict[str, Any]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(name(record), []).append(record)
    return {
        group: {"n": len(members), "accuracy": _accuracy(members, "correct")}
        for group, members in sorted(groups.items())
    }
