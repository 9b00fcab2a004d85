"""The tensors of a checkpoint by name: fp32 weights, both Adam moments, persistent buffers.

Each rank writes the parameters that it owns, whole, and rank 0 the buffers. Nothing depends on the
ZeRO stage, the number of ranks or the order of parameter groups, so any other run shape can load
it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from checkpoints.folder import Checkpoint, share_as_folder

WEIGHTS, EXP_AVG, EXP_AVG_SQ = "weights", "exp_avg", "exp_avg_sq"
KINDS = (WEIGHTS, EXP_AVG, EXP_AVG_SQ)
BUFFERS = "buffers"
"""State of a model that is no parameter: Gemma-4's layer_scalar, DeepSeek-V3's routing bias."""


def owners(numel: Mapping[str, int], ranks: int) -> dict[str, int]:
    """Rank that writes each parameter: largest first, to the rank with the least so far."""
    load = [0] * ranks
    chosen: dict[str, int] = {}
    for name in sorted(numel, key=lambda n: (-numel[n], n)):
        rank = min(range(ranks), key=lambda r: (load[r], r))
        chosen[name] = rank
        load[rank] += numel[name]
    return chosen


def persistent_buffers(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The buffers that belong to a model's state, by name: what its class computes anew, as rotary
    tables, is not among them."""
    state = module.state_dict()
    return {name: buffer for name, buffer in module.named_buffers() if name in state}


def file_name(rank: int) -> str:
    return f"tensors_{rank:05d}.safetensors"


def write_tensors(path: Path, tensors: Mapping[tuple[str, str], torch.Tensor]) -> None:
    """Write {(kind, name): tensor} to one file; floats are fp32."""
    flat = {f"{kind}/{name}": t.contiguous().cpu() for (kind, name), t in tensors.items()}
    save_file(flat, path)
    share_as_folder(path)


def read_tensors(checkpoint: Checkpoint, kind: str) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of one kind, by name: views of the files, which are mapped. They are read where
    they are used, stay valid after the files are closed or removed, and take no memory that the
    system could not have back. Whoever writes to one writes to a copy."""
    for path in sorted(checkpoint.path.glob("tensors_*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  (safe_open is no mapping)
                found, _, name = key.partition("/")
                if found == kind:
                    yield name, file.get_tensor(key)
