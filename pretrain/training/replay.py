"""Runs a stored batch again after loading: its loss tells whether the saved weights came back.

A checkpoint stores the loss of a few rows that lie before it. Whoever resumes from it, on any
number of ranks and at any ZeRO stage, computes that loss again before training goes on.
"""

from typing import Any

import torch

from configs import CheckFailed
from evals.scoring import undisturbed
from mixing.blend import RowReader
from pretrain.engine import Engine
from pretrain.training.batches import collate
from pretrain.training.objective import Objective

ROWS = 2
TOLERANCE = {"fp32": 1e-5, "bf16": 1e-2}
"""Largest difference of the mean loss, in nat: other kernels round differently."""


def replayed(
    engine: Engine,
    objective: Objective,
    rows: RowReader,
    position: int,
    document_mask: bool,
    lengths: bool,
    device: torch.device,
) -> dict[str, Any]:
    """All ranks together: the mean loss of the last rows before ``position``, in evaluation mode.

    Every rank computes all of them, a row at a time, so it does not depend on the ranks.
    """
    first = max(0, position - ROWS)
    total, targets = 0.0, 0
    with undisturbed(engine.module):
        for place in range(first, position):
            sources = len(rows.plan.sources)
            batch = collate(
                [rows.row(place)], rows.plan.seq_len, document_mask, sources, device, lengths
            )
            nll = objective(engine.forward, batch.inputs, batch.labels)[1]
            total += float(nll.double().sum())
            targets += int(batch.targets.sum())
    return {"first": first, "rows": position - first, "loss": total / max(1, targets)}


def require_same(stored: dict[str, Any], found: dict[str, Any], precision: str, path: Any) -> None:
    """Raise CheckFailed where the replayed loss is not the stored one."""
    difference = abs(found["loss"] - stored["loss"])
    if not difference <= TOLERANCE[precision]:
        last = stored["first"] + stored["rows"] - 1
        raise CheckFailed(
            f"{path}: rows {stored['first']} to {last} had a loss of {stored['loss']:.6f} when it "
            f"was saved, and have {found['loss']:.6f} after loading",
            "the weights did not come back whole: report this, and take an earlier checkpoint",
        )
