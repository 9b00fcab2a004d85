"""What a run takes of disk and memory, told from its plan and its base without loading a model."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from alloy.models import local_model
from alloy.planning.starting import StartPoint, run_folder
from checkpoints import Checkpoint, chosen, is_alloy, read_header, weight_files
from configs import Recipe, Train
from mixing.blend import Plan
from pretrain.model import states
from pretrain.training import stage_ends, steps_apart

_WEIGHT_BYTES = 4
_CHECKPOINT_BYTES = 12
"""Of a weight in fp32, alone and with both moments."""
_GB = 10**9


@dataclass(frozen=True)
class DiskUse:
    """What a run writes, in bytes."""

    weights: int
    """How many there are."""
    checkpoint_bytes: int
    checkpoints: int
    """Most that are there at once."""
    export_bytes: int
    bytes: int
    """Of the whole run folder, at most."""
    free_bytes: int
    """Of the disk, now."""

    def lines(self, arms: int = 0) -> list[str]:
        """For people, of all ``arms`` of a sweep; with a warning where the disk has less."""
        size, checkpoint, export, free = (
            f"{size / _GB:,.3g} GB"
            for size in (self.bytes, self.checkpoint_bytes, self.export_bytes, self.free_bytes)
        )
        line = (
            f"disk: {size} at most: checkpoints of {checkpoint}, {self.checkpoints} at once, and "
            f"the export of {export}"
        )
        if arms:
            line += f"; about {arms * self.bytes / _GB:,.3g} GB for {arms} arms"
        short = self.free_bytes < max(1, arms) * self.bytes
        return [line, *([f"warning: {free} are free there"] if short else [])]


@dataclass(frozen=True)
class RankMemory:
    """What a rank holds beside activations, in bytes; see ``pretrain.model.States``."""

    weights: int
    gradients: int
    optimizer: int
    bucket: int
    on_host: int
    device: int

    def line(self, ranks: int) -> str:
        """For people; ``ranks`` of all machines."""
        of = {name: f"{size / _GB:,.3g} GB" for name, size in asdict(self).items()}
        line = (
            f"memory: {of['device']} of each of {ranks} ranks beside activations: "
            f"weights {of['weights']}, gradients {of['gradients']}, AdamW {of['optimizer']}"
        )
        line += f", DeepSpeed's bucket {of['bucket']}" if self.bucket else ""
        return line + (f"; {of['on_host']} more in the host's" if self.on_host else "")


def disk_use(recipe: Recipe, weights: int | None, plan: Plan) -> DiskUse | None:
    """What the checkpoints and the export of a run take; None where ``weights`` is."""
    if weights is None:
        return None
    pinned = set(stage_ends(plan))
    loose = set(steps_apart(plan, recipe.train.checkpoint_tokens)) - pinned
    # The one that is being written is there before the oldest goes.
    kept = len(pinned) + min(recipe.train.keep_last + 1, len(loose))
    checkpoint, export = _CHECKPOINT_BYTES * weights, _WEIGHT_BYTES * weights
    return DiskUse(
        weights=weights,
        checkpoint_bytes=checkpoint,
        checkpoints=kept,
        export_bytes=export,
        bytes=kept * checkpoint + export,
        free_bytes=_free(run_folder(recipe)),
    )


def rank_memory(weights: int | None, train: Train) -> RankMemory | None:
    """What one rank holds; None where ``weights`` is."""
    if weights is None:
        return None
    held = states(weights, train)
    return RankMemory(**asdict(held), device=held.device)


def weights_of(start: StartPoint, reached: Checkpoint | None) -> int | None:
    """How many weights a run begins with, from the headers of files. ``reached`` is as in
    ``start_matrix.start_cell``.

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
    found = local_model(base.model, base.revision, weights=False)
    fetched = any(found.glob("*.safetensors"))
    return weight_files(found).numel if fetched else None


def _of_checkpoint(checkpoint: Checkpoint) -> int:
    files = checkpoint.path.glob("*.safetensors")
    tensors = (pair for path in files for pair in read_header(path).items())
    return sum(header.numel for name, header in tensors if name.startswith("weights/"))


def _free(run: Path) -> int:
    there = next(p for p in (run.absolute(), *run.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free
