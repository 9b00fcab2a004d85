"""export and merge: Hugging Face folders from checkpoints and from other models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from alloy.planning import trained_tokenizer
from alloy.runs import average_last, merge_between, merge_residual, open_part, told
from alloy.verbs.result import Progress, Result, to_stderr
from checkpoints import chosen, export_folder
from configs import UserError
from pretrain.model import model_from


@dataclass(frozen=True)
class ExportResult(Result):
    """A model written as a Hugging Face folder, and read back to compare its logits."""

    folder: str
    steps: tuple[int, ...]
    """The checkpoints that it is of: one, or those that were averaged."""

    def table(self) -> str:
        """The folder."""
        return self.folder


@dataclass(frozen=True)
class MergeResult(Result):
    """A model made of others; ``record`` is merge.json in its folder: how, and what went in."""

    folder: str
    record: dict[str, Any]

    def table(self) -> str:
        """The folder."""
        return self.folder


def export(
    run: str | Path,
    out: str | Path,
    *,
    step: int | None = None,
    average: int | None = None,
    progress: Progress = to_stderr,
) -> ExportResult:
    """Write a checkpoint of a run, or the mean of its last ones, as a Hugging Face folder.

    ``step`` is of the checkpoint, left out: the newest good one; ``average``: how many last
    checkpoints. Raises UserError where they are not there, and CheckFailed where the folder that
    was written does not give the checkpoint's logits.

    >>> import alloy
    >>> alloy.export("runs/tiny", "exported").steps
    (12,)
    """
    transformers_logging.disable_progress_bar()
    run, out = Path(run), Path(out)
    if average is not None and step is not None:
        raise UserError("--step and --average name different models", "give one of them")
    if average is not None:
        record = average_last(run, average, out)
        steps = tuple(part["step"] for part in record["of"])
    else:
        checkpoint = chosen(run, step)
        export_folder(model_from(checkpoint), trained_tokenizer(checkpoint.path), out)
        steps = (checkpoint.step,)
    if step is None:
        for line in told(run, steps):
            progress(line)
    return ExportResult(str(out), steps)


def merge(
    base: str,
    trained: str,
    out: str | Path,
    *,
    share: float | None = None,
    add: str | None = None,
    base_revision: str | None = None,
    progress: Progress = to_stderr,
) -> MergeResult:
    """Write base + share x (trained - base), or with ``add`` trained + share x (add - base).

    Models are runs, Hugging Face folders or hub ids; ``share`` is 1 where it is left out with
    ``add``. Raises UserError where their weights do not fit each other.

    >>> import alloy
    >>> merged = alloy.merge("exported", "runs/tiny", "merged", share=0.5)
    >>> merged.record["how"], merged.record["lambda"]
    ('between', 0.5)
    """
    transformers_logging.disable_progress_bar()
    if share is None and add is None:
        raise UserError("no --lambda", "0 is the base, 1 the trained model; 0.5 lies between")
    parts = [open_part(base, base_revision), open_part(trained)]
    parts += [] if add is None else [open_part(add)]
    for part in parts:
        if "step" in part.origin:
            for line in told(Path(part.name), [part.origin["step"]]):
                progress(line)
    if add is None:
        assert share is not None
        record = merge_between(parts[0], parts[1], share, Path(out))
    else:
        whole = 1.0 if share is None else share
        record = merge_residual(parts[0], parts[1], parts[2], whole, Path(out))
    return MergeResult(str(out), record)
