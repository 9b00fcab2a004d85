"""What the ranks are told: the sections that they need, and where things are."""

import datetime
import hashlib
import json
import socket
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from checkpoints import JOB, read_json, write_json
from configs import Base, Budget, Data, Evals, Schedule, Train, UserError
from pretrain.run_folder import AnotherStartError

ERROR = "error.json"
"""Where a rank leaves a user's mistake for the command line to print."""
_GAVE_UP = "gave_up"
"""Folder where ranks that could not go on leave word."""
SHOWN = "alloy| "
"""Prefix of the ranks' lines that are meant for people; the rest goes to train.log only."""
STOPPED = 75
"""Exit code of ranks that saved and stopped on a signal (EX_TEMPFAIL: try again)."""


class Job(BaseModel):
    """A training run as its ranks see it; written by the command line into the run folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    """The run folder."""
    base: Base
    data: Data
    schedule: Schedule
    train: Train
    evals: Evals = Evals()
    budget: Budget = Budget()
    keys: dict[str, str]
    """Content addresses of the built sources, by source name."""
    eval_hashes: dict[str, str]
    """Content hashes of the evals whose items are kept out of the corpus, by name."""
    cursors: dict[str, Any] | None = None
    """How far the parent read its sources, where the run carries that on."""
    plan_hash: str
    """Of the plan of rows beside it."""
    keep_steps: tuple[int, ...] = ()
    """Steps at which other runs go on from this one: a checkpoint of each is saved and kept."""
    tokenizer: str
    """Where the tokenizer is loaded from."""
    lineage: dict[str, Any]
    """What is known of the start beforehand; stored in every checkpoint."""

    @property
    def folder(self) -> Path:
        return Path(self.run)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def hash(self) -> str:
        """The same before job.json is written and after it is read."""
        told = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def patience(self) -> datetime.timedelta:
        """How long ranks wait for each other."""
        return datetime.timedelta(minutes=self.train.timeout_minutes)


def gave_up(run: Path, rank: int, reason: str) -> None:
    """A rank's word that it could not go on, by which is seen who gave none."""
    (run / _GAVE_UP).mkdir(exist_ok=True)
    write_json(_word(run, rank), {"rank": rank, "reason": reason})


def take_back_word(run: Path, rank: int) -> None:
    """A rank begins: what it said in an earlier start no longer holds."""
    _word(run, rank).unlink(missing_ok=True)


def forget_words(run: Path) -> None:
    """Before any rank begins: some may never come to take theirs back."""
    for path in (run / _GAVE_UP).glob("rank_*.json"):
        path.unlink()


def silent_ranks(run: Path, ranks: int) -> list[int]:
    """Those of ``ranks`` that left no word, where others did because they waited in vain; words of
    ranks that are not among them are of an earlier start with more."""
    files = [path for rank in range(ranks) if (path := _word(run, rank)).is_file()]
    words = [read_json(path) for path in files]
    if not any("timed out" in word["reason"].lower() for word in words):
        return []
    return sorted(set(range(ranks)) - {word["rank"] for word in words})


def _word(run: Path, rank: int) -> Path:
    return run / _GAVE_UP / f"rank_{rank}.json"


def write_job(job: Job) -> Path:
    """For ranks that have said nothing yet; only for who holds the run folder."""
    path = job.folder / JOB
    write_json(path, job.model_dump(mode="json"))
    (job.folder / ERROR).unlink(missing_ok=True)
    forget_words(job.folder)
    return path


def read_job(path: Path, expected: str | None = None) -> Job:
    """Raises UserError where it is not there, on a machine that does not share the run folder, and
    AnotherStartError where it is not the one whose hash is ``expected``."""
    try:
        job = Job.model_validate(read_json(path))
    except FileNotFoundError:
        raise UserError(
            f"{path} is not on {socket.gethostname()}",
            "set run_dir to a folder of a file system that all machines share",
        ) from None
    if expected not in (None, job.hash):
        raise AnotherStartError(
            f"{path.parent}: another start, with other settings, has taken it over",
            "wait for that one's end, or give this run another name",
        )
    return job
