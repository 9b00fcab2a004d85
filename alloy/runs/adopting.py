"""Begins a run with the checkpoint of another that has the same first steps.

run of an arm, its checkpoint ─▶ begin_from ─▶ a new run folder, to be resumed
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from checkpoints import (
    Checkpoint,
    begin,
    identity,
    open_checkpoint,
    problems,
    read_json,
    step_name,
    steps,
    sync_folder,
    write_json,
)
from mixing.blend import Plan
from pretrain.run_folder import RECIPE, read_metrics

SHARED = "shared.json"


def begin_from(run: Path, trunk: Path, plan: Plan, most_steps: int) -> int:
    """Let the new run folder ``run`` begin with steps that ``trunk`` has trained.

    Takes the newest good checkpoint of ``trunk`` with at most ``most_steps`` steps whose past is
    that of ``plan``, and the rows of metrics.jsonl up to it. A run that began already is left as
    it is. Returns the steps that the run shares, 0 where there is nothing to take.
    """
    if (run / RECIPE).is_file() or steps(run / "checkpoints"):
        told = shared(run)
        return 0 if told is None else told["step"]
    found = _newest(trunk / "checkpoints", plan, most_steps)
    if found is None:
        return 0
    run.mkdir(parents=True, exist_ok=True)
    rows = [row for row in read_metrics(trunk / "metrics.jsonl") if row["step"] <= found.step]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "metrics.jsonl").write_text(text, encoding="utf-8")
    told = {"run": str(trunk), "step": found.step, "manifest_sha256": identity(found)}
    write_json(run / SHARED, told)
    _link(found, run / "checkpoints")  # last: a kill before it leaves a run that has not begun
    return found.step


def shared(run: Path) -> dict[str, Any] | None:
    """Where the first steps of a run were trained, if not in it: run, step, manifest's hash."""
    path = run / SHARED
    return read_json(path) if path.is_file() else None


def _newest(root: Path, plan: Plan, most_steps: int) -> Checkpoint | None:
    for step in reversed([s for s in steps(root) if s <= most_steps]):
        if problems(root / step_name(step)):
            continue
        found = open_checkpoint(root / step_name(step), deep=False)
        position = step * plan.batch_rows
        if found.state["position"] == position and (
            found.state["past_hash"] == plan.past_hash(position)
        ):
            return found
    return None


def _link(checkpoint: Checkpoint, root: Path) -> None:
    """Publish the files of a checkpoint under ``root`` too; they are never written again."""
    root.mkdir(parents=True, exist_ok=True)
    staging = begin(root, checkpoint.step)
    for file in checkpoint.path.iterdir():
        try:
            os.link(file, staging / file.name)
        except OSError:  # a file system without hard links: the same bytes, twice
            shutil.copyfile(file, staging / file.name)
    sync_folder(staging)
    staging.rename(root / step_name(checkpoint.step))
    sync_folder(root)
