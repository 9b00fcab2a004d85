"""Launchers: torchrun on two agents, Slurm scripts, hostfiles."""

import os
import shlex
import socket
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from deepspeed.accelerator.cuda_accelerator import CUDA_Accelerator
from deepspeed.launcher import launch as deepspeed_launch
from one_rank import rows_of
from tiny import tiny_recipe, write_recipe

from configs import Train, UserError
from pretrain.launch import launch
from pretrain.launch.launchers import (
    Host,
    deepspeed_command,
    hosts,
    require_shape,
    slurm_script,
    visible_gpus,
)


def recipe(tiny: Path, home: Path, name: str, **train: Any) -> Path:
    keys = {"zero": 2, "precision": "fp32", "micro_batch_rows": 2, "device": "cpu", **train}
    return write_recipe(
        home / f"{name}.yaml", {**tiny_recipe(tiny, home, train=keys), "name": name}
    )


@pytest.mark.slow
def test_two_torchrun_agents_over_loopback(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """Two launchers, as on two machines or in two pods of an indexed Job: the losses of two ranks
    under one launcher."""
    done = alloy("train", recipe(tiny, tmp_path, "one", ranks=2))
    assert done.returncode == 0, done.stderr
    path = recipe(tiny, tmp_path, "two", nodes=2)
    prepared = alloy("train", path, "--launcher", "torchrun", "--dry-run")
    assert prepared.returncode == 0, prepared.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    lines = [
        line.replace("FIRST_HOST", "127.0.0.1").replace("29500", port)
        for line in prepared.stdout.splitlines()
    ]
    assert [("--node-rank 0" in line, "--node-rank 1" in line) for line in lines] == [
        (True, False),
        (False, True),
    ]
    pod = lines[0].replace("--node-rank 0", "--node-rank $JOB_COMPLETION_INDEX")
    agents = [
        subprocess.Popen(
            ["sh", "-c", f"exec env {pod}"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "JOB_COMPLETION_INDEX": str(index)},
            cwd=tmp_path,
        )
        for index in range(2)
    ]
    assert [agent.wait(timeout=1200) for agent in agents] == [0, 0]
    assert rows_of(tmp_path / "two", "loss") == rows_of(tmp_path / "one", "loss")
    again = alloy("train", path)
    assert (again.returncode, "already trained" in again.stderr) == (0, True), again.stderr


def test_slurm_script(tiny: Path, tmp_path: Path, alloy: Callable[..., Any]) -> None:
    path = recipe(tiny, tmp_path, "run", nodes=3, ranks=2)
    done = alloy("train", path, "--launcher", "slurm", "--dry-run")
    assert done.returncode == 0, done.stderr
    script = tmp_path / "run/slurm.sh"
    assert done.stdout.strip() == f"sbatch {script}"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert (tmp_path / "run/job.json").is_file()
    assert not (tmp_path / "run/metrics.jsonl").exists()
    refused = alloy("train", path, "--launcher", "slurm")
    assert (refused.returncode, "--dry-run" in refused.stderr) == (2, True)


def test_a_slurm_script_for_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    """sbatch takes #SBATCH lines apart as a shell does, and %u for the user."""
    run = tmp_path / "o'brien FIRST_HOST 100%u #1"
    script = slurm_script("a", run, Train())
    (line,) = [line for line in script.splitlines() if "--output" in line]
    told = tmp_path / "o'brien FIRST_HOST 100%%u #1" / "slurm-%j.log"
    assert shlex.split(line) == ["#SBATCH", f"--output={told}"]
    assert shlex.split(shlex.split(script)[-1])[-1] == str(run / "job.json")


@pytest.mark.parametrize(("cpus", "passed"), [("96", ["--cpus-per-task=96"]), (None, [])])
def test_slurm_script_starts_torchrun_with_the_names_of_its_nodes(
    tmp_path: Path, cpus: str | None, passed: list[str]
) -> None:
    """Under stand-ins for srun and scontrol: what each node would run."""
    script = slurm_script("a/b", tmp_path, Train(nodes=2, ranks=4))
    assert "--gpus-per-node=4" in script
    (tmp_path / "scontrol").write_text("#!/bin/sh\nprintf 'node7\\nnode8\\n'\n")
    (tmp_path / "srun").write_text(
        '#!/bin/bash\nwhile [ "$1" != bash ]; do echo "$1" >> options; shift; done; shift 2\n'
        "for SLURM_NODEID in 0 1; do export SLURM_NODEID; "
        'bash -c "${1/exec/echo}"; done\n'
    )
    for name in ("scontrol", "srun"):
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    slurm = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_ID": "30123"}
    slurm |= {"SLURM_CPUS_PER_TASK": cpus} if cpus else {}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**environment, **slurm},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    for node, words in enumerate(lines):
        after = dict(pairwise(words))
        assert after["--node-rank"] == str(node)
        assert after["--master-addr"] == "node7"
        assert after["--nproc-per-node"] == "4"
        assert after["--master-port"] == "20123"
        assert after["--shutdown-timeout"] == "120"
    assert len(lines) == 2
    options = (tmp_path / "options").read_text().splitlines()
    assert options == ["--kill-on-bad-exit=1", *passed]


