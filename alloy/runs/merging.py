"""New models without training: between base and trained, a residual added, a mean of checkpoints.

folders, hub ids, runs ─▶ weights by name ─▶ merge ─▶ Hugging Face folder, reloaded

One model is in memory as a whole, the one that is written. Of the others a tensor is read at a
time, from their mapped files: a checkpoint's hold tensors by name; a Hugging Face folder is opened
by transformers, which alone knows how its names, shards and tied weights belong to a model. It
maps files as well, all but weights of mixed types, which take a whole fp32 model.

Buffers are no weights and are not mixed: a merge has those of the trained model, a mean those of
its newest checkpoint.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from alloy.models import local_model
from alloy.planning import trained_tokenizer
from checkpoints import (
    WEIGHTS,
    Checkpoint,
    Weights,
    between,
    chosen,
    export_folder,
    identity,
    is_alloy,
    mean,
    open_checkpoint,
    pretrained_model,
    problems,
    read_tensors,
    require_replaceable,
    residual,
    step_name,
    steps,
    write_json,
)
from configs import UserError
from pretrain.model import model_from, unfilled_model

RECORD = "merge.json"


@dataclass(frozen=True)
class Part:
    """A model that goes into a merge."""

    name: str
    source: Checkpoint | Path
    """A checkpoint, or a Hugging Face folder."""
    tokenizer: str
    origin: dict[str, Any]
    """What it was, for the record."""

    def whole(self) -> PreTrainedModel:
        """In memory, in fp32."""
        if isinstance(self.source, Checkpoint):
            return model_from(self.source)
        return pretrained_model(self.source)

    def mapped(self) -> tuple[Weights, PreTrainedModel]:
        """Its weights as they lie in its files, and a model for what else is known of it, which
        may have no weights."""
        if isinstance(self.source, Checkpoint):
            with torch.device("meta"):
                model = unfilled_model(self.source)
            return dict(read_tensors(self.source, WEIGHTS)), model
        model = pretrained_model(self.source, dtype=None)
        return _weights(model), model


def open_part(name: str, revision: str | None = None) -> Part:
    """A run (its newest good checkpoint), one of its checkpoints, a Hugging Face folder or a hub
    id."""
    if is_alloy(Path(name)):
        return _checkpoint_part(name, chosen(Path(name)))
    folder = local_model(name, revision, weights=True)
    return Part(name, folder, str(folder), {"model": name, "revision": revision})


def merge_between(base: Part, trained: Part, share: float, out: Path) -> dict[str, Any]:
    """Write base + share x (trained - base) to ``out``; the record of what went in."""
    start, _ = base.mapped()
    record = {"how": "between", "lambda": share, "base": base.origin, "trained": trained.origin}
    return _write(trained, lambda own: between(start, own, share), record, out)


def merge_residual(
    base: Part, trained: Part, tuned: Part, share: float, out: Path
) -> dict[str, Any]:
    """Write trained + share x (tuned - base) to ``out``, with the tuned model's tokenizer, settings
    of generation and stop tokens: a chat model ends its turns with another than its base."""
    (start, _), (added, chat) = base.mapped(), tuned.mapped()
    parts = {"base": base.origin, "trained": trained.origin, "added": tuned.origin}
    record = {"how": "residual", "lambda": share, **parts}
    return _write(
        trained,
        lambda own: residual(own, start, added, share),
        record,
        out,
        tokenizer=tuned.tokenizer,
        stops=chat,
    )


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
    good = list(islice(_good(run / "checkpoints"), count))
    if len(good) < count:
        raise UserError(
            f"{run} has {len(good)} good checkpoints, {count} are to be averaged",
            "keep more with train.checkpoint_tokens and train.keep_last",
        )
    return _average(run, good, out)


def average_steps(run: Path, which: Sequence[int], out: Path) -> dict[str, Any]:
    """Write the mean of a run's checkpoints of these steps to ``out``, with the newest one's
    tokenizer. What is there is kept where it was made of the same checkpoints.

    Raises UserError where one of them is not there or damaged.
    """
    return _average(run, [chosen(run, step) for step in sorted(which, reverse=True)], out)


def _good(root: Path) -> Iterator[Checkpoint]:
    """The checkpoints of a run that are whole, the newest first."""
    for step in reversed(steps(root)):
        path = root / step_name(step)
        if not problems(path):
            yield open_checkpoint(path, deep=False)


def _average(run: Path, newest_first: Sequence[Checkpoint], out: Path) -> dict[str, Any]:
    parts = [_checkpoint_part(str(run), checkpoint) for checkpoint in newest_first]
    record = {"how": "mean", "of": [part.origin for part in parts]}
    made = out / RECORD
    if made.is_file() and json.loads(made.read_text(encoding="utf-8")) == record:
        return record
    others = [part.mapped()[0] for part in parts[1:]]
    return _write(parts[0], lambda own: mean([own, *others]), record, out)


def _stop_as(model: PreTrainedModel, other: PreTrainedModel) -> None:
    model.generation_config = other.generation_config
    for own, theirs in (
        (model.config, other.config),
        (model.config.get_text_config(), other.config.get_text_config()),
    ):
        if hasattr(theirs, "eos_token_id"):  # composite configs may leave it to their text part
            own.eos_token_id = theirs.eos_token_id


def _write(
    part: Part,
    merged: Callable[[Weights], Weights],
    record: dict[str, Any],
    out: Path,
    tokenizer: str | None = None,
    stops: PreTrainedModel | None = None,
) -> dict[str, Any]:
    """Put what ``merged`` makes of the weights of ``part`` in their place, and write that model;
    with its own tokenizer and stop tokens where no other ones are given."""
    require_replaceable(out)
    model = part.whole()
    weights = merged(_weights(model))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])  # computed from its old value and from no other's
    if stops is not None:
        _stop_as(model, stops)
    export_folder(model, tokenizer or part.tokenizer, out)
    write_json(out / RECORD, record)
    return record


def _weights(model: PreTrainedModel) -> Weights:
    return {name: p.detach() for name, p in model.named_parameters()}


def _checkpoint_part(name: str, checkpoint: Checkpoint) -> Part:
    manifest = identity(checkpoint)
    origin = {"run": name, "step": checkpoint.step, "manifest_sha256": manifest}
    return Part(name, checkpoint, trained_tokenizer(checkpoint.path), origin)
