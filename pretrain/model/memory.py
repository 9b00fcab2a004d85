"""What weights, gradients and AdamW take of a rank's memory, from the recipe alone; pure.

Activations come on top: they follow from the architecture and ``micro_batch_rows``.
"""

from dataclasses import dataclass

from configs import Train
from pretrain.engine import sums_gradients_in

_BYTES = {"fp32": 4, "bf16": 2}
_MASTERS, _MOMENTS = 4, 8
_BUCKET = 5 * 10**8
"""Elements of DeepSpeed's buffer for gradients on their way, unless a raw key says otherwise."""


@dataclass(frozen=True)
class States:
    """Bytes of one rank."""

    weights: int
    gradients: int
    optimizer: int
    """fp32 masters and both moments."""
    bucket: int
    """DeepSpeed's buffer of gradients; at ZeRO 1 and 2 during the backward pass."""
    on_host: int
    """What of the first three is offloaded."""

    @property
    def device(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.bucket - self.on_host


def states(weights: int, train: Train) -> States:
    """Of a model of ``weights`` weights, all of them trained, partitioned as ZeRO does it
    (Rajbhandari et al. 2020, section 5)."""
    ranks = train.nodes * train.ranks
    part = -(-weights // ranks)
    raw = train.deepspeed.get("zero_optimization", {})
    computed = _BYTES[train.precision] * (part if train.zero == 3 else weights)
    if train.zero == 0:
        return States(computed, _BYTES["fp32"] * weights, _MOMENTS * weights, 0, 0)
    gradients = _BYTES[sums_gradients_in(train)] * part
    optimizer = (_MASTERS + _MOMENTS) * part
    passed = _BYTES["fp32" if train.zero == 3 else train.precision]
    offloaded = train.offload_optimizer or "offload_optimizer" in raw
    return States(
        weights=computed,
        gradients=gradients,
        optimizer=optimizer,
        bucket=passed * int(raw.get("reduce_bucket_size", _BUCKET)),
        on_host=(gradients + optimizer) * offloaded + computed * ("offload_param" in raw),
    )
