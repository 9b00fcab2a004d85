"""A process group of one in this process, and whole runs in it by the real command's code."""

import datetime
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch.distributed as dist

from alloy.runs import training
from alloy.runs.training import train_recipe
from configs.load import parse_recipe
from pretrain.engine.engine import Engine, join_ranks
from pretrain.job import Job, write_job
from pretrain.ranks import prepare
from pretrain.ranks.assembly import run_job
from pretrain.run_folder import read_metrics

ENVIRONMENT = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "DS_ACCELERATOR": "cpu",
}


@contextmanager
def joined() -> Iterator[None]:
    """A process group of one, as a launcher would set it up."""
    before = {k: os.environ.get(k) for k in (*ENVIRONMENT, "MASTER_PORT")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    os.environ.update({**ENVIRONMENT, "MASTER_PORT": port})
    join_ranks(datetime.timedelta(minutes=1))
    yield
    dist.destroy_process_group()
    # DeepSpeed keeps the groups of the process group that is gone.
    deepspeed.utils.groups._WORLD_GROUP = None
    deepspeed.comm.comm.cdb = None
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)


def engines_made(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engines that runs in this process make from now on."""
    made: list[Engine] = []

    class Kept(Engine):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(prepare, "Engine", Kept)
    return made


def train_here(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Path:
    """Train a recipe with its one rank in this process; the run folder."""

    def run_ranks(job: Job, _: Any) -> None:
        write_job(job)
        run_job(job, lambda: False)

    monkeypatch.setattr(training, "run_ranks", run_ranks)
    return train_recipe(parse_recipe(tree, overrides), lambda _: None).parent


def train_and_stop(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch, after: int) -> Path:
    """Train ``after`` steps of this start, then stop as on a signal; the checkpoints' folder."""
    asked = iter(range(1, after + 1))

    def run_ranks(job: Job, _: Any) -> None:
        write_job(job)
        run_job(job, lambda: next(asked) == after)

    monkeypatch.setattr(training, "run_ranks", run_ranks)
    return train_recipe(parse_recipe(tree), lambda _: None).parent / "checkpoints"


def rows_of(run: Path, key: str) -> list[Any]:
    return [row[key] for row in read_metrics(run / "metrics.jsonl")]
