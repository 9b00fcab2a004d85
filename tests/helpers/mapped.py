"""What of this process's tensors is memory of its own."""

import gc
import re
from collections.abc import Container
from pathlib import Path

import torch


def in_memory() -> dict[int, int]:
    """Bytes of the live tensors that are no views of a mapped safetensors file, by address."""
    files = [
        (int(first, 16), int(last, 16))
        for first, last, name in re.findall(
            r"^(\w+)-(\w+) .* (/\S+)$", Path("/proc/self/maps").read_text(), re.MULTILINE
        )
        if name.endswith(".safetensors")
    ]
    gc.collect()
    held = [o for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter)]
    storages = {s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in held)}
    return {
        address: size
        for address, size in storages.items()
        if not any(first <= address < last for first, last in files)
    }


def own(before: Container[int]) -> int:
    """Bytes of ``in_memory`` at addresses that are not in ``before``, an earlier answer of it."""
    return sum(size for address, size in in_memory().items() if address not in before)


def written_over() -> int:
    """Bytes of the mapped safetensors files that this process changed in its own copy."""
    kilobytes, in_file = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"\w+-\w+ ", line):
            in_file = line.endswith(".safetensors")
        elif in_file and line.startswith("Anonymous:"):
            kilobytes += int(line.split()[1])
    return kilobytes * 1024
