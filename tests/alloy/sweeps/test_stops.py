"""Ctrl-C and SIGTERM in a sweep: its arm is recorded as not finished, and nothing more is begun."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from places import ALLOY, HELPERS, python_path
from tiny import random_row, tiny_recipe, write_recipe

from alloy import cli
from alloy.sweep_record import NOT_FINISHED, NOT_RUN
from alloy.sweeps import sweep
from checkpoints.folder import steps
from configs import Recipe, Stopped, StoppedAtEnd, StopSignal
from configs.load import parse_recipe
from pretrain.run_folder import read_metrics

HERE = [sys.executable, str(HELPERS / "alloy_here.py")]
MARK = "ALLOY_STARTED_BY_TEST"
STEP_TOKENS = 8 * 32
LONG = 20_000
SHARES = ["general_0", "general_0.25", "general_0.5"]


def recipe(base: Path, tiny: Path, run_dir: Path, length: int = 12) -> dict[str, Any]:
    """Three arms of one rank, from a base with weights."""
    schedule = {"tokens": length * STEP_TOKENS, "batch_tokens": STEP_TOKENS, "peak_lr": 0.003}
    schedule |= {"warmup": 0.01 if length == LONG else 0.0, "anneal": 0.0}
    tree = tiny_recipe(tiny, run_dir, schedule=schedule, sweep={"general": [0, 0.25, 0.5]})
    tree["base"] = {"model": str(base)}
    tree["train"] |= {"ranks": 1}
    for source in tree["data"]["sources"]:
        source["max_epochs"] = 100_000
    return tree


# --- the order of things ---------------------------------------------------------------------


@dataclass
class Work:
    """Training and measuring that do nothing but what a test has them do."""

    trained: list[str]
    measured: list[str]
    raises: dict[str, BaseException]

    def train(self, own: Recipe, *_: Any) -> Path:
        name = Path(own.name).name
        self.trained.append(name)
        if name in self.raises:
            raise self.raises[name]
        return Path(own.name)

    def measure(self, *given: Any) -> None:
        self.measured.append(given[4])
        given[3].mkdir(parents=True)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    one = Work([], [], {})
    monkeypatch.setattr(sweep, "train_recipe", one.train)
    monkeypatch.setattr(sweep, "measure", one.measure)
    return one


def failed(run: Path) -> list[str | None]:
    """Why the arms of a sweep have no scores, by its record."""
    record = json.loads((run / "sweep.json").read_text(encoding="utf-8"))
    return [arm["failed"] for arm in record["arms"]]


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize("kind", [Stopped, StoppedAtEnd])
def test_a_stop_in_training_ends_the_sweep(
    kind: type[Stopped], tiny: Path, tmp_path: Path, work: Work
) -> None:
    """Also where the arm was trained to its end meanwhile: it is not measured."""
    work.raises = {SHARES[1]: kind("saved", "again", signal.SIGTERM)}
    with pytest.raises(Stopped, match="saved") as ended:
        sweep.run_sweep(parse_recipe(recipe(tiny, tiny, tmp_path)), quiet)
    assert ended.value.exit_code == 143
    assert work.trained == SHARES[:2]
    assert work.measured == ["base", SHARES[0]]
    assert failed(tmp_path / "tiny") == [None, NOT_FINISHED, NOT_RUN]


@pytest.mark.parametrize(
    ("error", "recorded"), [(None, None), (RuntimeError("broke"), NOT_FINISHED)]
)
def test_a_stop_that_a_library_swallows_ends_the_sweep(
    error: Exception | None,
    recorded: str | None,
    tiny: Path,
    tmp_path: Path,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it makes of the stop is no failure of the arm."""
    came: list[int] = []

    def swallowing(own: Recipe, *_: Any) -> Path:
        work.trained.append(own.name)
        came.append(signal.SIGTERM)
        if error is not None:
            raise error
        return Path(own.name)

    monkeypatch.setattr(sweep, "train_recipe", swallowing)
    monkeypatch.setattr(sweep, "stop_came", lambda: came[0] if came else None)
    with pytest.raises(StopSignal, match="SIGTERM"):
        sweep.run_sweep(parse_recipe(recipe(tiny, tiny, tmp_path)), quiet)
    assert len(work.trained) == 1
    assert failed(tmp_path / "tiny") == [recorded, NOT_RUN, NOT_RUN]


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "SIGTERM")]
)
def test_the_command_says_which_signal_and_ends_with_its_code(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(**_: Any) -> None:
        try:
            raise StopSignal(number)
        except StopSignal as error:
            raise cli.click.Abort from error

    monkeypatch.setattr(cli, "raise_on_stop", lambda: None)
    monkeypatch.setattr(cli.cli, "main", main)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 128 + number
    assert words in capsys.readouterr().err


# --- real processes --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps, as the model that sweeps begin from."""
    home = tmp_path_factory.mktemp("base")
    tree = tiny_recipe(tiny, home)
    tree["train"] |= {"ranks": 1}
    path = write_recipe(home / "base.yaml", tree)
    subprocess.run([*HERE, "train", str(path)], check=True, env=environment())
    return home / "tiny"


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": python_path(),
        MARK: str(os.getpid()),
    }


