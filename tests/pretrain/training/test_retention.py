"""What stays of a run's checkpoints: after kills, damage and full disks."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from model_folders import publish
from one_rank import joined, train_and_stop, train_here
from tiny import tiny_recipe

from checkpoints import folder
from checkpoints.folder import problems, step_name, steps

STEP_TOKENS = 8 * 32


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


def recipe(tiny: Path, home: Path, count: int) -> dict[str, Any]:
    """``count`` steps, each saved, two kept."""
    train = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 4}
    train |= {"checkpoint_tokens": STEP_TOKENS, "keep_last": 2}
    lengths = {"tokens": count * STEP_TOKENS, "batch_tokens": STEP_TOKENS}
    schedule = {**lengths, "peak_lr": 0.003, "warmup": 0.0, "anneal": 0.0}
    return {**tiny_recipe(tiny, home, train=train, schedule=schedule), "name": "run"}


def damage(root: Path, step: int) -> None:
    path = root / step_name(step) / "tensors_00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def good(root: Path) -> list[int]:
    return [step for step in steps(root) if not problems(root / step_name(step))]


def test_a_folder_without_manifest_does_not_stop_a_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = train_and_stop(recipe(tiny, tmp_path, 5), monkeypatch, after=2)
    (root / step_name(1) / folder.MANIFEST).unlink()
    train_here(recipe(tiny, tmp_path, 5), monkeypatch)
    assert steps(root) == good(root) == [3, 4, 5]


def test_a_kill_while_deleting_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, 1)
    publish(tmp_path, 2)

    def killed(path: Path) -> None:
        next(Path(path).iterdir()).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.discard(tmp_path / step_name(1))
    assert steps(tmp_path) == [2]
    # Deleting a step of that name again has to get past what the kill left.
    publish(tmp_path, 1)
    folder.discard(tmp_path / step_name(1))
    assert [path.name for path in tmp_path.iterdir()] == [step_name(2)]


@pytest.mark.parametrize("damaged", [(4, 5), (5,)])
def test_damaged_checkpoints_do_not_push_good_ones_out(
    damaged: tuple[int, ...], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = recipe(tiny, tmp_path, 9)
    root = train_and_stop(tree, monkeypatch, after=5)
    assert steps(root) == [4, 5]
    for step in damaged:
        damage(root, step)
    # Saves the first step after what was good, as the signal comes at once.
    train_and_stop(tree, monkeypatch, after=1)
    assert good(root) == ([1] if len(damaged) == 2 else [4, 5])
    train_and_stop(tree, monkeypatch, after=1)
    assert steps(root) == good(root) == ([1, 2] if len(damaged) == 2 else [5, 6])


def test_what_kills_left_unfinished_goes_with_the_next_start(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = recipe(tiny, tmp_path, 4)
    root = train_and_stop(tree, monkeypatch, after=2)
    # A save that was killed on another rank count, a deletion that was, and what is not Alloy's.
    (folder.begin(root, 3) / "tensors_00001.safetensors").write_bytes(bytes(3_000_000))
    (root / "step_000000001.removed.incomplete").mkdir()
    (root / "mine.incomplete").mkdir()
    (root / "step_000000009.incomplete").write_text("a file")
    train_and_stop(tree, monkeypatch, after=1)
    assert sorted(p.name for p in root.iterdir()) == [
        "mine.incomplete",
        *("step_000000002", "step_000000003", "step_000000009.incomplete"),
    ]
    told = "removed what a kill or a full disk left unfinished: step_000000001.removed.incomplete"
    assert f"{told}, step_000000003.incomplete (3.0 MB)" in capsys.readouterr().out
