"""Whether all ranks see the run folder that rank 0 writes to."""

import socket
import uuid
from pathlib import Path

import torch.distributed as dist

from configs import UserError

_SEEN = ".seen"


def require_one_folder(run: Path) -> None:
    """All ranks together, before any of them writes: what rank 0 writes, the others must read.

    On the local disks of several machines each rank would find a folder of its own: the first
    checkpoint would lack the others' files, hours later. Raises UserError on every rank, naming
    the machines that do not see it.
    """
    path = run / _SEEN
    told: list[str | None] = [None]
    if dist.get_rank() == 0:
        told = [f"{uuid.uuid4().hex} by {socket.gethostname()}"]
        path.write_text(str(told[0]), encoding="utf-8")
    dist.broadcast_object_list(told, src=0)
    seen = path.is_file() and path.read_text(encoding="utf-8") == told[0]
    blind: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(blind, None if seen else socket.gethostname())
    machines = sorted({name for name in blind if name is not None})
    if machines:
        raise UserError(
            f"{run}: what rank 0 writes there is not seen on {', '.join(machines)}",
            "set run_dir to a folder of a file system that all machines share",
        )
