"""Hashes that name an evaluation, its records on disk, and when it may be used again.

An evaluation is the folder of its records with summary.json, which is written last and holds the
sizes and hashes of the record files: without it, or where one differs, there is no evaluation.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs import UserError

SCORER_VERSION = 2
"""Raised whenever the same model on the same items may get another number."""
SUMMARY = "summary.json"
EXAM = "exam.jsonl"
BPB = "bpb.jsonl"
_CONFIG_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


@dataclass(frozen=True)
class EvalKey:
    """What decides every number of an evaluation; a path does not."""

    weights_hash: str
    task_hash: str
    scorer_version: int = SCORER_VERSION


def domain_file(task: str) -> str:
    """Name of a domain task's record file."""
    return f"domain_{task}.jsonl"


def lm_eval_file(task: str) -> str:
    """Name of the record file of a task of lm-eval."""
    return f"lm_eval_{task}.jsonl"


def weights_hash(folder: Path) -> str:
    """sha256 over the weights, the config and the tokenizer of a Hugging Face folder.

    Names and contents count, the folder's place does not. Raises UserError where no safetensors
    are there.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(f"{folder}: no *.safetensors", "give a folder in Hugging Face's format")
    files = [*weights, *(folder / name for name in _CONFIG_FILES if (folder / name).exists())]
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.name} {file_hash(path)}\n".encode())
    return total.hexdigest()


def task_hash(tree: Any) -> str:
    """sha256 of a JSON tree that holds all items, templates and settings of an evaluation."""
    text = json.dumps(tree, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines under a temporary name, synced, then renamed: a reader sees all or nothing."""
    _write_atomically(path, "".join(json.dumps(r, allow_nan=False) + "\n" for r in records))


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of one file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_summary(out: Path, summary: Mapping[str, Any], record_files: Iterable[str]) -> None:
    """The last file of an evaluation: its numbers, and the hashes of its record files."""
    files = {name: file_hash(out / name) for name in sorted(record_files)}
    text = json.dumps({**summary, "files": files}, indent=1, allow_nan=False)
    _write_atomically(out / SUMMARY, text + "\n")


def read_summary(out: Path) -> dict[str, Any]:
    """The summary of a finished evaluation. Raises UserError where there is none."""
    path = out / SUMMARY
    if not path.exists():
        raise UserError(f"{out}: no finished evaluation", "run `alloy eval` for this model")
    return json.loads(path.read_text(encoding="utf-8"))


def cached(out: Path, key: EvalKey) -> dict[str, Any] | None:
    """The summary in ``out`` where it answers ``key`` and all its records are as written."""
    path = out / SUMMARY
    if not path.exists():
        return None
    summary = read_summary(out)
    if any(summary.get(name) != value for name, value in asdict(key).items()):
        return None
    for name, digest in summary["files"].items():
        if not (out / name).exists() or file_hash(out / name) != digest:
            return None
    return summary


def discard(out: Path) -> None:
    """Remove the summary, so that records written from here on are not taken for the old ones."""
    (out / SUMMARY).unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """sha256 of a file. Raises UserError where there is none."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "correct the path") from None


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