def started(command: list[str]) -> subprocess.Popen[str]:
    """The command in a session of its own, as a terminal or a scheduler starts it."""
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )


def until(process: subprocess.Popen[str], words: str) -> None:
    """Read what the command tells until it says so."""
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line)
        if words in line:
            return
    pytest.fail(f"it ended without: {words}\n{chr(10).join(told)}")


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and what was told since ``until``; nothing that it started goes on."""
    try:
        _, told = process.communicate(timeout=120)
    finally:
        _, left = psutil.wait_procs(list(of_this_test()), timeout=10)
        for one in left:
            one.kill()
    assert not left
    return process.returncode, told


def of_this_test() -> Iterator[psutil.Process]:
    """The command, and all that it started, in whatever session."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(os.getpid()):
                yield process


def to_command(process: subprocess.Popen[str]) -> None:
    """Kubernetes, or `kill`."""
    process.send_signal(signal.SIGTERM)


def to_group(process: subprocess.Popen[str]) -> None:
    """A terminal."""
    os.killpg(process.pid, signal.SIGINT)


def to_all(process: subprocess.Popen[str]) -> None:
    """Slurm: every process of the step, the launcher and the ranks among them."""
    leader = psutil.Process(process.pid)
    for one in [leader, *leader.children(recursive=True)]:
        one.send_signal(signal.SIGTERM)


Send = Callable[[subprocess.Popen[str]], None]


@pytest.mark.slow
def test_stops_while_an_arm_trains(base: Path, tiny: Path, tmp_path: Path) -> None:
    """One start after the other: each goes on where the one before saved."""
    path = write_recipe(tmp_path / "r.yaml", recipe(base, tiny, tmp_path, LONG))
    run = tmp_path / "tiny/arms/general_0"
    saved = 0
    sends: list[tuple[Send, int]] = [(to_group, 130), (to_command, 143), (to_all, 143)]
    for send, code in sends:
        process = started([ALLOY, "sweep", str(path)])
        try:
            while len(read_metrics(run / "metrics.jsonl")) < saved + 3:
                assert process.poll() is None
                time.sleep(0.05)
            send(process)
        finally:
            done = ended(process)
        assert done[0] == code, done[1]
        assert "general_0: saved and stopped on a signal" in done[1]
        assert "hint: run it again to go on" in done[1]
        assert "Traceback" not in done[1]
        assert "general_0.25" not in done[1]
        reached = len(read_metrics(run / "metrics.jsonl"))
        assert steps(run / "checkpoints")[-1] == reached >= saved + 3
        assert reached < LONG
        assert failed(tmp_path / "tiny") == [NOT_FINISHED, NOT_RUN, NOT_RUN]
        saved = reached


def evaluated_long(base: Path, tiny: Path, run_dir: Path) -> dict[str, Any]:
    """Whose evaluation writes answers for some seconds."""
    rng = random.Random(3)
    rows = [{"prompt": random_row("q", i, rng, 20)["text"], "label": "amber"} for i in range(60)]
    path = run_dir / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = {"name": "questions", "path": str(path), "max_new_tokens": 150, "stop": "end"}
    return recipe(base, tiny, run_dir) | {"evals": {"domain": [task]}}


PID_1 = ["unshare", "--pid", "--fork", "--kill-child"]


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_stop_while_a_model_is_measured(
    number: int, base: Path, tiny: Path, tmp_path: Path
) -> None:
    """SIGTERM also to process 1 of a container, which gets no signal that it does not handle."""
    as_pid_1 = number == signal.SIGTERM and shutil.which("unshare") and os.geteuid() == 0
    path = write_recipe(tmp_path / "r.yaml", evaluated_long(base, tiny, tmp_path))
    process = started([*(PID_1 if as_pid_1 else []), *HERE, "sweep", str(path)])
    try:
        until(process, "general_0: evaluating")
        leader = psutil.Process(process.pid)
        (leader.children()[0] if as_pid_1 else leader).send_signal(number)
    finally:
        code, told = ended(process)
    assert code == 128 + number, told
    assert "error: interrupted" in told
    assert "Traceback" not in told
    assert "general_0.25" not in told
    assert failed(tmp_path / "tiny") == [NOT_FINISHED, NOT_RUN, NOT_RUN]


@pytest.fixture
def long_build(tiny: Path, tmp_path: Path) -> Path:
    """A recipe with text that takes some seconds to tokenize."""
    rng = random.Random(5)
    lines = (json.dumps(random_row("d", i, rng, 80)) + "\n" for i in range(60_000))
    (tmp_path / "long.jsonl").write_text("".join(lines), encoding="utf-8")
    tree = recipe(tiny, tiny, tmp_path)
    tree["data"]["sources"][0]["path"] = str(tmp_path / "long.jsonl")
    return write_recipe(tmp_path / "r.yaml", tree)


def test_a_stop_while_the_corpus_is_built(long_build: Path) -> None:
    """The tokenizing processes get the signal too."""
    process = started([ALLOY, "sweep", str(long_build)])
    try:
        until(process, "own: tokenizing with")
        to_all(process)
    finally:
        code, told = ended(process)
    assert (code, "error: interrupted by SIGTERM" in told) == (143, True), told
    assert "Traceback" not in told
    assert not (long_build.parent / "tiny").exists()
