"""Measures one model on everything that a recipe asks: records on disk and a summary."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from configs import DomainTask, Evals, LmEvalTask, MmluTask, UserError
from evals import tasks
from evals.domain import DomainRow, load_labels, load_rows, run_domain
from evals.exam import (
    CLOZE_TEMPLATE,
    LETTER_TEMPLATE,
    Exam,
    SubjectScorer,
    beside_published,
    load_exam,
    native_scorer,
    run_exam,
)
from evals.parts import Parts
from evals.records import (
    BPB,
    EXAM,
    EvalKey,
    cached,
    discard,
    domain_file,
    file_hash,
    lm_eval_file,
    read_summary,
    task_hash,
    weights_hash,
    write_records,
    write_summary,
)
from evals.scoring import (
    EvalDocument,
    Loader,
    compute_dtype,
    load_folder,
    require_finite,
    score_documents,
)
from evals.summarize import score_tables

Progress = Callable[[str], None]
Tree = dict[str, Any]
_SEED = 0


def evaluate_model(
    model_folder: Path,
    evals: Evals,
    documents: Iterable[EvalDocument],
    out: Path,
    name: str,
    progress: Progress,
    load: Loader,
    *,
    seq_len: int | None = None,
    start_id: int | None = None,
    decontaminated: Mapping[str, Mapping[str, Any] | None] | None = None,
    published: Sequence[Mapping[str, Any]] = (),
    caveats: Sequence[str] = (),
) -> dict[str, Any]:
    """Score the Hugging Face folder and write records and summary.json under ``out``.

    A finished evaluation of the same weights, items and scorer in ``out`` is returned as it is,
    under the name asked; one that was interrupted goes on after its last finished subject or
    task. ``seq_len`` and ``start_id`` are those of ``bpb.score_documents``. ``decontaminated``
    has, for each eval that was kept out of the training corpus, the record of it; it and
    ``caveats`` go into the summary, and ``published`` scores (see ``beside_published``) beside the
    measured ones. The model is loaded once, by ``load``: fp32 on the CPU, bf16 on a GPU.
    Raises UserError for input that cannot be scored, before the model is loaded.
    """
    asked = _asked(evals, documents)
    settings = _settings(asked.exam, evals, seq_len, start_id)
    key = EvalKey(weights_hash(model_folder), _task_hash(asked, evals, settings))
    measured = (*evals.names, *(task.name for task in evals.lm_eval))
    clean = {task: (decontaminated or {}).get(task) for task in measured}
    scored = [line for task in evals.lm_eval for line in tasks.letters_caveat(task)]
    context: Tree = {"decontaminated": clean, "caveats": [*caveats, *scored, *_unclean(clean)]}
    context["exam_origin"] = None if asked.exam is None else dict(asked.exam.origin)
    known = cached(out, key)
    if known is not None:
        progress(f"{name}: already evaluated")
        context["published"] = beside_published(known["exam"], published)
        if known != known | context:
            write_summary(out, known | context, known["files"])
        return known | context | {"name": name, "model": str(model_folder)}
    discard(out)
    parts, seconds = Parts(out, key), dict[str, float]()
    model, tokenizer = load_folder(model_folder, load)
    records = _measure(model, tokenizer, evals, asked, settings, parts, seconds, progress)
    summary: Tree = {"name": name, "model": str(model_folder)} | context | asdict(key)
    summary |= {"dtype": settings["dtype"], "settings": settings}
    summary |= score_tables(records, settings)
    summary["published"] = beside_published(summary["exam"], published)
    summary |= {"seconds": seconds, "parts_reused": parts.reused}
    _write(out, summary, records)
    parts.remove()
    return read_summary(out)


@dataclass(frozen=True)
class _Asked:
    """Everything that is asked of a model."""

    exam: Exam | None
    domain: list[tuple[DomainTask, list[DomainRow]]]
    documents: list[EvalDocument]


def _asked(evals: Evals, documents: Iterable[EvalDocument]) -> _Asked:
    exam = None if evals.mmlu is None else load_exam(evals.mmlu)
    asked = _Asked(exam, [(task, load_rows(task)) for task in evals.domain], list(documents))
    _require_names([task.name for task in evals.domain], "domain")
    _require_names([task.name for task in evals.lm_eval], "lm-eval")
    _require_bytes(asked.documents)
    for task in evals.lm_eval:
        tasks.require_ready(task)
    return asked


def _measure(
    model: Any,
    tokenizer: Any,
    evals: Evals,
    asked: _Asked,
    settings: Tree,
    parts: Parts,
    seconds: dict[str, float],
    progress: Progress,
) -> Tree:
    """The records of all parts; ``seconds`` receives how long each took."""
    batch_tokens = evals.batch_tokens
    records: Tree = {"exam": None, "domain": {}, "lm_eval": {}, "bpb": []}
    if asked.exam is not None and evals.mmlu is not None:
        with _timed(seconds, "exam"):
            scorer = _exam_scorer(evals.mmlu)(model, tokenizer, batch_tokens)
            records["exam"] = run_exam(
                model, tokenizer, asked.exam, evals.mmlu, scorer, batch_tokens, parts, progress
            )
    for task, rows in asked.domain:
        run = partial(run_domain, model, tokenizer, task, rows, batch_tokens, progress)
        with _timed(seconds, f"domain_{task.name}"):
            records["domain"][task.name] = parts.of(f"domain-{task.name}", run)
    for task in evals.lm_eval:
        run = partial(tasks.run_task, model, tokenizer, task, batch_tokens)
        with _timed(seconds, f"lm_eval_{task.name}"):
            records["lm_eval"][task.name] = parts.of(f"lm-eval-{task.name}", run)
        progress(f"lm-eval: {task.name}")
    with _timed(seconds, "bpb"):
        records["bpb"] = score_documents(
            model,
            asked.documents,
            batch_tokens,
            progress,
            settings["seq_len"],
            settings["start_id"],
        )
    require_finite(row["bits"] for row in records["bpb"])
    return records


def _exam_scorer(task: MmluTask) -> Callable[[Any, Any, int], SubjectScorer]:
    # Through the door at the moment of use: lm-eval is loaded only for who asks for it.
    return tasks.lm_eval_scorer if task.scorer == "lm_eval" else native_scorer


def _unclean(decontaminated: Mapping[str, Any]) -> list[str]:
    """What may have been seen in training, for all that is known."""
    return [
        f"{task}: no record that its items were kept out of the training text"
        for task, record in decontaminated.items()
        if record is None
    ]


def _write(out: Path, summary: Tree, records: Tree) -> None:
    """Records first, the summary last: before it is there, there is no evaluation."""
    files = {BPB: records["bpb"]}
    files |= {domain_file(task): rows for task, rows in records["domain"].items()}
    files |= {lm_eval_file(task): rows for task, rows in records["lm_eval"].items()}
    if records["exam"] is not None:
        files[EXAM] = records["exam"]
    for file, rows in files.items():
        write_records(out / file, rows)
    write_summary(out, summary, files)


def _settings(
    exam: Exam | None, evals: Evals, seq_len: int | None, start_id: int | None
) -> dict[str, Any]:
    """All that the numbers depend on besides the weights and the items."""
    return {
        "shots": None if exam is None else exam.shots,
        "scorer": None if evals.mmlu is None else evals.mmlu.scorer,
        "generative": evals.mmlu is not None and evals.mmlu.generative,
        "metrics": {task.name: task.metric for task in evals.domain},
        "max_new_tokens": {task.name: task.max_new_tokens for task in evals.domain},
        "stops": {task.name: task.stop for task in evals.domain},
        "likelihood": {task.name: task.likelihood for task in evals.domain},
        "fixed_precision": {task.name: task.fixed_precision for task in evals.domain},
        "lm_eval": {
            task.name: task.model_dump(include={"shots", "limit"}) for task in evals.lm_eval
        },
        "lm_eval_version": version("lm_eval") if _asks_lm_eval(evals) else None,
        "seq_len": seq_len,
        "start_id": start_id,
        "dtype": str(compute_dtype()).removeprefix("torch."),
        "bootstrap": evals.bootstrap,
        "seed": _SEED,
    }


def _asks_lm_eval(evals: Evals) -> bool:
    return bool(evals.lm_eval) or (evals.mmlu is not None and evals.mmlu.scorer == "lm_eval")


def _task_hash(asked: _Asked, evals: Evals, settings: Tree) -> str:
    exam, domain = asked.exam, asked.domain
    return task_hash(
        {
            "settings": settings,
            "templates": [LETTER_TEMPLATE, CLOZE_TEMPLATE],
            "subjects": [] if exam is None else [asdict(subject) for subject in exam.subjects],
            "replayed": [] if exam is None else sorted((exam.replayed or {}).items()),
            "domain": {task.name: [asdict(row) for row in rows] for task, rows in domain},
            "lm_eval": [_rows_hash(task) for task in evals.lm_eval],
            "labels": {task.name: load_labels(task, rows) for task, rows in domain},
            "documents": [
                [d.source, d.role, d.split, d.id, d.text_bytes, _ids_hash(d.token_ids)]
                for d in asked.documents
            ],
        }
    )


def _rows_hash(task: LmEvalTask) -> list[str | None]:
    """Contents of a task's own files, not their paths; rows of the hub are not hashed."""
    paths = (task.path, task.fewshot_path)
    return [None if path is None else file_hash(Path(path)) for path in paths]


def _ids_hash(token_ids: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(token_ids, dtype="<i8").tobytes()).hexdigest()


def _require_names(names: Sequence[str], kind: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two {kind} tasks are called '{twice[0]}'", "rename or remove one")


def _require_bytes(documents: Sequence[EvalDocument]) -> None:
    for source in sorted({document.source for document in documents}):
        if not sum(d.text_bytes for d in documents if d.source == source):
            raise UserError(f"{source}: no held-out text", "raise data.sources[].heldout")


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[part] = round(time.monotonic() - start, 3)
