"""Computes every number of a summary from the per-item records alone, without a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.domain import summarize_domain
from evals.exam import summarize_exam
from evals.records import BPB, EXAM, domain_file, lm_eval_file, read_records, read_summary
from evals.stats import FEWEST_DOCUMENTS, bootstrap_ratio
from evals.tasks import summarize_task


def recompute_summary(out: Path) -> dict[str, Any]:
    """The summary in ``out`` with exam, domain and bpb computed anew from the records.

    Identity, settings and times are taken over from summary.json. A difference between the two
    means that somebody edited one of them.
    """
    written = read_summary(out)
    scores = score_tables(read_all(out, written["settings"]), written["settings"])
    return {key: scores.get(key, value) for key, value in written.items()}


def read_all(out: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The records of an evaluation: exam (or None), domain and lm_eval by task, bpb."""
    return {
        "exam": None if settings["shots"] is None else read_records(out / EXAM),
        "domain": {task: read_records(out / domain_file(task)) for task in settings["metrics"]},
        "lm_eval": {task: read_records(out / lm_eval_file(task)) for task in settings["lm_eval"]},
        "bpb": read_records(out / BPB),
    }


def score_tables(records: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a summary. ``settings``: shots (None: no exam), metrics by task, bootstrap."""
    resamples, seed = settings["bootstrap"], settings["seed"]
    exam = records["exam"]
    return {
        "exam": None
        if exam is None
        else summarize_exam(exam, settings["shots"], settings["dtype"]),
        "domain": {
            task: summarize_domain(
                rows, settings["metrics"][task], resamples, seed, settings["fixed_precision"][task]
            )
            for task, rows in records["domain"].items()
        },
        "lm_eval": {
            task: summarize_task(rows, resamples, seed) for task, rows in records["lm_eval"].items()
        },
        "bpb": summarize_bpb(records["bpb"], resamples, seed),
    }


def summarize_bpb(
    records: Sequence[Mapping[str, Any]], resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Total bits over total bytes of each source, with a 95% bootstrap over its documents.

    The interval is null with fewer than FEWEST_DOCUMENTS documents.
    """
    sources: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        sources.setdefault(record["source"], []).append(record)
    return {name: _source(rows, resamples, seed) for name, rows in sorted(sources.items())}


def _source(rows: Sequence[Mapping[str, Any]], resamples: int, seed: int) -> dict[str, Any]:
    bits = np.array([row["bits"] for row in rows])
    sizes = np.array([row["bytes"] for row in rows])
    many = len(rows) >= FEWEST_DOCUMENTS
    return {
        "role": rows[0]["role"],
        "split": rows[0]["split"],
        "bpb": float(bits.sum() / sizes.sum()),
        "documents": len(rows),
        "bytes": int(sizes.sum()),
        "tokens": sum(row["tokens"] for row in rows),
        "interval": list(bootstrap_ratio(bits, sizes, resamples, seed)) if many else None,
    }
