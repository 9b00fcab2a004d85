"""The command lines that start ranks: one machine, several by a hostfile, torchrun, Slurm; pure.

Every one of them starts ``-m pretrain.worker --job FILE``; the launcher's own environment says who
is which rank. Alloy has no launcher of its own.
"""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import Train, UserError

WORKER = "pretrain.worker"
PORT = 29500
_HOST = re.compile(r"^(\S+)\s+slots=(\d+)$")


@dataclass(frozen=True)
class Host:
    """A line of a hostfile."""

    name: str
    slots: int


def deepspeed_command(job: Path, ranks: int, port: int, hostfile: Path | None = None) -> list[str]:
    """The deepspeed launcher; over ssh where there is a hostfile."""
    where = (
        ["--num_accelerators", str(ranks)] if hostfile is None else ["--hostfile", str(hostfile)]
    )
    return [
        *(str(Path(sys.executable).with_name("deepspeed")), *where, "--master_port", str(port)),
        *("--no_local_rank", "--module", WORKER, "--job", str(job)),
    ]


def torchrun_command(
    job: Path, ranks: int, nodes: int, node_rank: str, address: str, port: int = PORT
) -> list[str]:
    """torchrun on one of ``nodes`` machines; all of them run it, each with its own node rank."""
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", str(nodes)),
        *("--node-rank", node_rank, "--nproc-per-node", str(ranks)),
        *("--master-addr", address, "--master-port", str(port)),
        *("-m", WORKER, "--job", str(job)),
    ]


def torchrun_lines(job: Path, train: Train, variables: Mapping[str, str]) -> list[str]:
    """What to run on each machine, the first of which is to be put in for FIRST_HOST."""
    address = "127.0.0.1" if train.nodes == 1 else "FIRST_HOST"
    settings = [f"{key}={shlex.quote(value)}" for key, value in sorted(variables.items())]
    commands = [
        torchrun_command(job, train.ranks, train.nodes, str(node), address)
        for node in range(train.nodes)
    ]
    return [" ".join([*settings, shlex.join(command)]) for command in commands]


def slurm_script(name: str, run: Path, train: Train, variables: Mapping[str, str]) -> str:
    """A batch script: one torchrun on each node, and SIGTERM two minutes before the end, in which
    the ranks save. Submitting it again goes on from there."""
    job = run / "job.json"
    command = shlex.join(torchrun_command(job, train.ranks, train.nodes, "NODE_RANK", "FIRST_HOST"))
    command = command.replace("NODE_RANK", "$SLURM_NODEID").replace("FIRST_HOST", "$first")
    exports = [f"export {key}={shlex.quote(value)}" for key, value in sorted(variables.items())]
    return "\n".join(
        [
            "#!/bin/bash",
            f"#SBATCH --job-name={re.sub('[^A-Za-z0-9_.-]', '-', name)}",
            f"#SBATCH --nodes={train.nodes}",
            "#SBATCH --ntasks-per-node=1",
            *([] if "DS_ACCELERATOR" in variables else [f"#SBATCH --gpus-per-node={train.ranks}"]),
            "#SBATCH --signal=TERM@120",
            "#SBATCH --open-mode=append",
            f"#SBATCH --output={run / 'slurm-%j.log'}",
            "set -euo pipefail",
            *exports,
            'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            "export first",
            f"srun --kill-on-bad-exit=1 bash -c {shlex.quote('exec ' + command)}",
            "",
        ]
    )


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
