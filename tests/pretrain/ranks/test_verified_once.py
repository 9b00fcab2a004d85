"""A base checkpoint is read through by one rank, and all of them take its word."""

import datetime
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch.distributed as dist
from model_folders import trained
from places import python_path

from checkpoints import folder
from checkpoints.tensors import file_name
from configs import Base, UserError
from pretrain.ranks import prepare

Word = dict[str, Any]


def be_rank(rank: int, meeting: Path, bases: list[dict[str, Any]]) -> None:
    """One of two ranks that start from each of ``bases``, and leave word of what came of it."""
    hashed: list[str] = []
    sha256 = folder._sha256

    def counted(path: Path, *more: Any) -> str:
        hashed.append(path.name)
        return sha256(path, *more)

    folder._sha256 = counted
    minute = datetime.timedelta(minutes=1)
    dist.init_process_group("gloo", f"file://{meeting}", minute, world_size=2, rank=rank)
    words: list[Word] = []
    for base in bases:
        job: Any = SimpleNamespace(base=Base.model_validate(base))
        tokenizer: Any = SimpleNamespace(vocab_size=400)
        try:
            told = prepare._started(job, tokenizer, None).described
        except UserError as error:
            told = f"{error.message}; {error.hint}"
        dist.barrier()  # a rank that had gone on alone would wait in another collective
        words.append({"told": told, "hashed": sorted(hashed)})
        hashed.clear()
    meeting.with_name(f"rank_{rank}").write_text(json.dumps(words))
    os._exit(0)


def started(tmp_path: Path, *bases: Base) -> tuple[list[Word], list[Word]]:
    """What either rank said of each base."""
    told = json.dumps([base.model_dump() for base in bases])
    words = [sys.executable, __file__, str(tmp_path / "meeting"), told]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    ranks = [subprocess.Popen([*words, str(rank)], env=environment) for rank in (0, 1)]
    assert [rank.wait(90) for rank in ranks] == [0, 0]
    first, second = (json.loads((tmp_path / f"rank_{rank}").read_text()) for rank in (0, 1))
    return first, second


def test_one_rank_reads_the_base_through_for_all(tiny: Path, tmp_path: Path) -> None:
    """Where it is good, where a byte of it is another, and where it is not there."""
    run, damaged = trained(tmp_path / "run", tiny, 2), tmp_path / "damaged"
    shutil.copytree(run, damaged)
    victim = damaged / "checkpoints" / folder.step_name(1) / file_name(0)
    data = victim.read_bytes()
    victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    bases = (str(run), None), (str(damaged), 1), (str(run), 7)
    first, second = started(tmp_path, *(Base(model=model, step=step) for model, step in bases))
    expected = [
        f"weights of {run}, step 2",
        f"damaged checkpoint: {victim}: content differs from its sha256; "
        "take an earlier one of the same run",
        f"{run} has no checkpoint of step 7; there are: 1, 2",
    ]
    assert [word["told"] for word in first] == [word["told"] for word in second] == expected
    assert first[0]["hashed"] == sorted(p.name for p in folder.chosen(run).path.glob("[!m]*"))
    assert [word["hashed"] for word in second] == [[], [], []]


def test_what_is_wrong_is_told_in_order(tmp_path: Path) -> None:
    """Whichever of the files is read through first."""
    staging = folder.begin(tmp_path, 1)
    for rank in range(12):
        (staging / file_name(rank)).write_bytes(bytes((12 - rank) << 18))
    files = {path.name: folder.describe(path) for path in staging.iterdir()}
    path = folder.commit(staging, 1, files, {})
    assert folder.problems(path) == []
    for rank in (0, 1, 7, 11):
        (path / file_name(rank)).write_bytes(bytes((12 - rank) << 18)[:-1] + b"x")
    (path / file_name(3)).unlink()
    (path / file_name(9)).write_bytes(b"")
    told = dict.fromkeys((0, 1, 7, 11), "content differs from its sha256")
    told |= {3: "missing", 9: f"0 bytes, not {3 << 18}"}
    expected = [f"{path / file_name(rank)}: {told[rank]}" for rank in sorted(told)]
    assert folder.problems(path) == expected
    sizes = [line for line in expected if "differs" not in line]
    assert folder.problems(path, deep=False) == sizes


if __name__ == "__main__":
    be_rank(int(sys.argv[3]), Path(sys.argv[1]), json.loads(sys.argv[2]))
