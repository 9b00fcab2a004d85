"""The command lines that start ranks: one machine, several by a hostfile, torchrun, Slurm; pure.

Every one of them starts ``-m pretrain.worker [--hash HASH] --job FILE``; the launcher's own
environment says who is which rank. Alloy has no launcher of its own.
"""

import base64
import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import Train, UserError
from pretrain.job import JOB

WORKER = "pretrain.ranks.worker"
PORT = "29500"
_HOST = re.compile(r"^(\S+)\s+slots=(\d+)$")


@dataclass(frozen=True)
class Host:
    """A line of a hostfile."""

    name: str
    slots: int


def deepspeed_command(
    told: tuple[Path, str],
    ranks: int,
    port: int,
    hostfile: Path | None = None,
    gpus: Sequence[int] | None = None,
) -> list[str]:
    """The deepspeed launcher; over ssh where there is a hostfile, on the ``gpus`` of this machine
    where they are given. ``told`` is the job's file and its hash, by which the ranks notice that
    another start has replaced it."""
    if hostfile is not None:
        deepspeed = str(Path(sys.executable).with_name("deepspeed"))
        start = [deepspeed, "--hostfile", str(hostfile), "--master_port", str(port)]
    else:
        # What `deepspeed` itself starts on each machine, without the seconds that it imports for.
        world = json.dumps({"localhost": list(gpus or range(ranks))})
        start = [
            *(sys.executable, "-u", "-m", "deepspeed.launcher.launch"),
            f"--world_info={base64.urlsafe_b64encode(world.encode()).decode()}",
            *("--master_addr=127.0.0.1", f"--master_port={port}"),
        ]
    worker = (WORKER, "--hash", told[1], "--job", str(told[0]))
    return [*start, "--no_local_rank", "--module", *worker]


def visible_gpus(visible: str | None, ranks: int) -> list[int] | None:
    """As many of those that CUDA_VISIBLE_DEVICES allows as there are ranks, which the launcher must
    be told: it takes the first of the machine otherwise. None where all are allowed. Raises
    UserError for too few, and for names instead of numbers, which the launcher does not know."""
    if not visible:
        return None
    allowed = [gpu.strip() for gpu in visible.split(",")]
    if not all(gpu.isdigit() for gpu in allowed):
        raise UserError(
            f"CUDA_VISIBLE_DEVICES={visible}: the deepspeed launcher knows GPUs by their numbers",
            "give numbers, or see --launcher torchrun --dry-run",
        )
    if len(allowed) < ranks:
        raise UserError(
            f"train.ranks {ranks}: CUDA_VISIBLE_DEVICES={visible} allows {len(allowed)} GPUs",
            f"set train.ranks: {len(allowed)}",
        )
    return [int(gpu) for gpu in allowed[:ranks]]


def variables(train: Train, on_cpu: bool) -> dict[str, str]:
    """What the ranks' environment must hold besides what is inherited. Where it is not ``on_cpu``,
    each rank's machine decides by what it has."""
    chosen = {"PYTHONSAFEPATH": "1"}
    if on_cpu:
        chosen["DS_ACCELERATOR"] = "cpu"
        if not train.compile:  # saves DeepSpeed compiling an optimizer at import
            chosen["TORCHDYNAMO_DISABLE"] = "1"
    return chosen


def torchrun_command(
    job: Path, train: Train, node_rank: str, address: str, port: str = PORT
) -> list[str]:
    """torchrun on one of the machines; all of them run it, each with its own node rank."""
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", str(train.nodes)),
        *("--node-rank", node_rank, "--nproc-per-node", str(train.ranks)),
        *("--master-addr", address, "--master-port", port),
        # Left at its half minute, it would kill ranks in the middle of their last save.
        *("--shutdown-timeout", str(_stop_seconds(train))),
        *("-m", WORKER, "--job", str(job)),
    ]


def torchrun_lines(job: Path, train: Train) -> list[str]:
    """What to run on each machine, the first of which is to be put in for FIRST_HOST."""
    address = "127.0.0.1" if train.nodes == 1 else "FIRST_HOST"
    chosen = variables(train, train.device == "cpu")
    settings = [f"{key}={shlex.quote(value)}" for key, value in sorted(chosen.items())]
    commands = [torchrun_command(job, train, str(node), address) for node in range(train.nodes)]
    return [" ".join([*settings, shlex.join(command)]) for command in commands]


def slurm_script(name: str, run: Path, train: Train) -> str:
    """A batch script: one torchrun on each node, and SIGTERM ``train.stop_minutes`` before the end,
    in which the ranks save. Submitting it again goes on from there."""
    shell_words = "$SLURM_NODEID", "$first", "$port"
    words = torchrun_command(run / JOB, train, *shell_words)
    command = " ".join(w if w in shell_words else shlex.quote(w) for w in words)
    # Not by what this machine has: scripts are written where there are no GPUs.
    on_cpu = train.device == "cpu"
    chosen = sorted(variables(train, on_cpu).items())
    exports = [f"export {key}={shlex.quote(value)}" for key, value in chosen]
    return "\n".join(
        [
            "#!/bin/bash",
            f"#SBATCH --job-name={re.sub('[^A-Za-z0-9_.-]', '-', name)}",
            f"#SBATCH --nodes={train.nodes}",
            "#SBATCH --ntasks-per-node=1",
            *([] if on_cpu else [f"#SBATCH --gpus-per-node={train.ranks}"]),
            f"#SBATCH --signal=TERM@{_stop_seconds(train)}",
            "#SBATCH --requeue",
            "#SBATCH --open-mode=append",
            f"#SBATCH --output={shlex.quote(str(run).replace('%', '%%') + '/slurm-%j.log')}",
            "set -euo pipefail",
            *exports,
            'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            "port=$((20000 + SLURM_JOB_ID % 10000))  # jobs may share a node",
            "export first port",
            # What sbatch was given: srun takes no account of it, and would confine all ranks of a
            # node to one CPU.
            "cpus=${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK}",
            f"srun --kill-on-bad-exit=1 $cpus bash -c {shlex.quote('exec ' + command)}",
            "",
        ]
    )


def _stop_seconds(train: Train) -> int:
    return round(train.stop_minutes * 60)


def hosts(text: str, path: Path) -> list[Host]:
    """The lines of a hostfile. Raises UserError for a line that is none, and for none at all."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.split("#")[0].strip()
        if not content:
            continue
        match = _HOST.match(content)
        if match is None:
            raise UserError(f"{path}:{number}: '{content}'", "write lines like: node1 slots=8")
        found.append(Host(match[1], int(match[2])))
    if not found:
        raise UserError(f"{path}: names no host", "write lines like: node1 slots=8")
    return found


def require_shape(found: Sequence[Host], train: Train, path: Path) -> None:
    """The hosts must be as many as the recipe says, with as many slots each as it has ranks."""
    odd = [host for host in found if host.slots != train.ranks]
    if len(found) != train.nodes or odd:
        told = ", ".join(f"{host.name} slots={host.slots}" for host in found)
        raise UserError(
            f"{path} has {told}; the recipe has train.nodes {train.nodes} of train.ranks "
            f"{train.ranks} each",
            f"set train.nodes: {len(found)} and train.ranks: {found[0].slots}",
        )
