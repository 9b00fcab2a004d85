"""How a start of the ranks ended; and that a run folder has one start at a time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from one_rank import joined, rows_of, train_here
from places import ALLOY
from tiny import tiny_recipe, write_recipe

from checkpoints.folder import chosen, steps, write_json
from configs import STOP_SIGNALS, AlloyError, CheckFailed, UserError
from pretrain.job import (
    ERROR,
    SHOWN,
    STOPPED,
    gave_up,
    read_job,
    silent_ranks,
    take_back_word,
    write_job,
)
from pretrain.launch.launch import run_ranks
from pretrain.launch.verdict import require_success, silent_under_nccl
from pretrain.ranks import worker
from pretrain.run_folder import LINEAGE, complete, held, read_metrics

STEP_TOKENS = 8 * 32
LONG = 20_000


def recipe(tiny: Path, home: Path, length: int, **train: Any) -> dict[str, Any]:
    keys = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 4, **train}
    schedule = {"tokens": length * STEP_TOKENS, "batch_tokens": STEP_TOKENS, "peak_lr": 0.003}
    schedule |= {"warmup": 0.01 if length == LONG else 0.0, "anneal": 0.0}
    tree = tiny_recipe(tiny, home, train=keys, schedule=schedule)
    for source in tree["data"]["sources"]:
        source["max_epochs"] = 100_000
    return {**tree, "name": "run"}


@pytest.fixture(autouse=True)
def signals_heard() -> Iterator[None]:
    """Also where the tests were started to ignore some, as under nohup."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def trained(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A finished run of 6 steps and its recipe, in a process group of one that goes on."""
    tree = recipe(tiny, tmp_path_factory.mktemp("runs"), 6)
    with joined(), pytest.MonkeyPatch.context() as patch:
        yield train_here(tree, patch), tree


def test_a_finished_run_is_a_success_whatever_the_launcher_says(
    trained: tuple[Path, dict[str, Any]],
) -> None:
    job = read_job(trained[0] / "job.json")
    for code in (0, -9, STOPPED):
        require_success(code, job, ["noise"])


