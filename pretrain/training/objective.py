"""The loss: summed cross-entropy over a step's supervised tokens, split by source.

whole:    model ─▶ logits (rows, seq_len, vocab) ─▶ row losses
chunked:  model ─▶ head computes losses, some positions at a time ─▶ row losses
fused:    the same by torch's linear_cross_entropy
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from configs import UserError

CHUNK_LOGITS = 2**26
"""Logits of one chunk: 256 MiB in fp32."""


def row_losses(
    logits: torch.Tensor, labels: torch.Tensor, z_loss: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of target losses of each row.

    ``logits`` (rows, seq_len, vocab) in any float type, ``labels`` (rows, seq_len) already
    shifted, -100 where there is no target. Returns two fp32 tensors (rows,): the objective
    (cross-entropy plus ``z_loss`` x log-partition squared, as in PaLM: Chowdhery et al. 2022,
    section 5) that is differentiated, and the plain cross-entropy in nat that is reported.
    """
    found = token_losses(logits.flatten(0, 1), labels.flatten(), with_partition=z_loss > 0)
    return _by_row(found.unflatten(0, labels.shape), labels, z_loss)


def token_losses(logits: torch.Tensor, labels: torch.Tensor, with_partition: bool) -> torch.Tensor:
    """(positions, 1) cross-entropy in fp32 of ``logits`` (positions, vocab), and beside it
    (positions, 2) the log-partition."""
    exact = logits.float()
    nll = F.cross_entropy(exact, labels, ignore_index=-100, reduction="none")
    if not with_partition:
        return nll[:, None]
    return torch.stack([nll, torch.logsumexp(exact, dim=-1)], dim=-1)


def _by_row(
    found: torch.Tensor, labels: torch.Tensor, z_loss: float
) -> tuple[torch.Tensor, torch.Tensor]:
    nll = found[..., 0].sum(dim=1)
    if z_loss == 0:
        return nll, nll.detach()
    penalty = (found[..., 1].square() * (labels != -100)).sum(dim=1)
    return nll + z_loss * penalty, nll.detach()


class ChunkedHead(torch.nn.Linear):
    """An output head that gives losses where it is told labels, and logits otherwise.

    Logits of all positions never exist together: a chunk's are computed, used, and computed again
    in the backward pass. The parameters are those of the head that it stands for. Inside the
    head, ZeRO 3 has gathered the weight, whatever else the model does.
    """

    def __init__(self, head: torch.nn.Linear, z_loss: float, chunk_logits: int) -> None:
        super().__init__(head.in_features, head.out_features, head.bias is not None, device="meta")
        self.weight, self.bias = head.weight, head.bias
        self._with_partition = z_loss > 0
        self._positions = max(1, chunk_logits // head.out_features)
        self.labels: torch.Tensor | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Of hidden states (rows, seq_len, hidden): logits, or with labels (rows, seq_len, 1 or 2)
        as ``token_losses``."""
        if self.labels is None:
            return super().forward(input)
        hidden, labels = input.flatten(0, 1), self.labels.flatten()
        chunks = zip(hidden.split(self._positions), labels.split(self._positions), strict=True)
        parts = [self._losses(*chunk) for chunk in chunks]
        return torch.cat(parts).unflatten(0, self.labels.shape)  # pyright: ignore

    def _losses(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return checkpoint(  # pyright: ignore
            self._chunk, hidden, labels, use_reentrant=False, preserve_rng_state=False
        )

    def _chunk(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return token_losses(super().forward(hidden), labels, self._with_partition)


class FusedHead(ChunkedHead):
    """The same by torch, which cuts positions and words into chunks itself, and keeps gradients
    instead of computing logits again. It knows no log-partition, so there is no z-loss."""

    def __init__(self, head: torch.nn.Linear) -> None:
        super().__init__(head, z_loss=0.0, chunk_logits=sys.maxsize)

    def _losses(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nll = F.linear_cross_entropy(
            hidden,
            self.weight,
            labels,
            linear_bias=self.bias,
            reduction="none",
            ignore_index=-100,
            options=torch.nn.LinearCrossEntropyOptions(),
        )
        return nll.float()[:, None]


@dataclass(frozen=True)
class Objective:
    """The loss of a run: of whole logits, or computed by a head in chunks."""

    z_loss: float = 0.0
    head: ChunkedHead | None = None

    def __call__(
        self,
        forward: Callable[..., torch.Tensor],
        inputs: Mapping[str, Any],
        labels: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Objective and cross-entropy of each row, as ``row_losses``."""
        if self.head is None:
            return row_losses(forward(**inputs), labels, self.z_loss)
        self.head.labels = labels
        try:
            found = forward(**inputs)
        finally:
            self.head.labels = None
        return _by_row(found, labels, self.z_loss)


def chunked_head(
    model: PreTrainedModel, z_loss: float, chunk_logits: int = CHUNK_LOGITS, fused: bool = False
) -> ChunkedHead:
    """Put a ChunkedHead, or a FusedHead, in the place of the model's output head. Raises UserError
    where the model has no linear head of its own, or torch no fused one."""
    if fused and not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        raise UserError(
            f"train.cross_entropy fused: torch {torch.__version__} has no linear_cross_entropy",
            "set train.cross_entropy: chunked, or install torch 2.13",
        )
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear:
        raise UserError(
            f"train.cross_entropy: the output head of {type(model).__name__} is "
            f"{type(head).__name__}, not a linear layer",
            "set train.cross_entropy: whole",
        )
    chunked = FusedHead(head) if fused else ChunkedHead(head, z_loss, chunk_logits)
    model.set_output_embeddings(chunked)
    return chunked


def require_plain_logits(
    forward: Callable[..., torch.Tensor], module: torch.nn.Module, head: ChunkedHead
) -> None:
    """All ranks together: the model's logits are what its head gives. Raises UserError for models
    that soft-cap or scale them afterwards, which a loss computed in the head would miss.

    The head is made to give values from -64 to 64: small logits hardly change when capped.
    """
    given: list[torch.Tensor] = []

    def exchanged(_: object, __: object, output: torch.Tensor) -> torch.Tensor:
        given.append(torch.linspace(-64, 64, output.numel()).to(output).view_as(output))
        return given[0]

    exchange = head.register_forward_hook(exchanged)
    ids = torch.zeros(1, 2, dtype=torch.int64, device=next(module.parameters()).device)
    with torch.no_grad():
        logits = forward(input_ids=ids)
    exchange.remove()
    if not torch.equal(given[0].float(), logits.float()):
        raise UserError(
            f"train.cross_entropy: {type(module).__name__} changes its logits after the "
            "head (soft-capping or scaling)",
            "set train.cross_entropy: whole",
        )
