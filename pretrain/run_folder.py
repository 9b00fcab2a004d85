"""What a run folder holds, and whether a recipe may go on in it.

recipe.json    the sections that decide the run, checked before anything is resumed
extensions.json  how its future was changed, where it was
plan.json      the plan of rows; job.json what the ranks are told
checkpoints/   verified checkpoints; metrics.jsonl one row a step; export/ the Hugging Face folder
lineage.json   where the weights come from; receipt.json asked and realised shares
.lock          held by rank 0 of the start that is training, and who that is; for a moment by a
               command that takes the folder
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from checkpoints import JOB, Checkpoint, read_json, steps
from configs import UserError

LINEAGE = "lineage.json"
RECIPE = "recipe.json"
METRICS = "metrics.jsonl"
_LOCK = ".lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_HELD = {errno.EACCES, errno.EAGAIN}


class AnotherStartError(UserError):
    """Another start has the run folder: what is in it is not this one's to write."""


def never_trained(run: Path) -> bool:
    """Whether no step was ever trained in a folder: no checkpoint, published, staged or damaged,
    and no row of metrics.jsonl."""
    metrics, checkpoints = run / METRICS, run / "checkpoints"
    rows = metrics.is_file() and metrics.stat().st_size > 0
    return not rows and not (checkpoints.is_dir() and any(checkpoints.iterdir()))


def traces(run: Path) -> tuple[Any, ...]:
    """What every start that takes a run folder, or trains in it, changes."""
    told = [path.read_bytes() if path.is_file() else None for path in (run / RECIPE, run / JOB)]
    return (*told, steps(run / "checkpoints"), never_trained(run))


def complete(run: Path, plan_hash: str, reached: Checkpoint | None) -> bool:
    """Whether a run was trained to the end of this plan, and that end exported; ``reached`` is its
    newest good checkpoint."""
    if reached is None or not (run / LINEAGE).is_file():
        return False
    # A longer run has the lineage of its former end until it is exported again.
    exported = read_json(run / LINEAGE)["plan_hash"]
    return reached.state["complete"] and reached.state["plan_hash"] == exported == plan_hash


@contextmanager
def held(run: Path, patience_s: float) -> Iterator[str | None]:
    """Hold a run folder against a second start, which would write the same files.

    The lock ends with this process, however it ends. Yields why there is none where the file
    system knows no locks. Raises AnotherStartError where another process still holds it
    after ``patience_s`` seconds: the ranks of a start that was killed need a moment to notice.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / _LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{run}: {error.strerror}", "choose another run_dir or name") from None
    with file:
        reason = _locked(file, run, time.monotonic() + patience_s)
        if reason is None:
            with suppress(OSError):  # a full disk, which is told where it matters
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield reason


def _locked(file: TextIO, run: Path, until: float) -> str | None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return f"no lock on {run}: {error.strerror}; see to it that it is started once"
            if error.errno not in _HELD:
                raise
            if time.monotonic() > until:
                file.seek(0)
                raise AnotherStartError(
                    f"{run} is being trained by {file.read()}",
                    "wait for its end, or send that process SIGTERM: it saves and stops",
                ) from None
            time.sleep(0.2)
        else:
            return None


def differing_keys(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two trees of dicts."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else [prefix]
    found = []
    for key in sorted(set(old) | set(new)):
        dotted = f"{prefix}.{key}" if prefix else key
        found += differing_keys(old.get(key), new.get(key), dotted)
    return found


class Metrics:
    """metrics.jsonl of a run: one row a step; a resumed run drops what it will do again."""

    def __init__(self, path: Path, first_step: int) -> None:
        kept = [row for row in read_metrics(path) if row["step"] <= first_step]
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        temporary.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Whole rows of metrics.jsonl; a row that a kill or a crash spoiled is not one."""
    rows = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        with suppress(ValueError):  # characters that are no UTF-8, too
            rows.append(json.loads(line))
    return rows
