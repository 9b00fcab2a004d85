"""One model on everything that a recipe asks: records on disk and a summary."""

import hashlib
import importlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import CheckFailed, UserError
from configs.recipe import DomainTask, Evals
from evals.bpb import EvalDocument, score_documents
from evals.domain_f1 import domain_records
from evals.domain_items import DomainRow, load_rows
from evals.exam_records import SubjectScorer, item_records, score_exam
from evals.generate import answer_all
from evals.mmlu_items import Exam, load_exam
from evals.mmlu_prompts import CLOZE_TEMPLATE, LETTER_TEMPLATE
from evals.mmlu_scorer import native_scorer
from evals.model_state import compute_dtype, load_folder
from evals.records import (
    BPB,
    EXAM,
    EvalKey,
    cached,
    discard,
    domain_file,
    read_summary,
    task_hash,
    weights_hash,
    write_records,
    write_summary,
)
from evals.summarize import score_tables

Progress = Callable[[str], None]
_SEED = 0


def evaluate_model(
    model_folder: Path,
    evals: Evals,
    documents: Iterable[EvalDocument],
    out: Path,
    name: str,
    progress: Progress,
    *,
    seq_len: int | None = None,
    start_id: int | None = None,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Score the Hugging Face folder and write records and summary.json under ``out``.

    A finished evaluation of the same weights, items and scorer in ``out`` is returned as it is,
    under the name asked. ``seq_len`` and ``start_id`` are those of ``bpb.score_documents``. The
    model is loaded once: fp32 on the CPU, bf16 on a GPU. Raises UserError for input that cannot
    be scored, before the model is loaded.
    """
    exam = None if evals.mmlu is None else load_exam(evals.mmlu)
    domain = [(task, load_rows(task)) for task in evals.domain]
    _require_names([task.name for task, _ in domain])
    held_out = list(documents)
    _require_bytes(held_out)
    settings = _settings(exam, evals, seq_len, start_id)
    key = EvalKey(weights_hash(model_folder), _task_hash(exam, domain, held_out, settings))
    known = cached(out, key)
    if known is not None:
        progress(f"{name}: already evaluated")
        return known | {"name": name, "model": str(model_folder)}
    discard(out)
    model, tokenizer = load_folder(model_folder, trust_remote_code)
    seconds: dict[str, float] = {}
    records: dict[str, Any] = {"exam": None, "domain": {}, "bpb": []}
    if exam is not None:
        with _timed(seconds, "exam"):
            records["exam"] = _exam(_scorer(model, tokenizer, evals), exam, progress)
    for task, rows in domain:
        with _timed(seconds, f"domain_{task.name}"):
            records["domain"][task.name] = _domain(model, tokenizer, task, rows, evals, progress)
    with _timed(seconds, "bpb"):
        records["bpb"] = score_documents(
            model, held_out, evals.batch_tokens, progress, seq_len, start_id
        )
    _require_finite(records, model_folder)
    return _write(out, key, name, model_folder, settings, records, seconds)


def _scorer(model: Any, tokenizer: Any, evals: Evals) -> SubjectScorer:
    if evals.mmlu is not None and evals.mmlu.scorer == "lm_eval":
        # lm-eval and datasets are loaded only for who asks for them.
        oracle = importlib.import_module("evals.lm_eval_tasks")
        return oracle.lm_eval_scorer(model, tokenizer, evals.batch_tokens)
    return native_scorer(model, tokenizer, evals.batch_tokens)


def _exam(scorer: SubjectScorer, exam: Exam, progress: Progress) -> list[dict[str, Any]]:
    letters = score_exam(scorer, exam, "letter", progress)
    clozes = score_exam(scorer, exam, "cloze", progress)
    return item_records(exam, letters, clozes)


def _domain(
    model: Any,
    tokenizer: Any,
    task: DomainTask,
    rows: Sequence[DomainRow],
    evals: Evals,
    progress: Progress,
) -> list[dict[str, Any]]:
    def told(message: str) -> None:
        progress(f"{task.name}, {message}")

    prompts = [row.prompt for row in rows]
    answers = answer_all(model, tokenizer, prompts, task.max_new_tokens, evals.batch_tokens, told)
    triples = [(row.id, row.label, a.text) for row, a in zip(rows, answers, strict=True)]
    records = domain_records(triples, task.metric)
    for record, row, answer in zip(records, rows, answers, strict=True):
        record["prompt_hash"] = hashlib.sha256(row.prompt.encode()).hexdigest()[:16]
        record["truncated"] = answer.truncated
        record["finished"] = answer.finished
    return records


def _write(
    out: Path,
    key: EvalKey,
    name: str,
    model_folder: Path,
    settings: dict[str, Any],
    records: dict[str, Any],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Records first, the summary last: before it is there, there is no evaluation."""
    files = {BPB: records["bpb"]}
    files |= {domain_file(task): rows for task, rows in records["domain"].items()}
    if records["exam"] is not None:
        files[EXAM] = records["exam"]
    for file, rows in files.items():
        write_records(out / file, rows)
    summary = {
        "name": name,
        "model": str(model_folder),
        **asdict(key),
        "dtype": settings["dtype"],
        "settings": settings,
        **score_tables(records, settings),
        "seconds": seconds,
    }
    write_summary(out, summary, files)
    return read_summary(out)


def _settings(
    exam: Exam | None, evals: Evals, seq_len: int | None, start_id: int | None
) -> dict[str, Any]:
    """All that the numbers depend on besides the weights and the items."""
    return {
        "shots": None if exam is None else exam.shots,
        "scorer": None if evals.mmlu is None else evals.mmlu.scorer,
        "metrics": {task.name: task.metric for task in evals.domain},
        "max_new_tokens": {task.name: task.max_new_tokens for task in evals.domain},
        "seq_len": seq_len,
        "start_id": start_id,
        "dtype": str(compute_dtype()).removeprefix("torch."),
        "bootstrap": evals.bootstrap,
        "seed": _SEED,
    }


def _task_hash(
    exam: Exam | None,
    domain: Sequence[tuple[DomainTask, Sequence[DomainRow]]],
    documents: Sequence[EvalDocument],
    settings: dict[str, Any],
) -> str:
    subjects = [] if exam is None else [asdict(subject) for subject in exam.subjects]
    replayed = [] if exam is None else sorted((exam.replayed or {}).items())
    return task_hash(
        {
            "settings": settings,
            "templates": [LETTER_TEMPLATE, CLOZE_TEMPLATE],
            "subjects": subjects,
            "replayed": replayed,
            "domain": {task.name: [asdict(row) for row in rows] for task, rows in domain},
            "documents": [
                [d.source, d.role, d.split, d.id, d.text_bytes, _ids_hash(d.token_ids)]
                for d in documents
            ],
        }
    )


def _ids_hash(token_ids: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(token_ids, dtype="<i8").tobytes()).hexdigest()


def _require_names(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two domain tasks are called '{twice[0]}'", "rename one")


def _require_bytes(documents: Sequence[EvalDocument]) -> None:
    for source in sorted({document.source for document in documents}):
        if not sum(d.text_bytes for d in documents if d.source == source):
            raise UserError(f"{source}: no held-out text", "raise data.sources[].heldout")


def _require_finite(records: dict[str, Any], model_folder: Path) -> None:
    """A model that gives NaN has no score: argmax over NaN would make one up."""
    exam = records["exam"] or []
    values = [value for r in exam for value in (*r["logprobs"], *r["cloze_logprobs"])]
    values += [r["bits"] for r in records["bpb"]]
    bad = int((~np.isfinite(values)).sum()) if values else 0
    if bad:
        raise CheckFailed(
            f"{model_folder}: {bad} of {len(values)} log-probabilities are not finite",
            "the weights hold NaN or infinity; evaluate an earlier checkpoint",
        )


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[part] = round(time.monotonic() - start, 3)
