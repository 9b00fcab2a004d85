"""The written batch script under a real Slurm of two nodes, both of them this machine."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from one_rank import rows_of
from tiny import long_recipe, write_recipe

from checkpoints.folder import chosen, steps
from pretrain.run_folder import read_metrics

NODES = {"127.0.0.1": 17001, "127.0.0.2": 17002}
"""Names, which the ranks must resolve and which are not this host's own, and ports."""
LENGTH = 12
LONG = 3000
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))) or os.geteuid() != 0,
        reason="needs slurm-wlm, munge and root",
    ),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a cluster whose two nodes wait for jobs."""
    home = tmp_path_factory.mktemp("slurm")
    munge = munged(home)
    host = socket.gethostname()
    text = f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17000
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
JobCompType=jobcomp/none
SlurmUser=root
ReturnToService=2
KillWait=5
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool.%n
SlurmctldPidFile={home}/ctld.pid
SlurmdPidFile={home}/%n.pid
SlurmctldLogFile={home}/ctld.log
SlurmdLogFile={home}/%n.log
PartitionName=p Nodes={",".join(NODES)} Default=YES State=UP
"""
    for name, port in NODES.items():
        node = f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        text += f"{node} CPUs=1 RealMemory=4000\n"
    (home / "slurm.conf").write_text(text)
    environment = {**os.environ, "SLURM_CONF": str(home / "slurm.conf"), "OMP_NUM_THREADS": "1"}
    daemons = [["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in NODES)]
    running = [subprocess.Popen(words, env=environment) for words in daemons]
    try:
        wait_for(lambda: told(environment, "sinfo", "-hN", "-o", "%T") == "idle\nidle", 60)
        yield environment
    finally:
        for process in (*reversed(running), munge):
            process.terminate()
            process.wait()


def munged(home: Path) -> subprocess.Popen[bytes]:
    (home / "key").write_bytes(os.urandom(128))
    (home / "key").chmod(0o400)
    here = [f"--{name}={home}/munge.{name}" for name in ("socket", "pid-file", "log-file")]
    here += [f"--seed-file={home}/seed", f"--key-file={home}/key"]
    # --force: the folders above a test's folder may be written by others.
    return subprocess.Popen(["munged", "--foreground", "--force", *here])


def told(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)


def submitted(tree: dict[str, Any], slurm: dict[str, str], alloy: Callable[..., Any]) -> str:
    """Write the script by its command and hand it in; the number of the job."""
    run = Path(tree["run_dir"]) / tree["name"]
    path = write_recipe(run.with_suffix(".yaml"), tree)
    prepared = alloy("train", path, "--launcher", "slurm", "--dry-run")
    assert prepared.returncode == 0, prepared.stderr
    command = prepared.stdout.split()
    assert command == ["sbatch", str(run / "slurm.sh")]
    return told(slurm, command[0], "--parsable", command[1])


def ended(slurm: dict[str, str], job: str) -> str:
    """Wait for the job's end; its state."""

    def state() -> str:
        shown = dict(
            word.split("=", 1)
            for word in told(slurm, "scontrol", "show", "job", job).split()
            if "=" in word
        )
        return shown["JobState"]

    wait_for(lambda: state() not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"), 300)
    return state()


def recipe(tiny: Path, home: Path, name: str, length: int, **train: Any) -> dict[str, Any]:
    keys = {"zero": 2, "precision": "fp32", "micro_batch_rows": 2, "nodes": 2, "device": "cpu"}
    keys |= train
    return long_recipe(tiny, home, name, length, keys)


def log_of(run: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(run.glob("slurm-*.log")))


def test_two_nodes_train_as_one_machine(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any], slurm: dict[str, str]
) -> None:
    one = write_recipe(
        tmp_path / "one.yaml", recipe(tiny, tmp_path, "one", LENGTH, nodes=1, ranks=2)
    )
    done = alloy("train", one)
    assert done.returncode == 0, done.stderr
    two = recipe(tiny, tmp_path, "two", LENGTH)
    job = submitted(two, slurm, alloy)
    assert ended(slurm, job) == "COMPLETED", log_of(tmp_path / "two")
    assert rows_of(tmp_path / "two", "loss") == rows_of(tmp_path / "one", "loss")
    assert "step 12/12" in log_of(tmp_path / "two")


def test_a_job_whose_time_is_over_saves_and_goes_on_when_submitted_again(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any], slurm: dict[str, str]
) -> None:
    """The signal goes to the steps, as Slurm sends it before the end."""
    tree = recipe(tiny, tmp_path, "run", LONG)
    run = tmp_path / "run"
    job = submitted(tree, slurm, alloy)
    wait_for(lambda: len(read_metrics(run / "metrics.jsonl")) > 3, 120)
    told(slurm, "scancel", "--signal=TERM", job)
    assert ended(slurm, job) == "FAILED", log_of(run)
    reached = chosen(run).step
    assert steps(run / "checkpoints") == [reached]
    assert 3 < reached < LONG
    again = told(slurm, "sbatch", "--parsable", str(run / "slurm.sh"))
    wait_for(lambda: len(read_metrics(run / "metrics.jsonl")) > reached + 3, 120)
    told(slurm, "scancel", "--signal=TERM", again)
    ended(slurm, again)
    assert chosen(run).step > reached


def test_what_a_rank_refuses_is_in_the_log(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any], slurm: dict[str, str]
) -> None:
    """Nobody waits at a command line: the log must say it."""
    tree = recipe(tiny, tmp_path, "run", LENGTH, attention="flash")
    job = submitted(tree, slurm, alloy)
    assert ended(slurm, job) == "FAILED"
    assert "train.attention flash: on the CPU there is none" in log_of(tmp_path / "run")
    assert "hint:" in log_of(tmp_path / "run")
