"""Turns rows of arrays into the tensors of a forward pass."""

from dataclasses import dataclass

import numpy as np
import torch

from mixing.blend import IGNORED, Row
from pretrain.model import lengths_inputs, on_device


@dataclass(frozen=True)
class MicroBatch:
    """Rows as a model takes them; an empty place is a row of padding of no source."""

    inputs: dict[str, torch.Tensor | int | None]
    labels: torch.Tensor
    """int64 (rows, seq_len)"""
    of_source: torch.Tensor
    """bool (sources, rows): whose row it is."""
    targets: np.ndarray
    """int64 (sources,): labels that count, counted here so that no device has to."""


def collate(
    rows: list[Row | None],
    seq_len: int,
    document_mask: bool,
    sources: int,
    device: torch.device,
    lengths: bool = False,
) -> MicroBatch:
    """``sources``: their number in the plan. ``lengths``: flash attention also takes the cumulated
    lengths of the documents."""
    empty = np.zeros(seq_len, dtype=np.int64)
    ids = np.stack([empty if r is None else r.input_ids for r in rows])
    labels = np.stack([empty + IGNORED if r is None else r.labels for r in rows])
    source = np.array([-1 if r is None else r.source for r in rows])
    of_source = source == np.arange(sources)[:, None]
    inputs: dict[str, torch.Tensor | int | None]
    inputs = {"input_ids": on_device(ids, device)}
    if document_mask:
        lone = np.arange(seq_len)
        positions = np.stack([lone if r is None else r.position_ids for r in rows])
        inputs |= document_inputs(positions, device, lengths)
    return MicroBatch(
        inputs,
        on_device(labels, device),
        on_device(of_source, device),
        of_source @ (labels != IGNORED).sum(axis=1),
    )


def document_inputs(
    positions: np.ndarray, device: torch.device, lengths: bool
) -> dict[str, torch.Tensor | int | None]:
    """What keeps attention inside documents: ``positions`` (rows, seq_len), 0 at the first token
    of each. transformers makes the mask of each kind of layer from them."""
    inputs: dict[str, torch.Tensor | int | None]
    inputs = {"position_ids": on_device(positions, device)}
    return inputs | lengths_inputs(positions, device) if lengths else inputs
