"""A base checkpoint is read through by one rank, and all of them take its word."""

import datetime
import json
import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist
from test_merge_memory import trained

from checkpoints import folder
from checkpoints.tensors import file_name
from configs import Base, UserError
from pretrain import prepare


def start(rank: int, meeting: Path, base: Base) -> None:
    """Be one of two ranks that start from ``base``, and leave word of what came of it."""
    hashed: list[str] = []
    sha256 = folder._sha256

    def counted(path: Path, *more: Any) -> str:
        hashed.append(path.name)
        return sha256(path, *more)

    folder._sha256 = counted
    minute = datetime.timedelta(minutes=1)
    dist.init_process_group("gloo", f"file://{meeting}", minute, world_size=2, rank=rank)
    job: Any = SimpleNamespace(base=base)
    tokenizer: Any = SimpleNamespace(vocab_size=400)
    try:
        told = prepare._started(job, tokenizer, None).described
    except UserError as error:
        told = f"{error.message}; {error.hint}"
    dist.barrier()  # a rank that had gone on alone would wait in another collective
    word = {"told": told, "hashed": sorted(hashed)}
    meeting.with_name(f"rank_{rank}").write_text(json.dumps(word))
    os._exit(0)


def started(tmp_path: Path, base: Base) -> list[dict[str, Any]]:
    # Forked: a rank that imports everything anew takes ten seconds.
    context = multiprocessing.get_context("fork")
    meeting = tmp_path / "meeting"
    ranks = [context.Process(target=start, args=(rank, meeting, base)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(90)
        assert rank.exitcode == 0
    return [json.loads((tmp_path / f"rank_{rank}").read_text()) for rank in (0, 1)]


def test_one_rank_reads_the_base_through(tiny: Path, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", tiny, 2)
    first, second = started(tmp_path, Base(model=str(run)))
    assert first["told"] == second["told"] == f"weights of {run}, step 2"
    assert first["hashed"] == sorted(p.name for p in folder.chosen(run).path.glob("[!m]*"))
    assert second["hashed"] == []


@pytest.mark.parametrize("step", [1, 7])
def test_a_refused_base_is_refused_by_all(step: int, tiny: Path, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", tiny, 2)
    victim = run / "checkpoints" / folder.step_name(1) / file_name(0)
    data = victim.read_bytes()
    victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    first, second = started(tmp_path, Base(model=str(run), step=step))
    expected = {
        1: f"damaged checkpoint: {victim}: content differs from its sha256; "
        "take an earlier one of the same run",
        7: f"{run} has no checkpoint of step 7; there are: 1, 2",
    }
    assert first["told"] == second["told"] == expected[step]
    assert second["hashed"] == []


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
