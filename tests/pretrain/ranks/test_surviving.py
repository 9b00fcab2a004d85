"""Runs that are killed, resized, damaged or out of room, against runs that were not."""

import json
import os
import random
import resource
import signal
import socket
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
from safetensors.torch import load_file, save_file
from tiny import tiny_recipe, write_recipe

from checkpoints.folder import MANIFEST, chosen, describe, step_name, steps, write_json
from checkpoints.tensors import WEIGHTS, read_tensors
from configs import CheckFailed, Train
from pretrain.launch.launch import environment
from pretrain.run_folder import read_metrics
from pretrain.training.replay import require_same

GOLDEN = Path(__file__).with_name("golden") / "losses_20_steps.txt"
GOLDEN_TOLERANCE = 1e-4
REPLAY_TOLERANCE = 1e-5
NEXT_TOLERANCE = 1e-4
STEP_TOKENS = 8 * 32
KILLS = 50
KILLS_IN_SAVES = 10


def recipe(tiny: Path, home: Path, name: str, steps: int, **train: Any) -> dict[str, Any]:
    schedule = {"tokens": steps * STEP_TOKENS, "batch_tokens": STEP_TOKENS, "peak_lr": 0.003}
    schedule |= {"warmup": max(2 / steps, 0.01), "anneal": 0.3}
    keys = {"zero": 2, "precision": "fp32", "ranks": 2, "micro_batch_rows": 2, **train}
    tree = tiny_recipe(tiny, home, schedule=schedule, train=keys)
    for source in tree["data"]["sources"]:
        source["max_epochs"] = 200
    return {**tree, "name": name}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(read_tensors(chosen(run), WEIGHTS))


def trained(alloy: Callable[..., Any], tree: dict[str, Any]) -> Path:
    run = Path(tree["run_dir"]) / tree["name"]
    done = alloy("train", write_recipe(run.with_suffix(".yaml"), tree))
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="module")
def twenty(tiny: Path, tmp_path_factory: pytest.TempPathFactory, alloy: Callable[..., Any]) -> Path:
    """A run of the recipe whose losses are committed."""
    return trained(alloy, recipe(tiny, tmp_path_factory.mktemp("twenty"), "whole", 20))


