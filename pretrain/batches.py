"""Rows of arrays to the tensors of a forward pass."""

import numpy as np
import torch

from mixing.rows import Row
from pretrain.objective import document_attention_mask


def collate(
    rows: list[Row | None],
    seq_len: int,
    document_mask: bool,
    empty_source: int,
    device: torch.device,
) -> tuple[dict[str, torch.Tensor | None], torch.Tensor, torch.Tensor]:
    """Model inputs, labels (rows, seq_len) and the source of each row (rows,).

    An empty place is a row of padding that counts for ``empty_source``.
    """
    empty = np.zeros(seq_len, dtype=np.int64)
    ids = np.stack([empty if r is None else r.input_ids for r in rows])
    labels = np.stack([empty - 100 if r is None else r.labels for r in rows])
    sources = torch.tensor([empty_source if r is None else r.source for r in rows])
    inputs: dict[str, torch.Tensor | None] = {"input_ids": torch.from_numpy(ids).to(device)}
    if document_mask:
        segments = np.stack([empty - 1 if r is None else r.segments for r in rows])
        positions = np.stack([empty if r is None else r.position_ids for r in rows])
        mask = document_attention_mask(torch.from_numpy(segments).to(device))
        inputs |= {"attention_mask": mask, "position_ids": torch.from_numpy(positions).to(device)}
    return inputs, torch.from_numpy(labels).to(device), sources.to(device)
