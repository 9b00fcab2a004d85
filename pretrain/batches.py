"""Rows of arrays to the tensors of a forward pass."""

import numpy as np
import torch

from mixing.rows import Row
from pretrain.attention import lengths_inputs
from pretrain.transfer import on_device


def collate(
    rows: list[Row | None],
    seq_len: int,
    document_mask: bool,
    empty_source: int,
    device: torch.device,
    lengths: bool = False,
) -> tuple[dict[str, torch.Tensor | int | None], torch.Tensor, torch.Tensor]:
    """Model inputs, labels (rows, seq_len) and the source of each row (rows,).

    An empty place is a row of padding that counts for ``empty_source``. ``lengths``: flash
    attention also takes the cumulated lengths of the documents.
    """
    empty = np.zeros(seq_len, dtype=np.int64)
    ids = np.stack([empty if r is None else r.input_ids for r in rows])
    labels = np.stack([empty - 100 if r is None else r.labels for r in rows])
    sources = np.array([empty_source if r is None else r.source for r in rows])
    inputs: dict[str, torch.Tensor | int | None]
    inputs = {"input_ids": on_device(ids, device)}
    if document_mask:
        lone = np.arange(seq_len)
        positions = np.stack([lone if r is None else r.position_ids for r in rows])
        inputs |= document_inputs(positions, device, lengths)
    return inputs, on_device(labels, device), on_device(sources, device)


def document_inputs(
    positions: np.ndarray, device: torch.device, lengths: bool
) -> dict[str, torch.Tensor | int | None]:
    """What keeps attention inside documents: ``positions`` (rows, seq_len), 0 at the first token
    of each. transformers makes the mask of each kind of layer from them."""
    inputs: dict[str, torch.Tensor | int | None]
    inputs = {"position_ids": on_device(positions, device)}
    return inputs | lengths_inputs(positions, device) if lengths else inputs
