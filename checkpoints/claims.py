"""Checkpoints that other runs are about to start from: they stay until those have their own.

A note a branch lies in its parent's folder, where the parent looks before it removes a checkpoint.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from checkpoints.folder import steps, write_json

_NOTES = "branches"


def claim(parent: Path, step: int, branch: Path) -> None:
    """Leave word that ``branch``, a run's folder, starts from this step of the run ``parent``.

    Raises OSError where the parent's folder takes no files.
    """
    notes = parent / _NOTES
    notes.mkdir(exist_ok=True)
    branch = branch.resolve()
    name = hashlib.sha256(str(branch).encode()).hexdigest()[:16]
    write_json(notes / f"{name}.json", {"run": str(branch), "step": step})


def claimed_steps(parent: Path) -> set[int]:
    """Steps that branches start from which are there and have saved nothing yet."""
    notes = [_read(path) for path in (parent / _NOTES).glob("*.json")]
    return {n["step"] for n in notes if n is not None and _waits(Path(n["run"]))}


def _read(note: Path) -> dict[str, Any] | None:
    try:
        return json.loads(note.read_text("utf-8"))
    except (OSError, ValueError):  # somebody changed it: no reason to end a run that trains
        return None


def _waits(branch: Path) -> bool:
    try:
        return branch.is_dir() and not steps(branch / "checkpoints")
    except OSError:  # not to be looked into from here, as another user's: it may still wait
        return True
