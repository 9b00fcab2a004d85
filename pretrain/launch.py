"""Start the ranks through the deepspeed launcher, pass signals on, and say how it ended."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import psutil

from configs import AlloyError, CheckFailed
from pretrain.job import ERROR, SHOWN, STOPPED, Job, write_job

_WORKER = "pretrain.worker"
_LOG_TAIL = 200
_RANK_ERROR = re.compile(r"^\[rank\d+\]: [\w.]*(Error|Exception)\b")


def run_ranks(job: Job, show: Callable[[str], None]) -> None:
    """Run a job to its end; raises AlloyError where it failed or was stopped.

    Everything that the launcher and the ranks print goes to train.log in the run folder; the
    lines meant for people are passed to ``show``.
    """
    path = write_job(job)
    (job.folder / ERROR).unlink(missing_ok=True)
    child = subprocess.Popen(
        command(path, job.train.ranks),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(os.environ, job.train.ranks),
        start_new_session=True,  # so that Ctrl-C reaches this process alone, which passes it on
        text=True,
        errors="replace",
    )
    previous = _pass_signals(child)
    try:
        tail = _follow(child, job.folder / "train.log", show)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    _explain(child.wait(), job, tail)


def command(job_path: Path, ranks: int) -> list[str]:
    """The launcher's command line on one machine."""
    launcher = str(Path(sys.executable).with_name("deepspeed"))
    return [
        *(launcher, "--num_accelerators", str(ranks), "--master_port", str(_free_port())),
        *("--no_local_rank", "--module", _WORKER, "--job", str(job_path.resolve())),
    ]


def environment(inherited: Mapping[str, str], ranks: int) -> dict[str, str]:
    """The ranks' environment: on the CPU, threads that share the cores out among the ranks."""
    chosen = dict(inherited)
    chosen["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{chosen.get('PATH', '')}"
    if not _has_gpu():
        chosen["DS_ACCELERATOR"] = "cpu"
        chosen["TORCHDYNAMO_DISABLE"] = "1"  # saves DeepSpeed compiling an optimizer at import
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        chosen.setdefault("OMP_NUM_THREADS", str(max(1, cores // ranks)))
    return chosen


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/kfd").exists()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pass_signals(child: subprocess.Popen[str]) -> dict[int, signal.Handlers]:
    """Send SIGTERM and SIGINT to the ranks themselves: the launcher would orphan them."""

    def forward(number: int, _frame: object) -> None:
        for process in _ranks_of(child.pid):
            process.send_signal(number)

    return {n: signal.signal(n, forward) for n in (signal.SIGTERM, signal.SIGINT)}  # pyright: ignore


def _ranks_of(pid: int) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            words = process.cmdline()
        except psutil.Error:  # it ended meanwhile
            continue
        if any(pair == ("-m", _WORKER) for pair in pairwise(words)):
            found.append(process)
    return found


def _follow(child: subprocess.Popen[str], log: Path, show: Callable[[str], None]) -> list[str]:
    assert child.stdout is not None
    tail: list[str] = []
    with log.open("a", encoding="utf-8") as file:
        for line in child.stdout:
            file.write(line)
            file.flush()
            if line.startswith(SHOWN):
                show(line.removeprefix(SHOWN).rstrip())
            else:
                tail = [*tail[-_LOG_TAIL:], line.rstrip()]
    return tail


def _explain(code: int, job: Job, tail: list[str]) -> None:
    error = job.folder / ERROR
    if error.is_file():
        told = json.loads(error.read_text(encoding="utf-8"))
        kind = CheckFailed if told["exit_code"] == CheckFailed.exit_code else AlloyError
        raise kind(told["message"], told["hint"])
    if code == STOPPED:
        raise CheckFailed(f"{job.folder}: saved and stopped on a signal", "run it again to go on")
    if code != 0:
        raise CheckFailed(
            f"{job.folder}: the ranks ended with code {code}: {_last_error(tail)}",
            f"see {job.folder / 'train.log'}; running it again goes on from the last checkpoint",
        )


def _last_error(tail: list[str]) -> str:
    """The first error of a rank: the others only lost their connection to it."""
    telling = [line for line in tail if _RANK_ERROR.match(line)]
    return (telling or tail[-1:] or ["no output"])[0].strip()
