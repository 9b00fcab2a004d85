"""New models without training: between base and trained, a residual added, a mean of checkpoints.

folders, hub ids, runs ─▶ fp32 weights by name ─▶ merge ─▶ Hugging Face folder, reloaded

Buffers are no weights and are not mixed: a merge has those of the trained model, a mean those of
its newest checkpoint.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from alloy.hub import local_model
from alloy.tokenizing import trained_tokenizer
from checkpoints.export import export_folder
from checkpoints.folder import (
    Checkpoint,
    chosen,
    identity,
    is_alloy,
    problems,
    step_name,
    steps,
    write_json,
)
from checkpoints.merge import Weights, between, mean, residual
from configs import UserError
from pretrain.model import model_from, pretrained_model

RECORD = "merge.json"


@dataclass(frozen=True)
class Part:
    """A model that goes into a merge."""

    name: str
    model: PreTrainedModel
    tokenizer: str
    origin: dict[str, Any]
    """What it was, for the record."""

    @property
    def weights(self) -> Weights:
        return {name: p.detach() for name, p in self.model.named_parameters()}


def open_part(name: str, revision: str | None = None) -> Part:
    """A run (its newest good checkpoint), one of its checkpoints, a Hugging Face folder or a hub
    id, in fp32."""
    if is_alloy(Path(name)):
        checkpoint = chosen(Path(name))
        model = model_from(checkpoint)
        return Part(name, model, trained_tokenizer(checkpoint.path), _origin(name, checkpoint))
    folder = local_model(name, revision, weights=True)
    return Part(
        name, pretrained_model(str(folder)), str(folder), {"model": name, "revision": revision}
    )


def merge_between(base: Part, trained: Part, share: float, out: Path) -> dict[str, Any]:
    """Write base + share x (trained - base) to ``out``; the record of what went in."""
    merged = between(base.weights, trained.weights, share)
    record = {"how": "between", "lambda": share, "base": base.origin, "trained": trained.origin}
    return _written(trained.model, merged, trained.tokenizer, record, out)


def merge_residual(
    base: Part, trained: Part, tuned: Part, share: float, out: Path
) -> dict[str, Any]:
    """Write trained + share x (tuned - base) to ``out``, with the tuned model's tokenizer, settings
    of generation and stop tokens: a chat model ends its turns with another than its base."""
    merged = residual(trained.weights, base.weights, tuned.weights, share)
    parts = {"base": base.origin, "trained": trained.origin, "added": tuned.origin}
    record = {"how": "residual", "lambda": share, **parts}
    _stop_as(trained.model, tuned.model)
    return _written(trained.model, merged, tuned.tokenizer, record, out)


def told(run: Path, used: Sequence[int]) -> list[str]:
    """Which checkpoints of a run were taken as its last good ones, and which damaged ones were
    passed over."""
    passed = [s for s in steps(run / "checkpoints") if s > min(used) and s not in used]
    lines = [f"{run}: step {', '.join(map(str, sorted(used)))}"]
    if passed:
        damaged = ", ".join(map(str, passed))
        lines.append(
            f"warning: {run}: step {damaged} damaged and passed over, see `alloy checkpoints {run}`"
        )
    return lines


def average_last(run: Path, count: int, out: Path) -> dict[str, Any]:
    """Write the mean of the last ``count`` good checkpoints of a run to ``out``."""
    root = run / "checkpoints"
    good = [s for s in reversed(steps(root)) if not problems(root / step_name(s))][:count]
    if len(good) < count:
        raise UserError(
            f"{run} has {len(good)} good checkpoints, {count} are to be averaged",
            "keep more with train.checkpoint_tokens and train.keep_last",
        )
    return average_steps(run, good, out)


def average_steps(run: Path, which: Sequence[int], out: Path) -> dict[str, Any]:
    """Write the mean of a run's checkpoints of these steps to ``out``, with the newest one's
    tokenizer. What is there is kept where it was made of the same checkpoints.

    Raises UserError where one of them is not there or damaged.
    """
    parts = [chosen(run, step) for step in sorted(which, reverse=True)]
    record = {"how": "mean", "of": [_origin(str(run), part) for part in parts]}
    made = out / RECORD
    if made.is_file() and json.loads(made.read_text(encoding="utf-8")) == record:
        return record
    models = [model_from(part) for part in parts]
    merged = mean([dict(m.named_parameters()) for m in models])
    return _written(models[0], merged, trained_tokenizer(parts[0].path), record, out)


def _stop_as(model: PreTrainedModel, other: PreTrainedModel) -> None:
    model.generation_config = other.generation_config
    for own, theirs in (
        (model.config, other.config),
        (model.config.get_text_config(), other.config.get_text_config()),
    ):
        if hasattr(theirs, "eos_token_id"):  # composite configs may leave it to their text part
            own.eos_token_id = theirs.eos_token_id


def _written(
    model: PreTrainedModel, weights: Weights, tokenizer: str, record: dict[str, Any], out: Path
) -> dict[str, Any]:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    export_folder(model, tokenizer, out)
    write_json(out / RECORD, record)
    return record


def _origin(run: str, checkpoint: Checkpoint) -> dict[str, Any]:
    return {"run": run, "step": checkpoint.step, "manifest_sha256": identity(checkpoint)}
