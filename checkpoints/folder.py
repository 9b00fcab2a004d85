"""A checkpoint folder: staged, hashed and renamed, so that "exists" means "complete".

The name holds the step and the manifest is written last, inside the staging folder; the rename
publishes everything at once. There is no pointer file beside the folders that could disagree
with them: the newest folder that verifies is the newest checkpoint.
"""

import hashlib
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from configs import UserError

MANIFEST = "manifest.json"
JOB = "job.json"
"""In the folder of a run, above its checkpoints: what its ranks were told."""
FORMAT = 1
_READERS = 8  # files of a checkpoint that are hashed at once
_NAME = re.compile(r"^step_(\d{9})$")
_STAGING = ".incomplete"
_GOING = ".removed" + _STAGING
_UNFINISHED = re.compile(r"^step_\d{9}(\.removed)?\.incomplete$")


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint: its folder and the state in its manifest."""

    path: Path
    step: int
    state: dict[str, Any]


def step_name(step: int) -> str:
    return f"step_{step:09d}"


def begin(root: Path, step: int) -> Path:
    """Make the empty staging folder of a step; a half-written earlier try is removed."""
    staging = root / (step_name(step) + _STAGING)
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    return staging


def discard(path: Path) -> None:
    """Remove a checkpoint: no half one is ever seen under its name, whenever a kill comes."""
    going = path.with_name(path.name + _GOING)
    if going.exists():
        shutil.rmtree(going)
    path.rename(going)
    shutil.rmtree(going)


def remove_unfinished(root: Path) -> str | None:
    """Remove what kills left unfinished, written or deleted in part; what it was, for people.

    Only for who holds the run: nobody else may be writing there.
    """
    entries = sorted(root.iterdir()) if root.is_dir() else []
    left = [path for path in entries if _UNFINISHED.match(path.name) and path.is_dir()]
    size = sum(f.stat().st_size for path in left for f in path.rglob("*") if f.is_file())
    for path in left:
        shutil.rmtree(path)
    return f"{', '.join(p.name for p in left)} ({size / 1e6:,.1f} MB)" if left else None


def describe(path: Path) -> dict[str, Any]:
    """Flush a file to disk and return its size in bytes and sha256."""
    sync_folder(path)
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path, given_up: Event | None = None) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while (block := file.read(1 << 22)) and not (given_up is not None and given_up.is_set()):
            digest.update(block)
    return digest.hexdigest()


def commit(
    staging: Path, step: int, files: dict[str, dict[str, Any]], state: dict[str, Any]
) -> Path:
    """Write the manifest last, flush, and publish by one rename."""
    manifest = {"format": FORMAT, "step": step, "state": state, "files": files}
    write_json(staging / MANIFEST, manifest)
    final = staging.parent / step_name(step)
    if final.exists():  # a damaged one that was refused and trained again
        discard(final)
    staging.rename(final)
    sync_folder(final.parent)
    return final


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically and durably."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def share_as_folder(file: Path) -> None:
    """Let read a file who may read its folder: safetensors writes for its owner alone."""
    file.chmod(file.parent.stat().st_mode & 0o666)


def read_json(path: Path) -> Any:
    """What ``write_json`` wrote. Raises UserError for a file that is none, or not all, of that."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # a character that is no UTF-8, too
        raise UserError(
            f"{path}: not JSON: {error}",
            "it was written whole: put back a copy, or give the run another name",
        ) from None


def sync_tree(path: Path) -> None:
    """Flush a folder and all in it to disk, for files that others wrote."""
    for below in path.rglob("*"):
        sync_folder(below)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Flush a folder, or a file, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def problems(path: Path, deep: bool = True) -> list[str]:
    """What is wrong with a published checkpoint, each line naming the file; empty: good.

    ``deep`` also compares contents with their sha256, which reads every byte.
    """
    manifest = _manifest(path)
    if manifest is None:
        return [f"{path / MANIFEST}: missing or not JSON"]
    given_up = Event()

    def check(name: str) -> str | None:
        file, entry = path / name, manifest["files"][name]
        if not file.is_file():
            return f"{file}: missing"
        if file.stat().st_size != entry["bytes"]:
            return f"{file}: {file.stat().st_size} bytes, not {entry['bytes']}"
        if deep and _sha256(file, given_up) != entry["sha256"]:
            return f"{file}: content differs from its sha256"
        return None

    with ThreadPoolExecutor(_READERS) as pool:
        try:
            return [line for line in pool.map(check, sorted(manifest["files"])) if line]
        finally:
            given_up.set()  # an interrupted command does not read on to the ends of large files


