"""The loss: summed cross-entropy over a step's supervised tokens, split by source."""

import torch
import torch.nn.functional as F


def row_losses(
    logits: torch.Tensor, labels: torch.Tensor, z_loss: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of target losses of each row.

    ``logits`` (rows, seq_len, vocab) in any float type, ``labels`` (rows, seq_len) already
    shifted, -100 where there is no target. Returns two fp32 tensors (rows,): the objective
    (cross-entropy plus ``z_loss`` x log-partition squared, as in PaLM) that is differentiated,
    and the plain cross-entropy in nat that is reported.
    """
    flat = logits.float().flatten(0, 1)  # (rows x seq_len, vocab)
    nll = F.cross_entropy(flat, labels.flatten(), ignore_index=-100, reduction="none")
    nll = nll.view_as(labels).sum(dim=1)
    if z_loss == 0:
        return nll, nll.detach()
    log_z = torch.logsumexp(flat, dim=-1).view_as(labels)
    penalty = (log_z.square() * (labels != -100)).sum(dim=1)
    return nll + z_loss * penalty, nll.detach()


def document_attention_mask(segments: torch.Tensor) -> torch.Tensor:
    """Boolean mask (rows, 1, seq_len, seq_len), True where a position may look.

    ``segments`` (rows, seq_len) numbers the document of each position, -1 for padding. A position
    sees itself and what came before it in the same document; padding sees itself only, because a
    row of the mask without any True would be a softmax over nothing.
    """
    same = segments[:, :, None] == segments[:, None, :]
    padding = (segments < 0)[:, :, None]
    diagonal = torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)
    visible = torch.where(padding, diagonal, same)
    return torch.tril(visible)[:, None]