def test_twenty_steps_are_the_same_each_time_and_everywhere(
    twenty: Path, tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """Two runs to the bit, and the committed losses, which any machine must meet.

    A change that moves these numbers must say so, and replace the file.
    """
    runs = [twenty, trained(alloy, recipe(tiny, tmp_path, "second", 20))]
    first, second = (rows_of(run, "loss") for run in runs)
    assert first == second
    assert all(t.equal(weights(runs[1])[n]) for n, t in weights(runs[0]).items())
    golden = [float(line) for line in GOLDEN.read_text().split()]
    assert first == pytest.approx(golden, rel=GOLDEN_TOLERANCE)


@pytest.mark.slow
def test_fifty_kills_at_random_instants(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """All ranks, or one of the two, by SIGKILL; a third of the kills wait for a save to begin."""
    length = 400
    often = {"checkpoint_tokens": STEP_TOKENS}
    whole = trained(alloy, recipe(tiny, tmp_path, "whole", length, **often))
    cut = recipe(tiny, tmp_path, "cut", length, **often)
    run = tmp_path / "cut"
    prepare(cut, run)
    rng = random.Random(5)
    killed = in_saves = 0
    with Forker(run, tmp_path / "ranks.log") as forker:
        while killed < KILLS and last_step(run) < length - 9:
            in_saves += kill_once(run, forker, rng, aim_at_save=killed % 3 == 0)
            killed += 1
    assert killed == KILLS, f"the run was complete after {killed} kills"
    assert in_saves >= KILLS_IN_SAVES, f"{in_saves} kills left a half-written checkpoint"
    trained(alloy, cut)
    assert rows_of(run, "loss") == rows_of(whole, "loss")
    for name, tensor in weights(run).items():
        assert tensor.equal(weights(whole)[name]), name
    print(f"{killed} kills, {in_saves} of them inside a save")


def prepare(tree: dict[str, Any], run: Path) -> None:
    """Start a run by its command and kill it, so that its folder is made and its corpus built."""
    path = write_recipe(run.with_suffix(".yaml"), tree)
    process = subprocess.Popen([ALLOY, "train", str(path)], stderr=subprocess.DEVNULL)
    wait_until(lambda: bool(steps(run / "checkpoints")))
    kill_tree(process.pid)
    process.wait()


def kill_tree(pid: int) -> None:
    parent = psutil.Process(pid)
    for process in (*parent.children(recursive=True), parent):
        process.kill()


class Forker:
    """Starts the two ranks of a run without a launcher, from a process with all imports done."""

    def __init__(self, run: Path, log: Path) -> None:
        self._log = log
        self._shared = environment(os.environ, Train(ranks=2)) | {"OMP_NUM_THREADS": "1"}
        self._shared |= {"WORLD_SIZE": "2", "LOCAL_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        script = Path(__file__).with_name("rank_forker.py")
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, str(script), "--job", str(run / "job.json")],
                env=self._shared,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def start(self) -> list[int]:
        """Pids of the ranks."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        each = [{"RANK": r, "LOCAL_RANK": r, "MASTER_PORT": port} for r in ("0", "1")]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(each) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def told(self) -> str:
        return self._log.read_text()[-3000:]

    def __enter__(self) -> "Forker":
        return self

    def __exit__(self, *_: object) -> None:
        kill_tree(self._process.pid)
        self._process.wait()


def kill_once(run: Path, forker: Forker, rng: random.Random, aim_at_save: bool) -> bool:
    """Start both ranks, kill them when they have gone on, and say whether a save was cut off."""
    saved = max(last_step(run), max(steps(run / "checkpoints")))
    ranks = forker.start()
    wait_until(lambda: last_step(run) > saved or not all_alive(ranks))
    time.sleep(rng.uniform(0, 0.15))
    if aim_at_save:
        wait_until(lambda: staging(run) or not all_alive(ranks))
        time.sleep(rng.uniform(0, 0.004))
    assert all_alive(ranks), forker.told()
    for pid in ranks if rng.random() < 0.7 else [rng.choice(ranks)]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(psutil.pid_exists, ranks)))  # the other one notices by itself
    return staging(run)


def last_step(run: Path) -> int:
    rows = read_metrics(run / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


def all_alive(ranks: list[int]) -> bool:
    return all(map(psutil.pid_exists, ranks))


def staging(run: Path) -> bool:
    return any(p.name.endswith(".incomplete") for p in (run / "checkpoints").iterdir())


def wait_until(condition: Callable[[], bool]) -> None:
    """Far longer than any machine needs: whoever waits for a rank looks whether it is alive."""
    for _ in range(1_200_000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError("waited twenty minutes in vain")


@pytest.fixture
def one_rank() -> Iterator[None]:
    with joined():
        yield


@pytest.mark.slow
@pytest.mark.parametrize("zero", [1, 2, 3])
@pytest.mark.usefixtures("one_rank")
def test_other_numbers_of_ranks_in_the_middle(
    zero: int,
    tiny: Path,
    tmp_path: Path,
    alloy: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One rank, then two, then one: each stretch is an extension of the run before it."""

    def part(name: str, length: int, ranks: int) -> dict[str, Any]:
        raw = {"zero_optimization": {"stage3_param_persistence_threshold": 0}} if zero == 3 else {}
        keys = {"zero": zero, "ranks": ranks, "deepspeed": raw}
        tree = recipe(tiny, tmp_path, name, length, **keys)
        tree["schedule"] |= {"warmup": 0.0, "anneal": 0.0}
        return tree

    whole = train_here(part("whole", 36, 1), monkeypatch)
    train_here(part("cut", 12, 1), monkeypatch)
    spoiled = copied_without_moments(tmp_path / "cut", tmp_path / "spoiled")
    trained(alloy, part("cut", 24, 2))
    run = train_here(part("cut", 36, 1), monkeypatch)
    expected, found = rows_of(whole, "loss"), rows_of(run, "loss")
    for first in (12, 24):
        assert found[first] == pytest.approx(expected[first], abs=REPLAY_TOLERANCE)
        later = slice(first, first + 11)
        assert found[later] == pytest.approx(expected[later], abs=NEXT_TOLERANCE)
    assert json.loads((run / "plan.json").read_text()) == json.loads(
        (whole / "plan.json").read_text()
    )
    # The figures would tell: without moments the losses go elsewhere.
    train_here(part("spoiled", 24, 1), monkeypatch)
    other = rows_of(spoiled, "loss")[12:23]
    assert other[0] == pytest.approx(expected[12], abs=REPLAY_TOLERANCE)
    assert other != pytest.approx(expected[12:23], abs=NEXT_TOLERANCE)


def copied_without_moments(run: Path, target: Path) -> Path:
    """A copy of a run whose newest checkpoint verifies, and has moments of zero."""
    subprocess.run(["cp", "-r", run, target], check=True)
    path = target / "checkpoints" / step_name(max(steps(target / "checkpoints")))
    manifest = json.loads((path / MANIFEST).read_text())
    for file in path.glob("tensors_*.safetensors"):
        kept = {n: t if n.startswith(WEIGHTS) else t * 0 for n, t in load_file(file).items()}
        save_file(kept, file)
        manifest["files"][file.name] = describe(file)
    write_json(path / MANIFEST, manifest)
    return target


@pytest.mark.usefixtures("one_rank")
def test_weights_that_did_not_come_back_are_noticed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stored batch is run again at every resume."""
    tree = recipe(tiny, tmp_path, "run", 6, ranks=1)
    tree["schedule"] |= {"warmup": 0.0, "anneal": 0.0}
    run = train_here(tree, monkeypatch)
    path = run / "checkpoints" / step_name(6)
    manifest = json.loads((path / MANIFEST).read_text())
    file = path / "tensors_00000.safetensors"
    save_file({n: t * 1.01 for n, t in load_file(file).items()}, file)
    manifest["files"][file.name] = describe(file)
    write_json(path / MANIFEST, manifest)
    tree["schedule"]["tokens"] *= 2
    with pytest.raises(CheckFailed, match="rows 46 to 47 had a loss of"):
        train_here(tree, monkeypatch)


def test_replay_tolerates_what_other_kernels_round() -> None:
    stored = {"first": 0, "rows": 2, "loss": 3.0}
    require_same(stored, {**stored, "loss": 3.000005}, "fp32", "x")
    require_same(stored, {**stored, "loss": 3.005}, "bf16", "x")
    for loss, precision in ((3.0001, "fp32"), (3.1, "bf16"), (float("nan"), "fp32")):
        with pytest.raises(CheckFailed):
            require_same(stored, {**stored, "loss": loss}, precision, "x")


def test_a_full_disk_is_said_and_loses_nothing(
    twenty: Path, tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """A limit on the size of files stands for the disk: checkpoints are over it, logs are not."""
    tree = recipe(tiny, tmp_path, "cut", 20, checkpoint_tokens=5 * STEP_TOKENS)
    path = write_recipe(tmp_path / "cut.yaml", tree)
    process = subprocess.Popen([ALLOY, "train", str(path)], stderr=subprocess.PIPE, text=True)
    # Not in preexec_fn: that forks this process, whose memory is large by now.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (60_000, 60_000))
    _, told = process.communicate(timeout=1200)
    assert process.returncode == 1, told
    assert "could not write" in told
    assert "no step yet" in told
    assert "Traceback" not in told
    assert steps(tmp_path / "cut/checkpoints") == []
    trained(alloy, tree)
    assert rows_of(tmp_path / "cut", "loss") == rows_of(twenty, "loss")


@pytest.mark.slow
def test_a_rank_that_hangs_is_named(tiny: Path, tmp_path: Path) -> None:
    """A minute of patience: on a busy machine ranks start that far apart without hanging."""
    tree = recipe(tiny, tmp_path, "run", 20_000, timeout_minutes=1)
    for source in tree["data"]["sources"]:
        source["max_epochs"] = 100_000
    path = write_recipe(tmp_path / "run.yaml", tree)
    process = subprocess.Popen([ALLOY, "train", str(path)], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(read_metrics(tmp_path / "run/metrics.jsonl")) > 3)
    inside = psutil.Process(process.pid).children(recursive=True)
    victim = next(p for p in inside if p.environ().get("RANK") == "1")
    victim.suspend()
    _, told = process.communicate(timeout=1200)
    assert process.returncode == 1
    assert "rank 1 hangs or is gone: the others waited 1 minutes" in told
    # Under torchrun and Slurm nobody waits at a command line: it is in the log too.
    assert "[rank0]: rank 1 hangs or is gone" in (tmp_path / "run/train.log").read_text()
