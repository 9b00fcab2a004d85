"""How a start of the ranks ended, from what they left: files, an exit code, the end of the log."""

import re
import signal
from collections.abc import Sequence

from checkpoints import last_good, read_json, steps
from configs import AlloyError, CheckFailed, Stopped, StoppedAtEnd
from pretrain.job import ERROR, JOB, STOPPED, Job, read_job, silent_ranks
from pretrain.run_folder import METRICS, complete, read_metrics

_RANK_ERROR = re.compile(r"^(?:\S+: )?\[rank\d+\]: [\w.]*(Error|Exception)\b")
_NCCL_GAVE_UP = re.compile(r"\[Rank (\d+)\] Watchdog caught collective operation timeout")


_AGAIN = "run it again to go on"
_SAVED = "saved and stopped on a signal"


def require_success(
    code: int, job: Job, tail: Sequence[str], *, stop: signal.Signals | None = None
) -> None:
    """Raises AlloyError unless the run is complete, and Stopped wherever a stop was asked for.

    ``code`` is the launcher's, ``tail`` the last lines of the log, ``stop`` the signal that was
    passed on to the ranks. What goes wrong during a stop is told, but is one all the same.
    """
    try:
        _require_complete(code, job, tail, stop_asked=stop is not None)
    except AlloyError as error:
        if stop is None:
            raise
        raise Stopped(error.message, error.hint, stop) from None
    if stop is not None:
        raise StoppedAtEnd(f"{job.folder}: trained to its end as a signal came", _AGAIN, stop)


def _require_complete(code: int, job: Job, tail: Sequence[str], *, stop_asked: bool) -> None:
    read_job(job.folder / JOB, job.hash)  # what another start left says nothing of this one
    error = job.folder / ERROR
    if error.is_file():
        told = read_json(error)
        kind = CheckFailed if told["exit_code"] == CheckFailed.exit_code else AlloyError
        raise kind(told["message"], told["hint"])
    # Not by the code: a launcher that is killed ends with 0, and its ranks may go on to the end.
    if _is_complete(job):
        return
    if code == STOPPED:  # also where the signal came to the ranks alone, as Slurm may send it
        raise Stopped(f"{job.folder}: {_SAVED}", _AGAIN, signal.SIGTERM)
    again = "running it again goes on from the last checkpoint"
    silent = silent_ranks(job.folder, _ranks(job)) or silent_under_nccl(tail, _ranks(job))
    if silent:
        raise CheckFailed(
            f"{job.folder}: rank {', '.join(map(str, silent))} hangs or is gone: the others waited "
            f"{job.train.timeout_minutes:g} minutes for it",
            f"look at that process's machine; {again}",
        )
    if stop_asked and not any(_RANK_ERROR.match(line) for line in tail):
        # A launcher that is signalled too ends with a code of its own, after its ranks.
        if _is_saved(job):
            raise CheckFailed(f"{job.folder}: {_SAVED}", _AGAIN)
        raise CheckFailed(f"{job.folder}: stopped on a signal, without a save", "run it again")
    raise CheckFailed(
        f"{job.folder}: the ranks ended with code {code}: {_last_error(tail)}",
        f"see {job.folder / 'train.log'}; {again}",
    )


def silent_under_nccl(tail: Sequence[str], ranks: int) -> list[int]:
    """The ranks that did not say that they waited in vain, where others did: NCCL's watchdog ends
    a process from another thread, so that the rank itself cannot leave word."""
    gave_up = {int(match[1]) for line in tail if (match := _NCCL_GAVE_UP.search(line))}
    return sorted(set(range(ranks)) - gave_up) if gave_up else []


def _ranks(job: Job) -> int:
    return job.train.ranks * job.train.nodes


def _is_complete(job: Job) -> bool:
    newest, _ = last_good(job.folder / "checkpoints", deep=False)
    return complete(job.folder, job.plan_hash, newest)


def _is_saved(job: Job) -> bool:
    """Whether the last step that was trained has a checkpoint."""
    rows, saved = read_metrics(job.folder / METRICS), steps(job.checkpoints)
    return bool(rows and saved) and saved[-1] >= rows[-1]["step"]


def _last_error(tail: Sequence[str]) -> str:
    """The first error of a rank: the others only lost their connection to it."""
    telling = [line for line in tail if _RANK_ERROR.match(line)]
    return (telling or tail[-1:] or ["no output"])[0].strip()
