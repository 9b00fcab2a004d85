"""The machines of a hostfile, over ssh: whether they answer, and signals to their ranks."""

import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from configs import Train, UserError
from pretrain.launch.launchers import WORKER, hosts, require_shape

_SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10")


def named(train: Train) -> list[str]:
    """The names in a hostfile; none where it names this machine alone, for which the launcher would
    want ssh too.

    Raises UserError where several machines have no hostfile, for one that does not fit the recipe,
    and where the launcher's means of starting ranks there is not installed.
    """
    if train.hostfile is None and train.nodes > 1:
        raise UserError(
            f"train.nodes {train.nodes}, and no hostfile names the machines",
            "set train.hostfile, or see --launcher torchrun --dry-run and --launcher slurm",
        )
    if train.hostfile is None:
        return []
    hostfile = Path(train.hostfile)
    try:
        found = hosts(hostfile.read_text(encoding="utf-8"), hostfile)
    except OSError as error:
        raise UserError(f"hostfile {hostfile}: {error.strerror}", "check train.hostfile") from None
    require_shape(found, train, hostfile)
    names = [host.name for host in found]
    if names in (["localhost"], [socket.gethostname()]):
        return []
    if shutil.which("pdsh") is None:
        raise UserError(
            f"{hostfile}: the deepspeed launcher reaches machines by pdsh, which is not installed",
            "install pdsh, or see --launcher torchrun --dry-run",
        )
    return names


def reached(train: Train) -> list[str]:
    """The ``named`` machines, all of which answer. Raises UserError for one that does not."""
    names = named(train)
    for name in names:
        reason = _unreachable(name)
        if reason is not None:
            raise UserError(
                f"{train.hostfile}: host {name} cannot be reached: {reason}",
                f"`ssh {name} true` must work without a password from here",
            )
    return names


def _unreachable(name: str) -> str | None:
    try:
        done = subprocess.run([*_SSH, name, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no ssh on this machine"
    told = done.stderr.strip().splitlines() or [f"ssh ended with code {done.returncode}"]
    return None if done.returncode == 0 else told[-1]


def signal_ranks(names: Sequence[str], number: int, job: Path) -> None:
    """Send a signal to the ranks of a job on other machines; does not wait for it to arrive."""
    for name in names:
        subprocess.Popen([*_SSH, name, signal_line(number, job)], stdin=subprocess.DEVNULL)


def signal_line(number: int, job: Path) -> str:
    """The shell's line that signals the ranks of a job on one machine, and nothing else there."""
    # The first letter in brackets: the pattern must not match the line that holds it. The
    # launcher's own line has --module, and must not be signalled: it would end the ranks at once.
    worker = f"[{WORKER[0]}]{re.escape(WORKER[1:])}"
    pattern = f" -m {worker}( --hash [0-9a-f]+)? --job {re.escape(str(job))}$"
    return shlex.join(["pkill", f"-{number}", "-f", "--", pattern])
