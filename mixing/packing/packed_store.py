"""Packed rows kept beside the sources that they index, so that each packing is computed once.

    SourceReader, Spans ─▶ stored_rows ─▶ <store>/.packed/<source key>-<hash>.rows ─▶ PackedRows

The hash is of all that decides the result: spans, seq_len, way of packing, and the rule's version.
A file is a header line of 256 bytes and four int64 arrays: row_starts, document, start, length.
Reading maps them, so that ranks of one machine share the memory.
"""

import errno
import json
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from mixing.packing.pack import PackedRows, SpanList, pack
from mixing.publish import replace_file

FOLDER = ".packed"
RULE_VERSION = 1
"""Counts the changes of ``mixing.packing.pack`` that may change a row."""
_HEADER_BYTES = 256
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def stored_rows(
    store: Path,
    source_key: str,
    spans: SpanList,
    seq_len: int,
    packing: Literal["best_fit", "concat"],
) -> PackedRows:
    """``pack(spans, seq_len, packing)``, from disk where it was packed before.

    The file's size and content hash are checked; one that is damaged is packed anew, as it holds
    nothing that the shards do not. Where the store cannot be written to, nothing is kept.
    """
    name = f"{source_key}-{_identity(spans, seq_len, packing)}"
    path = store / FOLDER / f"{name}.rows"
    found = _read(path, name)
    if found is not None:
        return found
    rows = pack(spans, seq_len, packing)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, _content(rows, name))
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
    return rows


def _identity(spans: SpanList, seq_len: int, packing: str) -> str:
    digest = xxhash.xxh3_128(f"alloy-packed-{RULE_VERSION}:{seq_len}:{packing}".encode())
    for array in (spans.document, spans.start, spans.length):
        digest.update(np.ascontiguousarray(array, "<i8").data)
    return digest.hexdigest()


def _content(rows: PackedRows, name: str) -> bytes:
    header = {
        "name": name,
        "seq_len": rows.seq_len,
        "rows": rows.rows,
        "pieces": len(rows.document),
        "hash": rows.hash,
    }
    arrays = (rows.row_starts, rows.document, rows.start, rows.length)
    line = json.dumps(header).encode().ljust(_HEADER_BYTES - 1) + b"\n"
    return b"".join([line, *(np.ascontiguousarray(a, "<i8").tobytes() for a in arrays)])


def _read(path: Path, name: str) -> PackedRows | None:
    """The rows of a file that is as it was written, else None."""
    try:
        with open(path, "rb") as file:
            header = json.loads(file.read(_HEADER_BYTES))
        rows, pieces = int(header["rows"]), int(header["pieces"])
        size = path.stat().st_size
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    numbers = rows + 1 + 3 * pieces
    if header.get("name") != name or size != _HEADER_BYTES + 8 * numbers:
        return None
    # A plain array over the map: a memmap makes an object of every number that is read.
    values = np.asarray(np.memmap(path, "<i8", "r", offset=_HEADER_BYTES, shape=(numbers,)))
    row_starts, columns = values[: rows + 1], values[rows + 1 :].reshape(3, pieces)
    document, start, length = columns
    found = PackedRows(header.get("seq_len"), row_starts, document, start, length)
    return found if found.hash == header.get("hash") else None
