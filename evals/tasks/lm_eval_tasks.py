"""The exam and named tasks through lm-eval's own machinery; the only file that imports it.

Each subject is a complete task config with the fields of lm-eval's mmlu (letter) or
mmlu_continuation (cloze) template, given as a dict: a dict that only names a built-in task does
not inherit its fields. Questions are handed over in memory, so nothing is looked up on the hub
and nothing is cached under a path.
"""

import contextlib
import copy
import difflib
import importlib
import io
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetsError
from lm_eval.evaluator import evaluate, simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks.hellaswag.utils import preprocess

from configs import LmEvalTask, UserError
from evals.exam import (
    CLOZE_TEMPLATE,
    LETTER_TEMPLATE,
    LETTERS,
    Form,
    ItemScore,
    MmluItem,
    MmluSubject,
    SubjectScorer,
    cloze_description,
    letter_description,
)
from evals.scoring import context_tokens, forward_tokens, undisturbed
from evals.tasks.local_tasks import (
    CHOICE_TASKS,
    LOCAL_TASKS,
    as_choices,
    local_config,
    read_rows,
    require_ready,
)

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

    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
        contexts = {request.args[0]: len(self.tok_encode(request.args[0])) for request in requests}
        written = max(r.args[1].get("max_gen_toks", self.max_gen_toks) for r in requests)
        room = self.max_length - written
        if room < 1:
            raise UserError(
                f"answers of {written} tokens leave no room for a prompt in a context of "
                f"{self.max_length}",
                "leave this task out for this model",
            )
        self.truncated |= {context for context, size in contexts.items() if size > room}
        longest = min(max(contexts.values()), room) + written
        self.batch_size_per_gpu = max(1, self.batch_tokens // longest)
        return super().generate_until(requests, disable_tqdm=disable_tqdm)

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
    lm = _batched(model, tokenizer, batch_tokens)
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


def run_task(
    model: Any, tokenizer: Any, task: LmEvalTask, batch_tokens: int
) -> list[dict[str, Any]]:
    """A record a row with lm-eval's own metrics of it, and last one of what it made of them all.

    Raises UserError where lm-eval has no such task, or its rows cannot be had.
    """
    require_ready(task)
    lm = _batched(model, tokenizer, batch_tokens)
    manager = TaskManager(include_defaults=task.path is None)
    if task.path is None and task.name not in manager.all_tasks:
        near = difflib.get_close_matches(task.name, manager.all_tasks, n=1)
        raise UserError(
            f"lm-eval has no task '{task.name}'", f"did you mean {near[0]}?" if near else ""
        )
    asked = task.name if task.path is None else _local(task)
    try:
        with undisturbed(model), _quiet():
            results: Any = simple_evaluate(
                lm,
                tasks=[asked],
                num_fewshot=task.shots if task.path is None else None,
                limit=task.limit,
                bootstrap_iters=0,
                log_samples=True,
                task_manager=manager,
            )
    except (OSError, DatasetsError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"{task.name}: its rows cannot be had: {first}",
            f"give path: with local rows ({', '.join(LOCAL_TASKS)}), or go online",
        ) from None
    records = []
    for name, samples in sorted(results["samples"].items()):
        for sample in sorted(samples, key=lambda sample: (sample["doc_id"], sample["filter"])):
            truncated = any(argument[0] in lm.truncated for argument in sample["arguments"])
            metrics = {metric: _plain(sample[metric]) for metric in sample["metrics"]}
            row = {"task": name, "id": sample["doc_id"], "filter": sample["filter"]}
            records.append(row | {"truncated": truncated, "metrics": metrics})
    total = results["groups"] if "groups" in results else results["results"]
    return [*records, {"results": {name: _numbers(found) for name, found in total.items()}}]


def _plain(value: Any) -> Any:
    """A metric of a row as JSON has it: numbers, booleans, lists of them."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _numbers(results: Any) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in results.items()
        if isinstance(value, int | float) and "stderr" not in name
    }


def _local(task: LmEvalTask) -> dict[str, Any]:
    splits = {
        split: datasets.Dataset.from_list(_rows(task.name, Path(path)))
        for split, path in (("test", task.path), ("train", task.fewshot_path))
        if path is not None
    }
    config = local_config(task, splits)
    return config | _ifeval_functions() if task.name == "ifeval" else config


def _rows(name: str, path: Path) -> list[dict[str, Any]]:
    rows = read_rows(name, path)
    return [as_choices(name, r, preprocess) for r in rows] if name in CHOICE_TASKS else rows


def _ifeval_functions() -> dict[str, Any]:
    """How ifeval checks an instruction: Python of lm-eval with word lists of nltk."""
    with _quiet():
        rules = importlib.import_module("lm_eval.tasks.ifeval.utils")
    strict, loose = (
        [
            {"metric": f"prompt_level_{kind}_acc", "aggregation": "mean", "higher_is_better": True},
            {
                "metric": f"inst_level_{kind}_acc",
                "aggregation": rules.agg_inst_level_acc,
                "higher_is_better": True,
            },
        ]
        for kind in ("strict", "loose")
    )
    return {"process_results": rules.process_results, "metric_list": [*strict, *loose]}


def _batched(model: Any, tokenizer: Any, batch_tokens: int) -> BatchedHFLM:
    with undisturbed(model), _quiet():
        return BatchedHFLM(model, tokenizer, batch_tokens)


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
