"""Bits per byte of held-out and retention text, measured on the live model by all ranks together.

    corpus ─▶ documents ─▶ windows ─▶ batches, dealt to the ranks ─▶ {source: bits per byte}

Every rank makes the same number of forward passes, which ZeRO 3 needs: it gathers parameters in
each. Random states, modes and gradients come back as they were.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from evals.scoring import EvalDocument, Window, batch_nats, batches_of, undisturbed, windows_of
from pretrain.engine import Engine

HELDOUT = "heldout.jsonl"
"""Of a run folder: a row for each measurement."""


@dataclass(frozen=True)
class Measurement:
    """What is measured in place, and how far from its beginning is too far."""

    documents: Sequence[EvalDocument]
    batches: Sequence[Sequence[Window]]
    retention_budget: float | None
    """Largest rise of bits per byte on retention text before a line warns."""

    def measure(
        self, engine: Engine, device: torch.device, stop_asked: Callable[[], bool]
    ) -> dict[str, Any] | None:
        """All ranks together: {source: {split, bpb, documents}}; None where a rank was stopped."""
        bits = torch.zeros(len(self.documents) + 1, dtype=torch.float64)
        with undisturbed(engine.module):
            for batch, counts in dealt(self.batches, dist.get_rank(), dist.get_world_size()):
                nats = batch_nats(lambda ids: engine.forward(input_ids=ids), batch, device)
                for window, value in zip(batch, nats, strict=True):
                    bits[window.document] += value / np.log(2) * counts
                bits[-1] = float(stop_asked())
                if _any(bits[-1:], device):
                    return None
        bits[-1] = 0
        agreed = bits.to(device)
        dist.all_reduce(agreed)
        return by_source(self.documents, agreed.cpu().numpy()[:-1])

    def warning(self, first: dict[str, Any], now: dict[str, Any], annealed: bool) -> str | None:
        """A line where retention text costs more than the budget over the start of the run."""
        rise = [now[s]["bpb"] - first[s]["bpb"] for s in now if now[s]["split"] == "retention"]
        if self.retention_budget is None or not rise or max(rise) <= self.retention_budget:
            return None
        open_rate = "" if annealed else "; the rate is not annealed yet, which costs some of that"
        return (
            f"retention text has risen by {max(rise):.4f} bits per byte since the start, the "
            f"budget is {self.retention_budget:g}{open_rate}"
        )


def measurement(
    documents: Sequence[EvalDocument],
    seq_len: int,
    batch_tokens: int,
    start_id: int,
    retention_budget: float | None,
) -> Measurement:
    windows = windows_of(documents, seq_len, start_id)
    return Measurement(documents, list(batches_of(windows, batch_tokens)), retention_budget)


def dealt(
    batches: Sequence[Sequence[Window]], rank: int, ranks: int
) -> Iterator[tuple[Sequence[Window], bool]]:
    """(batch, whether it counts) of one rank: every rank gets the same number of batches.

    Where there are none left a rank repeats the smallest one, and its figures do not count.
    """
    for first in range(0, len(batches), ranks):
        mine = first + rank
        yield (batches[mine], True) if mine < len(batches) else (batches[-1], False)


def by_source(documents: Sequence[EvalDocument], bits: np.ndarray) -> dict[str, Any]:
    """Bits per byte of each source from the bits of each document."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(document.source for document in documents):
        mine = [i for i, document in enumerate(documents) if document.source == name]
        found[name] = {
            "split": documents[mine[0]].split,
            "bpb": float(bits[mine].sum() / sum(documents[i].text_bytes for i in mine)),
            "documents": len(mine),
        }
    return found


def _any(flag: torch.Tensor, device: torch.device) -> bool:
    agreed = flag.to(device)
    dist.all_reduce(agreed)
    return bool(agreed.item() > 0)