def test_the_launcher_takes_the_gpus_that_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed's own launcher, up to where it starts processes, on a machine with GPUs."""
    started: list[tuple[list[str], dict[str, str]]] = []

    class StartedError(Exception):
        pass

    def start(command: list[str], env: dict[str, str]) -> None:
        started.append((command, dict(env)))
        raise StartedError

    monkeypatch.setattr(deepspeed_launch, "get_accelerator", CUDA_Accelerator)
    monkeypatch.setattr(deepspeed_launch.subprocess, "Popen", start)
    for visible, gpus in (("6,2,5", "6,2"), (None, "0,1")):
        command = deepspeed_command((Path("job.json"), "x"), 2, 7, gpus=visible_gpus(visible, 2))
        monkeypatch.setattr("sys.argv", command[3:])
        with pytest.raises(StartedError):
            deepspeed_launch.main()
        words, variables = started[-1]
        assert words[-6:] == ["-m", "pretrain.ranks.worker", "--hash", "x", "--job", "job.json"]
        expected = {"CUDA_VISIBLE_DEVICES": gpus, "WORLD_SIZE": "2", "RANK": "0"}
        expected |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "7"}
        assert expected.items() <= variables.items()


def test_gpus_that_cannot_be_taken_are_refused() -> None:
    for visible, part in (("GPU-ab12,1", "by their numbers"), ("3", "allows 1 GPUs")):
        with pytest.raises(UserError, match=part):
            visible_gpus(visible, 2)


def test_a_run_that_may_see_no_gpu_shares_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_GPU_FILES", ("/proc",))
    for train, visible, on_cpu in (
        (Train(), None, False),
        (Train(), "1", False),
        (Train(), "", True),
        (Train(device="cuda"), "", False),
        (Train(device="cpu"), "1", True),
    ):
        inherited = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        chosen = launch.environment(inherited, train)
        assert (chosen.get("DS_ACCELERATOR") == "cpu") == ("OMP_NUM_THREADS" in chosen) == on_cpu


def test_hostfile_lines() -> None:
    text = "# machines\nnode1 slots=8\n\nnode2  slots=8 # the other\n"
    assert hosts(text, Path("h")) == [Host("node1", 8), Host("node2", 8)]
    for bad, part in (("node1\n", "h:1: 'node1'"), ("", "names no host")):
        with pytest.raises(UserError, match=part):
            hosts(bad, Path("h"))
    for train in (Train(nodes=2, ranks=4), Train(nodes=1, ranks=8)):
        with pytest.raises(UserError) as refused:
            require_shape(hosts(text, Path("h")), train, Path("h"))
        assert refused.value.hint == "set train.nodes: 2 and train.ranks: 8"


@pytest.mark.parametrize(
    ("ssh", "part"),
    [
        ("echo 'ssh: connect to host far: No route to host' >&2; exit 255", "No route to host"),
        ("exit 1", "ssh ended with code 1"),
    ],
)
def test_an_unreachable_host_is_named(
    ssh: str, part: str, tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    (tmp_path / "hosts").write_text("localhost slots=1\nfar slots=1\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ssh").write_text(f'#!/bin/sh\ncase "$*" in *localhost*) exit 0;; esac\n{ssh}\n')
    (tools / "pdsh").write_text("#!/bin/sh\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    path = recipe(tiny, tmp_path, "run", nodes=2, hostfile=str(tmp_path / "hosts"))
    done = alloy("train", path, env={"PATH": f"{tools}:{os.environ['PATH']}"})
    assert done.returncode == 2, done.stderr
    assert "host far cannot be reached" in done.stderr
    assert part in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_hostfile_of_this_machine(tiny: Path, tmp_path: Path, alloy: Callable[..., Any]) -> None:
    (tmp_path / "hosts").write_text("localhost slots=2\n")
    path = recipe(tiny, tmp_path, "run", ranks=2, hostfile=str(tmp_path / "hosts"))
    done = alloy("train", path)
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "run", "loss")) == 12


def test_several_machines_need_their_names(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    done = alloy("train", recipe(tiny, tmp_path, "run", nodes=2))
    assert (done.returncode, "no hostfile names the machines" in done.stderr) == (2, True)
    assert not (tmp_path / "run").exists()
