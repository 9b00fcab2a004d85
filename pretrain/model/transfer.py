"""Copies arrays to a device without waiting for what it still has to compute."""

import numpy as np
import torch


def on_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copied from pinned memory: a copy from memory that can be paged out waits for all that the
    GPU was given before, so that no batch would be made while the one before is computed."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
