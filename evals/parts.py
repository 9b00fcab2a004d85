"""Keeps the finished parts of an evaluation, so that an interruption does not undo them.

    <out>/.parts-<hash of the key>/<part>.jsonl

A part is written whole or not at all, under the key that decides every number: another model,
other items or another scorer find none of it.
"""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

from evals.records import EvalKey, read_records, write_records

Records = list[dict[str, Any]]


class Parts:
    """The parts under ``key`` in ``out``; those of other keys are removed."""

    def __init__(self, out: Path, key: EvalKey) -> None:
        digest = hashlib.sha256(repr(astuple(key)).encode()).hexdigest()[:16]
        self.folder = out / f".parts-{digest}"
        self.reused = 0
        for other in out.glob(".parts-*"):
            if other != self.folder:
                shutil.rmtree(other)

    def of(self, name: str, compute: Callable[[], Records]) -> Records:
        """The records of a part: read where it was finished, else computed and kept."""
        path = self.folder / f"{name}.jsonl"
        if path.exists():
            self.reused += 1
        else:
            write_records(path, compute())
        return read_records(path)  # also what was just written: both ways give the same

    def remove(self) -> None:
        """The evaluation is finished: its records are elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)
