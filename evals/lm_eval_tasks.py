"""The exam through lm-eval's own task machinery, from local files; the only file that imports it.

Each subject is a complete task config with the fields of lm-eval's mmlu (letter) or
mmlu_continuation (cloze) template, given as a dict: a dict that only names a built-in task does
not inherit its fields. Questions are handed over in memory, so nothing is looked up on the hub
and nothing is cached under a path.
"""

import contextlib
import copy
import io
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import datasets
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evals.exam_records import Form, ItemScore, SubjectScorer
from evals.mmlu_items import LETTERS, MmluItem, MmluSubject
from evals.mmlu_prompts import (
    CLOZE_TEMPLATE,
    LETTER_TEMPLATE,
    cloze_description,
    letter_description,
)
from evals.model_state import context_tokens, forward_tokens, undisturbed

_PROGRESS_BAR = re.compile(r"\d+%\|")
_HFLM: Any = HFLM  # its decorator hides the class from type checkers


class BatchedHFLM(_HFLM):
    """lm-eval's Hugging Face model with batches sized in tokens and truncated prompts counted.

    ``truncated`` collects the contexts that lost their start: lm-eval only logs them.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_tokens: int) -> None:
        # lm-eval may give the tokenizer a pad token: it gets its own copy.
        super().__init__(
            pretrained=model,
            tokenizer=copy.deepcopy(tokenizer),
            batch_size=1,
            max_length=context_tokens(model),
        )
        self.batch_tokens = forward_tokens(model, batch_tokens)
        self.truncated: set[str] = set()

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(self, requests: Any, *args: Any, **kwargs: Any) -> Any:
        sizes = [len(context) + len(continuation) for _, context, continuation in requests]
        longest = min(max(sizes), self.max_length + 1) - 1  # the last token is not an input
        self.batch_size_per_gpu = max(1, self.batch_tokens // longest)
        for (strings, _, _), size in zip(requests, sizes, strict=True):
            if size > self.max_length + 1:
                self.truncated.add(strings[0])
        return super()._loglikelihood_tokens(requests, *args, **kwargs)


def lm_eval_scorer(model: Any, tokenizer: Any, batch_tokens: int) -> SubjectScorer:
    """Scores one subject in one form, as lm-eval does: the oracle of ``mmlu_scorer``.

    The model may be live and in training mode: modes, gradients and random states come back as
    they were.
    """
    with undisturbed(model), _quiet():
        lm = BatchedHFLM(model, tokenizer, batch_tokens)
    manager = TaskManager(include_defaults=False)

    def score(subject: MmluSubject, form: Form) -> list[ItemScore]:
        with undisturbed(model):
            return _score_subject(lm, manager, subject, form)

    return score


def _score_subject(
    lm: BatchedHFLM, manager: TaskManager, subject: MmluSubject, form: Form
) -> list[ItemScore]:
    config = task_config(subject, form)
    lm.truncated.clear()
    with _quiet():
        results: Any = evaluate(lm, manager.load([config]), bootstrap_iters=0, log_samples=True)
    samples = sorted(results["samples"][config["task"]], key=lambda sample: sample["doc_id"])
    return [
        ItemScore(
            item.subject,
            item.index,
            tuple(float(response[0]) for response in sample["filtered_resps"]),
            sample["arguments"][0][0] in lm.truncated,
        )
        for item, sample in zip(subject.test, samples, strict=True)
    ]


def task_config(subject: MmluSubject, form: Form) -> dict[str, Any]:
    """A whole lm-eval task: the fields of the built-in template and where the rows come from."""
    shared = {
        "custom_dataset": lambda **_: {"test": _table(subject.test), "dev": _table(subject.shots)},
        "test_split": "test",
        "fewshot_split": "dev" if subject.shots else None,
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": len(subject.shots),
        "output_type": "multiple_choice",
        "metadata": {"version": 1.0},
    }
    if form == "letter":
        return shared | {
            "task": f"mmlu_{subject.name}",
            "description": letter_description(subject.name),
            "doc_to_text": LETTER_TEMPLATE,
            "doc_to_choice": list(LETTERS),
            "doc_to_target": "answer",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    return shared | {
        "task": f"mmlu_{subject.name}_continuation",
        "description": cloze_description(subject.name),
        "doc_to_text": CLOZE_TEMPLATE,
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
    }


def _table(items: tuple[MmluItem, ...]) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [
            {"question": item.question, "choices": list(item.choices), "answer": item.answer}
            for item in items
        ]
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval draws a bar per subject and logs each truncated prompt: both are told otherwise.

    What it prints goes to stderr, minus the lines of progress bars.
    """
    logger = logging.getLogger("lm_eval")
    level, stderr = logger.level, sys.stderr
    written = io.StringIO()
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
            yield
    finally:
        logger.setLevel(level)
        for line in written.getvalue().replace("\r", "\n").splitlines():
            if line.strip() and not _PROGRESS_BAR.search(line):
                print(line, file=stderr)