def steps(root: Path) -> list[int]:
    """Steps of the published checkpoints, ascending; staging folders do not count."""
    if not root.is_dir():
        return []
    matches = (_NAME.match(p.name) for p in root.iterdir() if p.is_dir())
    return sorted(int(m[1]) for m in matches if m)


def open_checkpoint(path: Path, deep: bool = True) -> Checkpoint:
    """Open one checkpoint after verifying it as ``problems`` does."""
    wrong = problems(path, deep)
    if wrong:
        raise UserError(f"damaged checkpoint: {wrong[0]}", "take an earlier one of the same run")
    manifest = _manifest(path)
    assert manifest is not None
    return Checkpoint(path, manifest["step"], manifest["state"])


def identity(checkpoint: Checkpoint) -> str:
    """sha256 of the manifest, which holds the sha256 of every file: the checkpoint's hash."""
    return hashlib.sha256((checkpoint.path / MANIFEST).read_bytes()).hexdigest()


def last_good(root: Path, deep: bool = True) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that verifies, and what was wrong with the newer ones."""
    refused: list[str] = []
    for step in reversed(steps(root)):
        path = root / step_name(step)
        wrong = problems(path, deep)
        if not wrong:
            return open_checkpoint(path, deep=False), refused
        refused.extend(wrong)
    return None, refused


def chosen(folder: Path, step: int | None = None, deep: bool = True) -> Checkpoint:
    """The checkpoint of ``step`` of a run folder, its newest good one where no step is given, or
    the checkpoint that ``folder`` itself is. Without ``deep`` sizes are looked at, not contents.

    Raises UserError where there is none, and where the one asked for is damaged.
    """
    if (folder / MANIFEST).is_file():
        found = open_checkpoint(folder, deep)
        if step not in (None, found.step):
            raise UserError(f"{folder} is step {found.step}, not {step}", "name the run's folder")
        return found
    root = folder / "checkpoints"
    if step is not None:
        if step not in steps(root):
            there = ", ".join(map(str, steps(root))) or "none"
            raise UserError(f"{folder} has no checkpoint of step {step}", f"there are: {there}")
        return open_checkpoint(root / step_name(step), deep)
    return newest(folder, deep)[0]


def newest(folder: Path, deep: bool = True) -> tuple[Checkpoint, list[str]]:
    """``chosen`` without a step, and what was wrong with the newer checkpoints."""
    if (folder / MANIFEST).is_file():
        return open_checkpoint(folder, deep), []
    found, refused = last_good(folder / "checkpoints", deep)
    if found is None:
        detail = f" ({refused[0]})" if refused else ""
        raise UserError(f"{folder}: no good checkpoint{detail}", "give the folder of a trained run")
    return found, refused


def run_of(folder: Path) -> Path:
    """The folder of the run, of that itself or of one of its checkpoints."""
    # Not resolved: the checkpoints of a run may be a link to another disk.
    path = Path(os.path.abspath(folder))
    return path.parents[1] if (path / MANIFEST).is_file() else path


def pinned_steps(root: Path) -> set[int]:
    """Steps of the published checkpoints that were saved to stay."""
    manifests = {step: _manifest(root / step_name(step)) for step in steps(root)}
    return {s for s, m in manifests.items() if m is not None and m["state"].get("pinned")}


def is_alloy(folder: Path) -> bool:
    """Whether a folder is an Alloy run or one of its checkpoints, not a Hugging Face folder."""
    known = (folder / name for name in (MANIFEST, JOB))  # the job stays where checkpoints are gone
    return any(path.is_file() for path in known) or bool(steps(folder / "checkpoints"))


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    whole = isinstance(value, dict) and {"format", "step", "state", "files"} <= value.keys()
    return value if whole and value["format"] == FORMAT else None
