"""`alloy export` of what is not there, onto a full disk, and through a power cut."""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from one_rank import joined, train_here
from tiny import tiny_recipe

from alloy.commands.export import command
from alloy.planning.tokenizing import trained_tokenizer
from checkpoints.export import export_folder
from checkpoints.folder import chosen, step_name
from configs import CheckFailed, UserError
from pretrain.model.model import model_from

_BYTES = 40_000


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run of 12 steps that tests only read."""
    with joined(), pytest.MonkeyPatch.context() as patch:
        train = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 4}
        yield train_here(tiny_recipe(tiny, tmp_path_factory.mktemp("run"), train=train), patch)


@contextmanager
def small_files() -> Iterator[None]:
    """Files end at _BYTES, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def export(run: Path, out: Path) -> None:
    assert command.callback is not None
    command.callback(run=run, out=out, step=None, average=None)


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no good checkpoint"):
        export(tmp_path / "none", tmp_path / "out")


@pytest.mark.parametrize("name", ["{run}", "{run}/checkpoints/{step}", "linked/{step}"])
def test_a_run_and_its_checkpoint_give_the_same(name: str, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "linked").symlink_to(tmp_path / "run/checkpoints")
    named = tmp_path / name.format(run="run", step=step_name(12))
    if name.startswith("linked"):  # the run's checkpoints lie on another disk
        (tmp_path / "run/checkpoints").rename(tmp_path / "disk")
        (tmp_path / "run/checkpoints").symlink_to(tmp_path / "disk")
        named = tmp_path / "run/checkpoints" / step_name(12)
    export(named, tmp_path / "out")
    for file in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "out" / file).read_bytes() == (run / "export" / file).read_bytes()


def test_a_checkpoint_without_its_run_is_refused(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "kept" / step_name(12)
    shutil.copytree(run / "checkpoints" / step_name(12), alone)
    with pytest.raises(UserError, match="no job"):
        export(alone, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with small_files(), pytest.raises(CheckFailed, match="out: could not write: ") as told:
        export(run, tmp_path / "out")
    assert "make room" in told.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_every_file_is_on_disk_before_it_is_published(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[Path] = set()
    seen: list[set[Path]] = []
    fsync, rename = os.fsync, Path.rename

    def recorded(handle: int) -> None:
        flushed.add(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def publish(self: Path, target: Path) -> Path:
        seen.append({self, *self.rglob("*")} - flushed)
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(Path, "rename", publish)
    export_folder(model_from(chosen(run)), trained_tokenizer(run), tmp_path / "out")
    assert seen == [set()]
