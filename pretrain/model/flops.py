"""Model FLOPs utilisation: what the model needs against what the device could do; pure.

FLOPs of a token as in PaLM (Chowdhery et al. 2022, appendix B): 6 for each weight that is in a
matrix product, and 12 x layers x hidden size x seq_len for attention, without a discount for the
causal half. Recomputation by activation checkpointing is not counted.
"""

from typing import Any

_TERA = 10**12
DENSE_BF16_TFLOPS = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "V100": 125.0,
}
"""Dense tensor-core peak in TFLOP/s, from the makers' data sheets (V100: fp16). The first name
that is in the device's name counts."""


def flops_per_token(matrix_weights: int, layers: int, hidden_size: int, seq_len: int) -> float:
    """FLOPs of one token, forward and backward."""
    return 6.0 * matrix_weights + 12.0 * layers * hidden_size * seq_len


def has_experts(config: Any) -> bool:
    """Whether the model is a mixture of experts, of whose weights each token meets a part."""
    keys = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    return any((getattr(config, key, None) or 0) > 1 for key in keys)


def peak_flops(device_name: str | None, given_tflops: float | None) -> float | None:
    """FLOP/s of one device, given or known by its name; None for a CPU and unknown devices."""
    if given_tflops is not None:
        return given_tflops * _TERA
    known = (t for name, t in DENSE_BF16_TFLOPS.items() if device_name and name in device_name)
    found = next(known, None)
    return None if found is None else found * _TERA


def mfu(
    tokens_per_second: float, token_flops: float, peak: float | None, ranks: int
) -> float | None:
    """Share of the devices' peak that the model's own FLOPs are; None where no peak is known."""
    return None if peak is None else tokens_per_second * token_flops / (peak * ranks)
