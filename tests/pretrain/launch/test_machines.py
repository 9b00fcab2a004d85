"""A hostfile of two machines: real sshd, ssh and pdsh; both names are this machine."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from one_rank import rows_of
from places import ALLOY
from tiny import long_recipe, write_recipe

from checkpoints.folder import steps
from pretrain.launch.machines import signal_line
from pretrain.run_folder import read_metrics

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
needs_ssh = pytest.mark.skipif(
    SSHD is None or shutil.which("pdsh") is None or os.geteuid() != 0,
    reason="needs sshd, pdsh and root",
)
LENGTH = 12
LONG = 4000


@pytest.fixture(scope="module")
def path_with_ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PATH whose ssh reaches ``alpha`` and ``beta`` by a server and keys made for it."""
    home = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", home / name], check=True)
    shutil.copy(home / "user.pub", home / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (home / "sshd.conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {home}/authorized\nStrictModes no\nPermitRootLogin yes\n"
    )
    (home / "ssh.conf").write_text(
        f"Host alpha beta\nHostName 127.0.0.1\nPort {port}\nUser {getpass.getuser()}\n"
        f"IdentityFile {home}/user\nStrictHostKeyChecking no\nUserKnownHostsFile {home}/known\n"
        "LogLevel ERROR\n"
    )
    (home / "bin").mkdir()
    wrapper = home / "bin/ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {home}/ssh.conf "$@"\n')
    wrapper.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    assert SSHD is not None
    server = subprocess.Popen([SSHD, "-D", "-f", str(home / "sshd.conf")])
    yield f"{home / 'bin'}:{os.environ['PATH']}"
    server.terminate()
    server.wait()


def recipe(tiny: Path, home: Path, name: str, length: int, **train: Any) -> Path:
    keys = {"zero": 2, "precision": "fp32", "micro_batch_rows": 2, **train}
    return write_recipe(home / f"{name}.yaml", long_recipe(tiny, home, name, length, keys))


@pytest.mark.slow
@needs_ssh
def test_two_machines_train_as_one(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any], path_with_ssh: str
) -> None:
    done = alloy("train", recipe(tiny, tmp_path, "one", LENGTH, ranks=2))
    assert done.returncode == 0, done.stderr
    (tmp_path / "hosts").write_text("alpha slots=1\nbeta slots=1\n")
    two = {"nodes": 2, "ranks": 1, "hostfile": str(tmp_path / "hosts")}
    path = recipe(tiny, tmp_path, "two", LENGTH, **two)
    done = alloy("train", path, env={"PATH": path_with_ssh})
    assert done.returncode == 0, done.stderr
    assert f"two: step {LENGTH}/{LENGTH}  loss" in done.stderr
    assert rows_of(tmp_path / "two", "loss") == rows_of(tmp_path / "one", "loss")


@pytest.mark.slow
@needs_ssh
def test_a_stop_reaches_ranks_on_other_machines(
    tiny: Path, tmp_path: Path, path_with_ssh: str
) -> None:
    """The command in a PID namespace of its own: no rank is one of the processes it can see."""
    (tmp_path / "hosts").write_text("alpha slots=1\nbeta slots=1\n")
    two = {"nodes": 2, "ranks": 1, "hostfile": str(tmp_path / "hosts")}
    path = recipe(tiny, tmp_path, "run", LONG, **two)
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", ALLOY, "train", str(path)],
        env={**os.environ, "PATH": path_with_ssh},
        stderr=subprocess.PIPE,
        text=True,
    )
    run = tmp_path / "run"
    while not read_metrics(run / "metrics.jsonl"):
        assert process.poll() is None, process.communicate()
    psutil.Process(process.pid).children()[0].send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 1, told
    assert "saved and stopped on a signal" in told
    reached = len(read_metrics(run / "metrics.jsonl"))
    assert 0 < reached < LONG
    assert steps(run / "checkpoints") == [reached]


def test_the_signal_meets_ranks_of_the_job_alone(tmp_path: Path) -> None:
    """Not the shell that sends it, not the launcher, not another job's ranks."""
    job, other = tmp_path / "a+b" / "job.json", tmp_path / "aab" / "job.json"
    lines = [
        ["-m", "pretrain.ranks.worker", "--hash", "0a1b", "--job", str(job)],
        ["-m", "deepspeed.launcher.launch", "--module", "pretrain.ranks.worker", "--job", str(job)],
        ["-m", "pretrain.ranks.worker", "--job", str(other)],
    ]
    sleep = "import time; time.sleep(600)"
    processes = [subprocess.Popen([sys.executable, "-c", sleep, *line]) for line in lines]
    try:
        told = ["sh", "-c", f"{signal_line(signal.SIGTERM, job)}; exit $?"]
        assert subprocess.run(told, check=False).returncode == 0
        assert processes[0].wait(timeout=60) == -signal.SIGTERM
        assert all(psutil.Process(p.pid).is_running() for p in processes[1:])
        assert [p.poll() for p in processes[1:]] == [None, None]
    finally:
        for process in processes:
            process.kill()
            process.wait()