def test_an_unfinished_run_is_none_though_the_launcher_ends_with_0(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    subprocess.run(["cp", "-r", trained[0], run], check=True)
    job = read_job(run / "job.json").model_copy(update={"run": str(run)})
    write_job(job)
    require_success(0, job, [])
    (run / LINEAGE).rename(run / "kept")
    with pytest.raises(CheckFailed, match=r"the ranks ended with code 0: .*RuntimeError: broke$"):
        require_success(0, job, ["[rank1]: RuntimeError: broke", "later"])
    with pytest.raises(CheckFailed, match=r"RuntimeError: broke$"):  # as pdsh passes it on
        require_success(1, job, ["node2: [rank1]: RuntimeError: broke", "node1: later"])
    with pytest.raises(CheckFailed, match="saved and stopped on a signal"):
        require_success(STOPPED, job, [])
    gave_up(run, 0, "Timed out waiting 60000ms")
    two = job.model_copy(update={"train": job.train.model_copy(update={"ranks": 2})})
    write_json(run / "job.json", two.model_dump(mode="json"))
    with pytest.raises(CheckFailed, match="rank 1 hangs or is gone: the others waited 30 minutes"):
        require_success(1, two, [])
    write_json(run / ERROR, {"message": "no", "hint": "yes", "exit_code": 2})
    with pytest.raises(AlloyError, match="no"):
        require_success(0, two, [])


LAUNCHER = """
import subprocess, sys
words = ["-m", "pretrain.ranks.worker", "--job", sys.argv[2]]
rank = subprocess.Popen([sys.executable, "-c", sys.argv[1], *words])
code = rank.wait()
sys.exit(code if code >= 0 else 1)
"""
SLEEPS = "import os, signal, sys, time; {}; time.sleep(20); open(sys.argv[-1] + '.end', 'w')"
SAVES = "signal.signal(signal.SIGTERM, lambda *_: os._exit(75))"


def started(
    trained: Path,
    run: Path,
    rank: str,
    monkeypatch: pytest.MonkeyPatch,
    show: Callable[[str], None] = print,
) -> str:
    """What a start says in the end whose launcher starts ``rank``, a program."""
    run.mkdir(exist_ok=True)
    job = read_job(trained / "job.json").model_copy(update={"run": str(run)})
    path = str(write_job(job).resolve())
    command = [sys.executable, "-c", LAUNCHER, SLEEPS.format(rank), path]
    monkeypatch.setattr("pretrain.launch.launch.deepspeed_command", lambda *_: command)
    with pytest.raises(CheckFailed) as ended:
        run_ranks(job, show)
    assert not (run / "job.json.end").exists(), "it went on to its end"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    return ended.value.message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_before_the_ranks_have_met_ends_the_start(
    number: int, trained: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: Any
) -> None:
    """Ranks that do not listen yet, or are none yet: there is nothing to save."""
    deaf = f"signal.signal({number:d}, signal.SIG_IGN); os.kill({os.getpid()}, {number:d})"
    told = started(trained[0], tmp_path / "deaf", deaf, monkeypatch)
    assert told.endswith("stopped on a signal, without a save")
    monkeypatch.setattr("pretrain.launch.launch.WORKER", "not.there.yet")
    told = started(trained[0], tmp_path / "none", deaf, monkeypatch)
    assert told.endswith("stopped on a signal, without a save")


def test_a_stop_once_the_ranks_have_met_reaches_them(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = f"{SAVES}; print('{SHOWN}start', flush=True)"
    told = started(
        trained[0],
        tmp_path / "run",
        rank,
        monkeypatch,
        lambda _: os.kill(os.getpid(), signal.SIGTERM),
    )
    assert told.endswith("saved and stopped on a signal")


def test_an_error_after_a_stop_is_told(trained: tuple[Path, dict[str, Any]]) -> None:
    job = read_job(trained[0] / "job.json").model_copy(update={"run": str(trained[0] / "none")})
    (job.folder).mkdir()
    write_job(job)
    with pytest.raises(CheckFailed, match="RuntimeError: broke"):
        require_success(1, job, ["[rank1]: RuntimeError: broke"], stop=signal.SIGTERM)


def test_a_log_that_cannot_be_written_ends_nothing(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, and no terminal to show lines on either."""
    shown = []

    def show(line: str) -> None:
        shown.append(line)
        if line == "bad":
            raise BrokenPipeError

    (tmp_path / "run").mkdir()
    (tmp_path / "run/train.log").symlink_to("/dev/full")
    lines = f"['x', 'y', '{SHOWN}good', '{SHOWN}bad', '{SHOWN}never', 'RuntimeError: z']"
    rank = f"[print(line, flush=True) for line in {lines}]; os._exit(3)"
    told = started(trained[0], tmp_path / "run", rank, monkeypatch, show)
    assert told.endswith("the ranks ended with code 3: RuntimeError: z")
    assert shown[1:] == ["good", "bad"]
    assert shown[0].startswith("warning: ")
    assert "train.log: No space left on device" in shown[0]


def test_words_of_an_earlier_start_do_not_count(tmp_path: Path) -> None:
    gave_up(tmp_path, 0, "Timed out waiting")
    gave_up(tmp_path, 2, "Connection closed by peer")
    assert silent_ranks(tmp_path, 4) == [1, 3]
    take_back_word(tmp_path, 0)
    take_back_word(tmp_path, 1)
    assert silent_ranks(tmp_path, 4) == []


def test_words_of_a_larger_world_do_not_count(trained: tuple[Path, Any], tmp_path: Path) -> None:
    gave_up(tmp_path, 3, "Timed out waiting")
    assert silent_ranks(tmp_path, 2) == []
    gave_up(tmp_path, 0, "Timed out waiting")
    assert silent_ranks(tmp_path, 2) == [1]
    job = read_job(trained[0] / "job.json").model_copy(update={"run": str(tmp_path)})
    write_job(job)  # of ranks that never come to begin, nothing older may count either
    assert silent_ranks(tmp_path, 2) == []


def rank_that_fails(
    error: Exception, trained: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let ``worker.main`` be a rank whose job raises ``error``, and raise what it leaves with."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    def broken(*_: Any) -> None:
        raise error

    job = read_job(trained / "job.json").model_copy(update={"run": str(run)})
    monkeypatch.setattr(sys, "argv", ["worker", "--job", str(write_job(job))])
    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr(worker, "StopFlag", lambda: lambda: False)
    monkeypatch.setattr(worker, "join_ranks", lambda _: None)
    monkeypatch.setattr(worker, "run_job", broken)
    monkeypatch.setattr(worker, "_LOCK_PATIENCE_S", 0)


def test_a_gpu_without_memory_is_said_with_what_helps(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nSee the manual")
    rank_that_fails(full, trained[0], tmp_path, monkeypatch)
    with pytest.raises(SystemExit, match="1"):
        worker.main()
    told = json.loads((tmp_path / ERROR).read_text())
    assert told["message"] == "rank 0: CUDA out of memory. Tried to allocate 9.00 GiB."
    assert "chunked" in told["hint"]


def test_a_start_that_does_not_hold_the_run_leaves_no_error_in_it(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under torchrun, where no command asks for the lock before the ranks do."""

    rank_that_fails(UserError("no such thing", "another"), trained[0], tmp_path, monkeypatch)
    with held(tmp_path, 0), pytest.raises(SystemExit, match="2"):
        worker.main()
    assert not (tmp_path / ERROR).exists()
    assert not (tmp_path / ".seen").exists()
    with pytest.raises(SystemExit, match="2"):
        worker.main()
    assert json.loads((tmp_path / ERROR).read_text())["message"] == "no such thing"
    assert (tmp_path / ".seen").is_file()  # asked before the run is


def test_who_gave_up_under_nccl_is_in_the_log() -> None:
    line = (
        "[rank{0}]:[E121 10:00:00.1 ProcessGroupNCCL.cpp:670] [Rank {0}] Watchdog caught collective"
        " operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE) ran for 60027 milliseconds"
    )
    assert silent_under_nccl([line.format(0), "x", line.format(3)], 4) == [1, 2]
    assert silent_under_nccl(["[rank1]: RuntimeError: other"], 4) == []


def test_a_longer_run_is_not_complete_until_its_own_end_is_exported(
    trained: tuple[Path, dict[str, Any]],
) -> None:
    run, _ = trained
    reached = chosen(run)
    assert complete(run, reached.state["plan_hash"], reached)
    assert not complete(run, "other", reached)
    assert not complete(run, reached.state["plan_hash"], None)
    reached.state["plan_hash"] = "longer"  # saved to its end, and killed before the export
    assert not complete(run, "longer", reached)


def test_a_run_has_one_start_at_a_time(trained: tuple[Path, dict[str, Any]]) -> None:
    run, _ = trained
    code = (
        "import sys, time; from pathlib import Path; from pretrain.run_folder import held\n"
        "with held(Path(sys.argv[1]), 0): print(flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, run], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with (
        pytest.raises(UserError, match=f"is being trained by process {holder.pid} on "),
        held(run, 0.1),
    ):
        pass
    holder.kill()  # it gives nothing back by itself
    holder.wait()
    with held(run, 0) as reason:
        assert reason is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_takes_no_word_of_who_holds_a_run(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to("/dev/full")
    with held(tmp_path, 0) as reason:
        assert reason is None


def test_the_stage_of_zero_may_change_between_two_starts(
    trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tree = trained
    longer = {**tree, "schedule": {**tree["schedule"], "tokens": 12 * STEP_TOKENS}}
    whole = train_here({**longer, "name": "whole"}, monkeypatch)
    other = {**longer, "train": {**tree["train"], "zero": 3}}
    assert train_here(other, monkeypatch) == run
    assert rows_of(run, "loss") == pytest.approx(rows_of(whole, "loss"), abs=1e-5)


@pytest.mark.slow
def test_ranks_whose_command_was_killed_save_and_stop(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """Meanwhile a second start is refused; after it the run goes on."""
    path = write_recipe(tmp_path / "run.yaml", recipe(tiny, tmp_path, LONG, ranks=2))
    run = tmp_path / "run"
    process = subprocess.Popen([ALLOY, "train", str(path)], stderr=subprocess.DEVNULL)
    while len(read_metrics(run / "metrics.jsonl")) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    ranks = [p for p in psutil.Process(process.pid).children(recursive=True) if is_rank(p)]
    process.kill()
    process.wait()
    second = alloy("train", path)
    assert (second.returncode, "is being trained by process" in second.stderr) == (2, True)
    assert "Traceback" not in second.stderr
    psutil.wait_procs(ranks, timeout=120)
    assert not any(p.is_running() for p in ranks)
    reached = len(read_metrics(run / "metrics.jsonl"))
    assert steps(run / "checkpoints") == [reached]
    assert reached < LONG


def is_rank(process: psutil.Process) -> bool:
    return "RANK" in process.environ()


@pytest.mark.slow
def test_a_closed_terminal_is_a_stop(tiny: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "run.yaml", recipe(tiny, tmp_path, LONG, ranks=2))
    process = subprocess.Popen([ALLOY, "train", str(path)], stderr=subprocess.PIPE, text=True)
    while len(read_metrics(tmp_path / "run/metrics.jsonl")) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGHUP)
    _, told = process.communicate(timeout=600)
    assert (process.returncode, "saved and stopped on a signal" in told) == (1, True), told
