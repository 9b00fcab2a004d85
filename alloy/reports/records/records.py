"""What a sweep left on disk, read and checked: JSON in, frozen records out.

A file that is missing or damaged does not stop the report; it becomes a line of ``problems`` that
the report prints. Only ``sweep.json`` itself must be there and whole. A record file with one bad
line is not used at all: the scores of the other lines would look complete and be wrong.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from alloy.reports.records.inputs import (
    BpbRow,
    DomainRow,
    ExamRow,
    HeldoutRow,
    Lineage,
    MetricsRow,
    Receipt,
    Record,
    Summary,
    TaskRow,
)
from alloy.sweep_record import ArmEntry, BaseEntry, SweepRecord, read_sweep

DEFAULT_RESAMPLES = 2000


Shape = TypeVar("Shape", bound=Record)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The base or an arm, and what was found of its files; None or empty: not found."""

    spec: BaseEntry | ArmEntry
    summary: Summary
    """All None where there is none."""
    exam: tuple[ExamRow, ...]
    domain: dict[str, tuple[DomainRow, ...]]
    """Rows of each domain task, in the order of summary.json."""
    lm_eval: dict[str, tuple[TaskRow, ...]]
    bpb: tuple[BpbRow, ...]
    metrics: tuple[MetricsRow, ...]
    heldout: tuple[HeldoutRow, ...]
    """Measurements during training; empty where none were asked for."""
    receipt: Receipt | None
    lineage: Lineage | None
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Records:
    """All that a report is made from."""

    sweep: SweepRecord
    base: Entry
    arms: tuple[Entry, ...]

    @property
    def resamples(self) -> int:
        """Bootstrap resamples: as many as the evaluation of the base took."""
        asked = self.base.summary.settings.bootstrap
        return asked if asked is not None and asked > 0 else DEFAULT_RESAMPLES


def read_records(folder: Path) -> Records:
    """Read ``folder/sweep.json`` and what it points to.

    Raises UserError where sweep.json is missing or is not one.
    """
    sweep = read_sweep(folder)
    return Records(
        sweep=sweep,
        base=read_entry(folder, sweep.base),
        arms=tuple(read_entry(folder, arm) for arm in sweep.arms),
    )


def read_entry(folder: Path, spec: BaseEntry | ArmEntry) -> Entry:
    """Scores and run of one model; of an arm that failed, the run alone."""
    reader = _Reader(folder)
    failed = isinstance(spec, ArmEntry) and spec.failed is not None
    summary = None if failed else reader.tree(f"{spec.eval}/summary.json", Summary)
    summary = summary or Summary()
    reader.hashes = {f"{spec.eval}/{name}": digest for name, digest in summary.files.items()}
    run = spec.run
    return Entry(
        spec=spec,
        summary=summary,
        exam=reader.rows(f"{spec.eval}/exam.jsonl", ExamRow) if summary.exam else (),
        domain={t: reader.rows(f"{spec.eval}/domain_{t}.jsonl", DomainRow) for t in summary.domain},
        lm_eval={
            t: reader.rows(f"{spec.eval}/lm_eval_{t}.jsonl", TaskRow) for t in summary.lm_eval
        },
        bpb=reader.rows(f"{spec.eval}/bpb.jsonl", BpbRow) if summary.bpb else (),
        metrics=reader.rows(f"{run}/metrics.jsonl", MetricsRow) if run else (),
        heldout=reader.rows(f"{run}/heldout.jsonl", HeldoutRow, optional=True) if run else (),
        receipt=reader.tree(f"{run}/receipt.json", Receipt) if run else None,
        lineage=reader.tree(f"{run}/lineage.json", Lineage) if run else None,
        problems=tuple(reader.problems),
    )


class _Reader:
    """Reads files below a folder and keeps a line on each that could not be used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.hashes: dict[str, str] = {}
        """sha256 of files, by name, where it is known."""
        self.problems: list[str] = []

    def tree(self, name: str, shape: type[Shape]) -> Shape | None:
        """A JSON object, or None with a problem noted."""
        raw = self._bytes(name)
        if raw is None:
            return None
        try:
            return shape.model_validate_json(raw)
        except ValidationError as error:
            return self._refuse(f"{name}: {_first(error)}; the file is not used")

    def rows(self, name: str, shape: type[Shape], optional: bool = False) -> tuple[Shape, ...]:
        """The rows of a JSONL file, all or (with a problem noted) none. An ``optional`` one may be
        missing or empty."""
        path = self._folder / name
        if optional and not (path.is_file() and path.stat().st_size):
            return ()
        raw = self._bytes(name)
        if raw is None:
            return ()
        if name in self.hashes and hashlib.sha256(raw).hexdigest() != self.hashes[name]:
            self._refuse(f"{name} is not what the evaluation wrote; the file is not used")
            return ()
        found = []
        for number, line in enumerate(raw.split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                found.append(shape.model_validate_json(line))
            except ValidationError as error:
                self._refuse(f"{name}, line {number}: {_first(error)}; the file is not used")
                return ()
        if not found:
            self._refuse(f"{name} is empty")
        return tuple(found)

    def _bytes(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return self._refuse(f"{name} is missing")
        except (OSError, ValueError) as error:  # unreadable, a folder, or a NUL in the name
            return self._refuse(f"{name} cannot be read ({type(error).__name__})")

    def _refuse(self, problem: str) -> None:
        self.problems.append(problem)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
