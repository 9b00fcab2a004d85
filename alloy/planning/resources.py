"""What a run takes of disk and memory, told from its plan and its base without loading a model."""

import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alloy.models import local_model
from alloy.planning.starting import StartPoint, run_folder
from checkpoints import Checkpoint, chosen, is_alloy
from configs import Recipe, Train
from mixing.blend import Plan
from pretrain.model import states
from pretrain.training import stage_ends, steps_apart

_WEIGHT_BYTES = 4
_CHECKPOINT_BYTES = 12
"""Of a weight in fp32, alone and with both moments."""
_GB = 10**9


def footprint(recipe: Recipe, weights: int | None, plan: Plan) -> dict[str, Any] | None:
    """Bytes of a checkpoint, how many are there at once, bytes of the run in the end at most; None
    where ``weights`` is."""
    if weights is None:
        return None
    pinned = set(stage_ends(plan))
    loose = set(steps_apart(plan, recipe.train.checkpoint_tokens)) - pinned
    # The one that is being written is there before the oldest goes.
    kept = len(pinned) + min(recipe.train.keep_last + 1, len(loose))
    checkpoint = _CHECKPOINT_BYTES * weights
    return {
        "weights": weights,
        "checkpoint_bytes": checkpoint,
        "checkpoints": kept,
        "export_bytes": _WEIGHT_BYTES * weights,
        "bytes": kept * checkpoint + _WEIGHT_BYTES * weights,
        "free_bytes": _free(run_folder(recipe)),
    }


def rank_memory(weights: int | None, train: Train) -> dict[str, int] | None:
    """Bytes of ``pretrain.model.States``, and of the device; None where ``weights`` is."""
    if weights is None:
        return None
    held = states(weights, train)
    return {**asdict(held), "device": held.device}


def memory_lines(memory: dict[str, int] | None, train: Train) -> list[str]:
    """What a rank holds, for people."""
    if memory is None:
        return []
    of = {key: f"{bytes_ / _GB:,.3g} GB" for key, bytes_ in memory.items()}
    line = (
        f"memory: {of['device']} of each of {train.nodes * train.ranks} ranks beside activations: "
        f"weights {of['weights']}, gradients {of['gradients']}, AdamW {of['optimizer']}"
    )
    line += f", DeepSpeed's bucket {of['bucket']}" if memory["bucket"] else ""
    return [line + (f"; {of['on_host']} more in the host's" if memory["on_host"] else "")]


def disk_lines(disk: dict[str, Any] | None, arms: int = 0) -> list[str]:
    """The footprint for people, of all arms of a sweep; with a warning where the disk has less."""
    if disk is None:
        return []
    size, checkpoint, export, free = (
        f"{disk[key] / _GB:,.3g} GB"
        for key in ("bytes", "checkpoint_bytes", "export_bytes", "free_bytes")
    )
    line = (
        f"disk: {size} at most: checkpoints of {checkpoint}, {disk['checkpoints']} at once, and "
        f"the export of {export}"
    )
    if arms:
        total = arms * disk["bytes"] / _GB
        line += f"; about {total:,.3g} GB for {arms} arms"
    short = disk["free_bytes"] < max(1, arms) * disk["bytes"]
    return [line, *([f"warning: {free} are free there"] if short else [])]


def weights_of(start: StartPoint, reached: Checkpoint | None) -> int | None:
    """How many weights a run begins with, from the headers of files. ``reached`` is as in
    ``start_matrix.described``.

    None where that is not known: random weights of which no checkpoint is there, and a hub model
    whose weights are not on this machine.
    """
    if reached is not None:
        return _of_checkpoint(reached)
    base = start.base
    if base is None or base.model is None:
        return None
    folder = Path(base.model)
    if is_alloy(folder):
        return _of_checkpoint(chosen(folder, base.step, deep=False))
    stored = sorted(local_model(base.model, base.revision, weights=False).glob("*.safetensors"))
    return sum(_numbers(stored)) if stored else None


def _of_checkpoint(checkpoint: Checkpoint) -> int:
    return sum(_numbers(checkpoint.path.glob("*.safetensors"), prefix="weights/"))


def _numbers(files: Iterable[Path], prefix: str = "") -> Iterable[int]:
    """How many numbers each tensor has that is named so, from the headers alone."""
    for path in files:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, entry in header.items():
            if name.startswith(prefix) and name != "__metadata__":
                yield math.prod(entry["shape"])


def _free(run: Path) -> int:
    there = next(p for p in (run.absolute(), *run.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free
