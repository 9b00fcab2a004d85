"""Checkpoints of a run: gather from all ranks, write, publish, retain."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors import SafetensorError
from transformers import GenerationConfig, PretrainedConfig
from transformers.utils import GENERATION_CONFIG_NAME

import checkpoints
from checkpoints import claimed_steps, to_delete
from configs import CheckFailed
from pretrain.engine import Engine
from pretrain.training.watch import say


@dataclass(frozen=True)
class Saver:
    """Where and how a run's checkpoints are kept."""

    root: Path
    pinned: Collection[int]
    keep_last: int
    config: PretrainedConfig
    generation: GenerationConfig | None
    abandoned: set[int]
    """Steps of damaged checkpoints, newer than the one that this start goes on from."""

    def save(self, engine: Engine, step: int, state: dict[str, Any]) -> None:
        """All ranks together: write the checkpoint of ``step`` steps done, and publish it."""
        rank, ranks = dist.get_rank(), dist.get_world_size()
        staging = self.root / (checkpoints.step_name(step) + ".incomplete")
        if rank == 0:
            staging = checkpoints.begin(self.root, step)
        dist.barrier()
        numel = {name: _numel(p) for name, p in engine.names.items()}
        owner = checkpoints.owners(numel, ranks)
        mine = {name for name, by in owner.items() if by == rank}
        path = staging / checkpoints.file_name(rank)
        owned = dict(engine.export_state(mine)) | (engine.buffers() if rank == 0 else {})
        try:
            checkpoints.write_tensors(path, owned)
        except (OSError, SafetensorError) as error:
            path.unlink(missing_ok=True)
            raise disk_full(str(error), self.root) from None
        entries: list[Any] = [None] * ranks
        dist.all_gather_object(entries, (path.name, checkpoints.describe(path)))
        if rank == 0:
            files = {**dict(entries), **self._write_configs(staging)}
            more = {"adam_step": engine.adam_step(), "pinned": step in self.pinned}
            checkpoints.commit(staging, step, files, {**state, **more})
            self._retain(step)
        dist.barrier()

    def _write_configs(self, staging: Path) -> dict[str, dict[str, Any]]:
        self.config.save_pretrained(staging)
        names = ["config.json"]
        if self.generation is not None:  # not validated: some published ones are odd
            self.generation.to_json_file(staging / GENERATION_CONFIG_NAME)
            names.append(GENERATION_CONFIG_NAME)
        return {name: checkpoints.describe(staging / name) for name in names}

    def _retain(self, saved: int) -> None:
        self.abandoned.discard(saved)
        # An extended run has other stage ends: those of before stay too.
        pinned = {
            *self.pinned,
            *checkpoints.pinned_steps(self.root),
            *claimed_steps(self.root.parent),
        }
        there = checkpoints.steps(self.root)
        for step in to_delete(there, pinned, self.keep_last, self.abandoned):
            checkpoints.discard(self.root / checkpoints.step_name(step))
            if step in self.abandoned:
                say(f"removed the damaged checkpoint of step {step}: saved anew at step {saved}")


def disk_full(reason: str, root: Path) -> CheckFailed:
    """The error for a file that could not be written; what was saved before is still there."""
    kept = checkpoints.steps(root)
    last = f"step {kept[-1]}" if kept else "no step yet"
    return CheckFailed(
        f"{root.parent}: could not write: {reason}; the newest checkpoint is of {last}",
        "make room and run it again: it goes on from there",
    )


def load_moments(engine: Engine, checkpoint: checkpoints.Checkpoint) -> None:
    """Give the engine the moments and the Adam step of a checkpoint."""
    for kind in (checkpoints.EXP_AVG, checkpoints.EXP_AVG_SQ):
        # One at a time: every rank reads them all, and the whole would be twice the fp32 model.
        moments = checkpoints.read_tensors(checkpoint, kind)
        engine.import_moments(kind, moments, checkpoint.state["adam_step"])


def _numel(parameter: Any) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))
