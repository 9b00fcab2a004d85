"""Exports kept documents as Megatron's indexed datasets: <prefix>.bin and <prefix>.idx.

The index, little-endian (megatron/core/datasets/indexed_dataset.py, version 1):

    9 bytes   "MMIDIDX" and two zeros          uint64  1, the version
    uint8     code of the ids' type            uint64  sequences
    uint64    documents + 1
    int32 (sequences,)      tokens of each     int64 (sequences,)  byte of the .bin it begins at
    int64 (documents + 1,)  first sequence of each document, and the end

Each sequence is a document here. Where passages are left out of a document, every part that
remains is one of its own, so that nothing runs over the gap.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mixing.publish import sync_folder
from mixing.selection import Spans
from mixing.store import HashedFile, SourceReader

_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_TYPES = {"<u2": (8, "<u2"), "<u4": (4, "<i4")}
"""Code and type for each type of a shard; Megatron has no uint32, and no vocabulary needs it."""


@dataclass(frozen=True)
class MegatronFiles:
    """What was written for one source; ``prefix`` is what Megatron's --data-path takes."""

    source: str
    prefix: str
    documents: int
    tokens: int


def export_source(reader: SourceReader, spans: Spans, folder: Path) -> MegatronFiles:
    """Write <folder>/<source>.bin and .idx, each under its name only when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / reader.name
    code, dtype = _TYPES[reader.token_dtype.str]
    index, ids = _begin(folder, f"{reader.name}.idx"), _begin(folder, f"{reader.name}.bin")
    columns = (spans.document.tolist(), spans.start.tolist(), spans.length.tolist())
    for document, start, length in zip(*columns, strict=True):
        ids.write_array(reader.tokens(document, start, length), dtype)
    ids.close()
    count = spans.length.size
    ends = np.cumsum(spans.length) * np.dtype(dtype).itemsize
    index.write(_MAGIC + struct.pack("<QBQQ", _VERSION, code, count, count + 1))
    index.write_array(spans.length, "<i4")
    index.write_array(np.concatenate([[0], ends])[:count], "<i8")
    index.write_array(np.arange(count + 1), "<i8")
    index.close()
    for name in (f"{reader.name}.bin", f"{reader.name}.idx"):
        (folder / f"{name}.incomplete").replace(folder / name)
    sync_folder(folder)
    return MegatronFiles(reader.name, str(prefix), count, int(spans.length.sum()))


def _begin(folder: Path, name: str) -> HashedFile:
    path = folder / f"{name}.incomplete"
    path.unlink(missing_ok=True)
    return HashedFile(path)
