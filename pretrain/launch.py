"""Start the ranks through the deepspeed launcher, pass signals on, and say how it ended."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import psutil

from configs import AlloyError, CheckFailed, Train, UserError
from pretrain.job import ERROR, GAVE_UP, SHOWN, STOPPED, Job, write_job
from pretrain.launchers import WORKER, deepspeed_command, hosts, require_shape

_LOG_TAIL = 200
_RANK_ERROR = re.compile(r"^\[rank\d+\]: [\w.]*(Error|Exception)\b")


def run_ranks(job: Job, show: Callable[[str], None]) -> None:
    """Run a job to its end; raises AlloyError where it failed or was stopped.

    Everything that the launcher and the ranks print goes to train.log in the run folder; the
    lines meant for people are passed to ``show``.
    """
    hostfile = None if job.train.hostfile is None else Path(job.train.hostfile)
    child = subprocess.Popen(
        prepared(job, hostfile),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(os.environ, job.train),
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


def prepared(job: Job, hostfile: Path | None) -> list[str]:
    """Write what the ranks are told; the launcher's command. Raises UserError for a hostfile that
    does not fit the recipe or names a machine that cannot be reached."""
    path = write_job(job).resolve()
    (job.folder / ERROR).unlink(missing_ok=True)
    shutil.rmtree(job.folder / GAVE_UP, ignore_errors=True)
    if hostfile is not None:
        hostfile = _reached(hostfile, job.train)
    elif job.train.nodes > 1:
        raise UserError(
            f"train.nodes {job.train.nodes}, and no hostfile names the machines",
            "set train.hostfile, or see --launcher torchrun --dry-run and --launcher slurm",
        )
    return deepspeed_command(path, job.train.ranks, _free_port(), hostfile)


def _reached(path: Path, train: Train) -> Path | None:
    """The hostfile, all of whose machines answer; None where it names this machine alone, for
    which the launcher would want ssh too."""
    try:
        found = hosts(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise UserError(f"hostfile {path}: {error.strerror}", "check train.hostfile") from None
    require_shape(found, train, path)
    if [host.name for host in found] in (["localhost"], [socket.gethostname()]):
        return None
    for host in found:
        reason = _unreachable(host.name)
        if reason is not None:
            raise UserError(
                f"{path}: host {host.name} cannot be reached: {reason}",
                f"`ssh {host.name} true` must work without a password from here",
            )
    return path


def _unreachable(name: str) -> str | None:
    try:
        done = subprocess.run(
            ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", name, "true"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "there is no ssh on this machine"
    told = done.stderr.strip().splitlines() or [f"ssh ended with code {done.returncode}"]
    return None if done.returncode == 0 else told[-1]


def variables(train: Train) -> dict[str, str]:
    """What the ranks' environment must hold besides what is inherited."""
    chosen = {"PYTHONSAFEPATH": "1"}
    if not _has_gpu():
        chosen["DS_ACCELERATOR"] = "cpu"
        if not train.compile:  # saves DeepSpeed compiling an optimizer at import
            chosen["TORCHDYNAMO_DISABLE"] = "1"
    return chosen


def environment(inherited: Mapping[str, str], train: Train) -> dict[str, str]:
    """The ranks' environment: on the CPU, threads that share the cores out among the ranks."""
    chosen = {**inherited, **variables(train)}
    chosen["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{chosen.get('PATH', '')}"
    if not _has_gpu():
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        chosen.setdefault("OMP_NUM_THREADS", str(max(1, cores // train.ranks)))
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
        if any(pair == ("-m", WORKER) for pair in pairwise(words)):
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
    silent = silent_ranks(job)
    if code != 0 and silent:
        raise CheckFailed(
            f"{job.folder}: rank {', '.join(map(str, silent))} hangs or is gone: the others waited "
            f"{job.train.timeout_minutes:g} minutes for it",
            "look at that process's machine; running it again goes on from the last checkpoint",
        )
    if code != 0:
        raise CheckFailed(
            f"{job.folder}: the ranks ended with code {code}: {_last_error(tail)}",
            f"see {job.folder / 'train.log'}; running it again goes on from the last checkpoint",
        )


def silent_ranks(job: Job) -> list[int]:
    """The ranks that left no word, where others did because they waited in vain."""
    files = list((job.folder / GAVE_UP).glob("rank_*.json"))
    words = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    if not any("timed out" in word["reason"].lower() for word in words):
        return []
    return sorted(set(range(job.train.ranks * job.train.nodes)) - {word["rank"] for word in words})


def _last_error(tail: list[str]) -> str:
    """The first error of a rank: the others only lost their connection to it."""
    telling = [line for line in tail if _RANK_ERROR.match(line)]
    return (telling or tail[-1:] or ["no output"])[0].strip()
