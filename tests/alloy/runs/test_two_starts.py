"""Two starts of one run with different settings, at the same time: one of them has the folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from one_rank import joined, rows_of
from places import ALLOY
from tiny import tiny_recipe, write_recipe

from alloy.runs import training
from alloy.runs.training import prepare_run
from configs import UserError
from configs.load import parse_recipe
from pretrain.job import Job
from pretrain.launch.verdict import require_success
from pretrain.ranks import worker
from pretrain.ranks.assembly import run_job
from pretrain.run_folder import AnotherStartError

RATES = (0.003, 0.001)


def recipe(tiny: Path, home: Path, rate: float) -> dict[str, Any]:
    train = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 4}
    schedule = {"tokens": 4 * 256, "batch_tokens": 256, "peak_lr": rate, "warmup": 0.25}
    return tiny_recipe(tiny, home, train=train, schedule={**schedule, "anneal": 0})


def contents(run: Path) -> dict[str, bytes]:
    """What the files of a run say; the lock may come and go."""
    return {p.name: p.read_bytes() for p in run.iterdir() if p.is_file() and p.name != ".lock"}


@pytest.fixture
def jobs(tiny: Path, tmp_path: Path) -> list[Job]:
    """Of a start, and of one that took the folder over before the ranks of the first were there."""
    found = [prepare_run(parse_recipe(recipe(tiny, tmp_path, rate)), print) for rate in RATES]
    return [job for job in found if job is not None]


def code_of_rank(job: Job, told: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """How a rank ends that would say what it trains."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    def trained(job: Job, *_: object) -> bool:
        told.append(job.hash)
        return True

    words = ["worker", "--hash", job.hash, "--job", str(job.folder / "job.json")]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr(worker, "StopFlag", lambda: lambda: False)
    monkeypatch.setattr(worker, "join_ranks", lambda _: None)
    monkeypatch.setattr(worker.dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(worker, "run_job", trained)
    with pytest.raises(SystemExit) as ended:
        worker.main()
    return int(str(ended.value.code))


@pytest.fixture
def one_rank() -> Iterator[None]:
    with joined():
        yield


@pytest.mark.usefixtures("one_rank")
def test_ranks_train_what_they_were_started_for_or_nothing(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = jobs
    kept = contents(first.folder)
    told: list[str] = []
    assert code_of_rank(first, told, monkeypatch) == UserError.exit_code
    assert told == []
    assert contents(first.folder) == kept
    with pytest.raises(AnotherStartError, match="another start, with other settings"):
        require_success(UserError.exit_code, first, [])
    assert code_of_rank(second, told, monkeypatch) == 0
    assert told == [second.hash]


@pytest.mark.usefixtures("one_rank")
def test_a_start_that_comes_while_ranks_begin_ends_them(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between what a rank reads first and its hold of the folder."""
    first, second = jobs
    training.write_job(first)

    def taken(_: Path) -> None:
        training.write_job(second)

    monkeypatch.setattr(worker, "require_one_folder", taken)
    told: list[str] = []
    assert code_of_rank(first, told, monkeypatch) == UserError.exit_code
    assert told == []


def test_a_start_that_comes_while_another_is_prepared(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (parse_recipe(recipe(tiny, tmp_path, rate)) for rate in RATES)
    build, kept = training.build_recipe, {}

    def built(*arguments: Any) -> None:
        monkeypatch.setattr(training, "build_recipe", build)
        build(*arguments)
        prepare_run(second, print)
        kept.update(contents(tmp_path / "tiny"))

    monkeypatch.setattr(training, "build_recipe", built)
    with pytest.raises(AnotherStartError, match="took it while this one was prepared"):
        prepare_run(first, print)
    assert contents(tmp_path / "tiny") == kept
    assert prepare_run(first, print) is not None  # nothing was trained yet


def test_a_plan_of_another_start_is_not_trained(
    jobs: list[Job], tiny: Path, tmp_path: Path
) -> None:
    """A kill came between the two files."""
    job = jobs[1].folder / "job.json"
    kept = job.read_bytes()
    other = recipe(tiny, tmp_path, RATES[1]) | {"mix": {"general": 0.5}}
    prepare_run(parse_recipe(other), print)
    job.write_bytes(kept)
    with pytest.raises(UserError, match="its plan is not that of its job"):
        run_job(jobs[1], lambda: False)


@pytest.mark.slow
def test_two_commands_at_once(tiny: Path, tmp_path: Path) -> None:
    paths = [
        write_recipe(tmp_path / f"{rate}.yaml", recipe(tiny, tmp_path, rate)) for rate in RATES
    ]
    starts = [
        subprocess.Popen(
            [ALLOY, "train", str(path)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for path in paths
    ]
    said = [start.communicate(timeout=600)[1] for start in starts]
    codes = [start.returncode for start in starts]
    assert sorted(codes) in ([0, 1], [0, 2]), said
    assert max(rows_of(tmp_path / "tiny", "lr")) == RATES[codes.index(0)]
    assert "Traceback" not in "".join(said)
