"""Entry point of one rank; started by the launcher as ``-m pretrain.ranks.worker --job FILE``."""

import argparse
import errno
import os
import signal
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist
from transformers.utils import logging as transformers_logging

import checkpoints
from configs import SAME_STOP_S, STOP_SIGNALS, AlloyError, CheckFailed, exit_code_of
from pretrain.engine import join_ranks
from pretrain.job import (
    ERROR,
    STOPPED,
    Job,
    gave_up,
    read_job,
    silent_ranks,
    take_back_word,
)
from pretrain.ranks.assembly import run_job
from pretrain.ranks.one_folder import require_one_folder
from pretrain.run_folder import AnotherStartError, held
from pretrain.training import disk_full, say_once

_LAST_WORDS_S = 5.0
_LOCK_PATIENCE_S = 10.0
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


class StopFlag:
    """Set by STOP_SIGNALS; a second one later than SAME_STOP_S ends the process at once."""

    def __init__(self) -> None:
        self._since: float | None = None
        for number in STOP_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves SIGHUP
                signal.signal(number, self._handle)

    def __call__(self) -> bool:
        return self._since is not None

    def _handle(self, number: int, _frame: object) -> None:
        now = time.monotonic()
        if self._since is not None and now - self._since > SAME_STOP_S:
            os._exit(exit_code_of(number))
        self._since = self._since or now


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hash")
    parser.add_argument("--job", type=Path, required=True)
    told = parser.parse_args()
    job = _job(told.job, told.hash)
    stop = StopFlag()
    rank = int(os.environ["RANK"])
    take_back_word(job.folder, rank)
    transformers_logging.disable_progress_bar()
    try:
        join_ranks(job.patience)
        with held(job.folder, _LOCK_PATIENCE_S) if rank == 0 else nullcontext() as unlocked:
            if unlocked is not None:
                say_once(f"warning: {unlocked}")
            # By which no rank goes on in a folder that rank 0 does not hold.
            require_one_folder(job.folder)
            # Until then another start may have taken it; from now on nobody else writes there.
            job = read_job(told.job, told.hash)
            # Under NCCL the others could not leave the group before rank 0 does.
            complete = run_job(job, stop, dist.destroy_process_group)
    except AlloyError as error:
        _leave(job, error)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _leave(job, disk_full(str(error), job.checkpoints))
    except torch.OutOfMemoryError as error:
        _leave(job, _out_of_memory(rank, error))
    except RuntimeError as error:
        # Of torch.distributed among others: who gave up says so, who hangs cannot.
        with suppress(OSError):  # the disk may be full, which is why another rank left
            gave_up(job.folder, rank, str(error))
        time.sleep(_LAST_WORDS_S)  # the first to end takes the others along
        for silent in silent_ranks(job.folder, int(os.environ["WORLD_SIZE"])):
            print(f"[rank{rank}]: rank {silent} hangs or is gone")
        raise
    # Everything is written. The interpreter's end would run C++ destructors that now and then
    # find a communication thread still alive and abort a run that is complete.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if complete else STOPPED)


def _out_of_memory(rank: int, error: torch.OutOfMemoryError) -> CheckFailed:
    return CheckFailed(
        f"rank {rank}: {str(error).splitlines()[0]}",
        "set train.cross_entropy: chunked, a smaller train.micro_batch_rows or "
        "train.activation_checkpointing: true, and run it again",
    )


def _job(path: Path, expected: str | None) -> Job:
    try:
        return read_job(path, expected)
    except AlloyError as error:
        _leave(None, error)


def _leave(job: Job | None, error: AlloyError) -> NoReturn:
    """Left for the command line, which prints it once; in the log for who started ranks without."""
    told = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    print(f"[rank{os.environ['RANK']}]: AlloyError: {error.message}; hint: {error.hint}")
    sys.stdout.flush()
    if job is not None and not isinstance(error, AnotherStartError):  # another start's folder
        # The disk may be full, and other ranks may write the same.
        with suppress(OSError):
            checkpoints.write_json(job.folder / ERROR, told)
    os._exit(error.exit_code)


if __name__ == "__main__":
    main()
