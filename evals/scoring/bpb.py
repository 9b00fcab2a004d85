"""Bits per byte of held-out and retention documents, one record a document so that they pair."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from configs import UserError
from evals.scoring.model_state import context_tokens, forward_tokens, undisturbed


@dataclass(frozen=True)
class EvalDocument:
    """A tokenized document that was not trained on. ``text_bytes`` is its length in UTF-8.

    ``token_ids`` should not hold the end-of-text token: its bits would be counted, and no byte.
    """

    source: str
    role: str
    split: Literal["heldout", "retention"]
    id: str
    token_ids: np.ndarray
    text_bytes: int


@dataclass(frozen=True)
class Window:
    """Inputs and targets of one forward pass row: targets[i] follows inputs[i]."""

    document: int
    inputs: np.ndarray
    targets: np.ndarray


def score_documents(
    model: Any,
    documents: Sequence[EvalDocument],
    batch_tokens: int,
    progress: Callable[[str], None],
    seq_len: int | None = None,
    start_id: int | None = None,
) -> list[dict[str, Any]]:
    """One record {source, role, split, id, bits, bytes, tokens} a document, in their order.

    A document longer than ``seq_len`` (the model's context when left out) is read in windows of
    ``seq_len`` inputs without overlap: each window predicts the token after it too, so every
    token but the first is scored once, with at most ``seq_len`` tokens before it. The first token
    is only predicted where ``start_id`` (usually the end-of-text id) is put before the document;
    without it, its bytes count and its bits do not, for every model alike. ``tokens`` counts the
    predictions.
    """
    context = context_tokens(model)
    length = context if seq_len is None else seq_len
    if length > context:
        raise UserError(f"seq_len {length} is over the model's context of {context}", "lower it")
    windows = windows_of(documents, length, start_id)
    bits = np.zeros(len(documents))
    done = 0

    def forward(input_ids: torch.Tensor) -> torch.Tensor:
        return model(input_ids=input_ids, use_cache=False).logits

    with undisturbed(model):
        for batch in batches_of(windows, forward_tokens(model, batch_tokens)):
            for window, nats in zip(batch, batch_nats(forward, batch, model.device), strict=True):
                bits[window.document] += nats / math.log(2)
            done += len(batch)
            progress(f"bits per byte: {done} of {len(windows)} windows")
    first = 0 if start_id is not None else 1
    return [
        {
            "source": document.source,
            "role": document.role,
            "split": document.split,
            "id": document.id,
            "bits": float(bits[number]),
            "bytes": int(document.text_bytes),
            "tokens": max(0, len(document.token_ids) - first),
        }
        for number, document in enumerate(documents)
    ]


def windows_of(
    documents: Sequence[EvalDocument], length: int, start_id: int | None
) -> list[Window]:
    """The windows of all documents, the longest first, so that batches hold little padding."""
    windows = [w for d, doc in enumerate(documents) for w in _windows(d, doc, length, start_id)]
    return sorted(windows, key=lambda window: -len(window.inputs))


def _windows(
    number: int, document: EvalDocument, length: int, start_id: int | None
) -> Iterator[Window]:
    ids = np.asarray(document.token_ids, dtype=np.int64)
    if start_id is not None:
        ids = np.concatenate([[start_id], ids])
    for start in range(0, len(ids) - 1, length):
        chunk = ids[start : start + length + 1]
        yield Window(number, chunk[:-1], chunk[1:])


def batches_of(windows: Sequence[Window], batch_tokens: int) -> Iterator[Sequence[Window]]:
    """Windows in their order, as many together as ``batch_tokens`` hold, at least one."""
    start = 0
    while start < len(windows):
        rows = max(1, batch_tokens // len(windows[start].inputs))
        yield windows[start : start + rows]
        start += rows


def batch_nats(
    forward: Callable[[torch.Tensor], torch.Tensor],
    windows: Sequence[Window],
    device: torch.device,
) -> list[float]:
    """Summed cross-entropy of each window; ``forward`` turns ids (windows, width) into logits.

    Padding is on the right and its targets are ignored.
    """
    width = len(windows[0].inputs)
    inputs = np.zeros((len(windows), width), dtype=np.int64)
    targets = np.full((len(windows), width), -100, dtype=np.int64)
    for row, window in enumerate(windows):
        inputs[row, : len(window.inputs)] = window.inputs
        targets[row, : len(window.targets)] = window.targets
    logits = forward(torch.from_numpy(inputs).to(device))
    wanted = torch.from_numpy(targets).to(device)
    # Row by row: the fp32 copy of all logits at once would double the memory.
    nats = [
        functional.cross_entropy(row.float(), want, ignore_index=-100, reduction="none")
        .double()
        .sum()
        for row, want in zip(logits, wanted, strict=True)
    ]
    return torch.stack(nats).tolist()  # read back once: a GPU would stand still at each row
