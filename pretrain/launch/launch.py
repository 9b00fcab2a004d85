"""Start the ranks through the deepspeed launcher, pass signals on, and follow what they print."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from configs import STOP_SIGNALS, Train
from pretrain.job import JOB, SHOWN, Job
from pretrain.launch.launchers import WORKER, deepspeed_command, variables, visible_gpus
from pretrain.launch.machines import reached, signal_ranks
from pretrain.launch.verdict import require_success

_LOG_TAIL = 200
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_GPU_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
_SHOWN = re.compile(rf"(?:\S+: )?{re.escape(SHOWN)}(.*)")
"""pdsh puts the machine's name before every line."""


def run_ranks(job: Job, show: Callable[[str], None]) -> None:
    """Run a job that was written to its end; raises AlloyError where it failed, and Stopped where
    a stop was asked for meanwhile, were it at the very end.

    Everything that the launcher and the ranks print goes to train.log in the run folder; the
    lines meant for people are passed to ``show``.
    """
    command, machines = prepared(job)
    start = _Start(machines, (job.folder / JOB).resolve())
    previous = _pass_signals(start)
    try:
        start.launcher = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(os.environ, job.train),
            start_new_session=True,  # so that Ctrl-C reaches this process alone, which passes it on
            text=True,
            errors="replace",
        )
        start.pass_stop_on()
        tail = _follow(start, job.folder / "train.log", show)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    require_success(start.launcher.wait(), job, tail, stop=start.stop)


def prepared(job: Job) -> tuple[list[str], list[str]]:
    """The launcher's command, and the machines that it reaches over ssh. Raises UserError for a
    hostfile that does not fit."""
    told = (job.folder / JOB).resolve(), job.hash
    machines = reached(job.train)
    over = Path(job.train.hostfile) if job.train.hostfile and machines else None
    local = not machines and not _on_cpu(os.environ, job.train)
    gpus = visible_gpus(os.environ.get(_VISIBLE), job.train.ranks) if local else None
    return deepspeed_command(told, job.train.ranks, _free_port(), over, gpus), machines


def environment(inherited: Mapping[str, str], train: Train) -> dict[str, str]:
    """The ranks' environment: on the CPU, threads that share the cores out among the ranks."""
    on_cpu = _on_cpu(inherited, train)
    chosen = {**inherited, **variables(train, on_cpu)}
    chosen["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{chosen.get('PATH', '')}"
    if on_cpu:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        chosen.setdefault("OMP_NUM_THREADS", str(max(1, cores // train.ranks)))
    return chosen


def _on_cpu(inherited: Mapping[str, str], train: Train) -> bool:
    hidden = inherited.get(_VISIBLE, "0") in ("", "-1")
    return train.device == "cpu" or (train.device == "auto" and (hidden or not _has_gpu()))


def _has_gpu() -> bool:
    """NVIDIA's, also in a container or under Windows, or AMD's; without importing torch, which
    takes long."""
    return any(map(os.path.exists, _GPU_FILES))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class _Start:
    """A start of the ranks, as the signals of a stop find it."""

    machines: list[str]
    job: Path
    launcher: subprocess.Popen[str] | None = None
    met: bool = False
    """A rank has spoken: all of them are there, and know what a stop is."""
    stop: signal.Signals | None = None

    def pass_stop_on(self) -> None:
        """Send it to the ranks themselves: the launcher would orphan them. Until they have met
        there is nothing to save, and some might never hear it: the launcher is ended, with all
        that it started."""
        if self.stop is None or self.launcher is None:
            return
        if self.met:
            for process in _ranks_of(self.job):
                with suppress(psutil.NoSuchProcess):  # it ended meanwhile
                    process.send_signal(self.stop)
        else:
            with suppress(ProcessLookupError):
                os.killpg(self.launcher.pid, signal.SIGKILL)
        signal_ranks(self.machines, self.stop, self.job)


def _pass_signals(start: _Start) -> dict[int, signal.Handlers]:
    def forward(number: int, _frame: object) -> None:
        start.stop = signal.Signals(number)
        start.pass_stop_on()

    taken = [n for n in STOP_SIGNALS if signal.getsignal(n) != signal.SIG_IGN]  # as nohup leaves it
    return {n: signal.signal(n, forward) for n in taken}  # pyright: ignore[reportReturnType]


def _ranks_of(job: Path) -> list[psutil.Process]:
    """The ranks on this machine, of a launcher that is no more too."""
    processes = psutil.process_iter(["cmdline"])  # None where another user's may not be read
    return [p for p in processes if _is_rank(p.info["cmdline"] or [], job)]


def _is_rank(words: list[str], job: Path) -> bool:
    """Not the launcher, whose line has --module."""
    return ("-m", WORKER) in pairwise(words) and words[-2:] == ["--job", str(job)]


def _follow(start: _Start, log: Path, show: Callable[[str], None]) -> list[str]:
    """The last lines that the launcher and the ranks print, all of which are read: who prints to a
    pipe that nobody reads stands still. A log or a terminal that is gone ends no training."""
    assert start.launcher is not None
    assert start.launcher.stdout is not None
    tail: list[str] = []
    tell, keep = _until_it_fails(show), _until_it_fails(_appender(log))
    for line in start.launcher.stdout:
        lost = keep(line)
        if lost is not None:
            tell(f"warning: {log}: {lost.strerror}; what the ranks print is no longer kept there")
        if (said := _SHOWN.match(line)) is not None:
            start.met = True
            tell(said[1].rstrip())
        else:
            tail = [*tail[-_LOG_TAIL:], line.rstrip()]
    return tail


def _appender(path: Path) -> Callable[[str], None]:
    def append(line: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)

    return append


def _until_it_fails(write: Callable[[str], None]) -> Callable[[str], OSError | None]:
    """``write``, until it fails: then the error, once, and nothing is written any more."""
    failed = False

    def attempt(line: str) -> OSError | None:
        nonlocal failed
        if failed:
            return None
        try:
            write(line)
        except OSError as error:
            failed = True
            return error
        return None

    return attempt
