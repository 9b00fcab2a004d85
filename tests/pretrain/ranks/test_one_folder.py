"""A run folder that is not the same one for every rank, and ranks that find none."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from pretrain.job import JOB

RANKS = """
import os, sys
from pathlib import Path
import torch.distributed as dist
from configs import UserError
from pretrain.ranks.one_folder import require_one_folder
rank = 0 if os.fork() else 1
folders = [Path(name) for name in sys.argv[2:]]
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2)
said = []
for folder in (folders[0], folders[rank], folders[0]):
    try:
        require_one_folder(folder)
        said.append("one")
    except UserError as error:
        said.append(error.message)
Path(f"{sys.argv[1]}.{rank}").write_text("|".join(said))
dist.destroy_process_group()
os._exit(0) if rank else os.wait()
"""


def test_ranks_with_folders_of_their_own_are_refused(tmp_path: Path) -> None:
    """Two ranks; one of them on a copy, as if on another machine's disk."""
    store, mine, other = (tmp_path / name for name in ("store", "mine", "other"))
    mine.mkdir()
    other.mkdir()
    (other / ".seen").write_text("of another day")
    subprocess.run([sys.executable, "-c", RANKS, store, mine, other], check=True, timeout=120)
    refused = f"what rank 0 writes there is not seen on {socket.gethostname()}"
    for rank, folder in enumerate((mine, other)):
        said = (tmp_path / f"store.{rank}").read_text().split("|")
        assert said == ["one", f"{folder}: {refused}", "one"]


def test_a_machine_without_the_folder_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pretrain.ranks.worker", "--job", str(tmp_path / "run" / JOB)]
    done = subprocess.run(
        command, env={**os.environ, "RANK": "3"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"[rank3]: AlloyError: {tmp_path / 'run' / JOB} is not on {socket.gethostname()}" in (
        done.stdout
    )
    assert "Traceback" not in done.stderr
