"""The files of a built source: little-endian shards and columns, hashed while written.

A folder holds

    tokens-00000.bin ...     ids, uint16 or uint32; whole documents, at most shard_tokens of them
                             (a single longer document is a shard of its own)
    documents.offsets        int64 (documents + 1,), where each begins in the sequence of shards
    documents.text_bytes     int64 (documents,), UTF-8 bytes of the text
    documents.content_xxh3   uint64 (documents,), xxh3_64 of the text's UTF-8
    documents.id_xxh3        uint64 (documents,), xxh3_64 of the id ("" where it has none)
    documents.line           int64 (documents,), line in its file, from 1
    masks.runs               uint32 (runs,), lengths of stretches of each conversation by turns not
                             supervised and supervised; absent for plain text, as the next two
    masks.offsets            int64 (documents + 1,), where the runs of each document begin
    masks.targets            int64 (documents,), supervised tokens that have a token before them
    ids.zst, ids.index       zstd frames of JSON lists of ids; int64 (first document, byte) pairs
    quarantine.jsonl         rows that could not be used
    manifest.json            all counts, sizes and hashes; written last

Files that an erasure wrote anew end in .e1, .e2 ...; the manifest says which are of the source.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from mixing.ledger import BadRow
from mixing.publish import sync_folder
from mixing.tokens import EncodedBlock

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
NO_ID_HASH = np.uint64(xxhash.xxh3_64_intdigest(b""))
COLUMN_DTYPES = {
    "documents.offsets": "<i8",
    "documents.text_bytes": "<i8",
    "documents.content_xxh3": "<u8",
    "documents.id_xxh3": "<u8",
    "documents.line": "<i8",
    "ids.index": "<i8",
}
MASK_DTYPES = {"masks.runs": "<u4", "masks.offsets": "<i8", "masks.targets": "<i8"}


class HashedFile:
    """A new file that knows its size and hash, and is on disk once closed."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "xb")  # noqa: SIM115 - closed by close()
        self._digest = xxhash.xxh3_128()
        self.bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)

    def write_array(self, array: np.ndarray, dtype: str) -> None:
        self.write(np.ascontiguousarray(array, dtype).data.cast("B"))

    def close(self) -> dict[str, Any]:
        """Sync to disk; ``{bytes, xxh3_128}``."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {"bytes": self.bytes, "xxh3_128": self._digest.hexdigest()}

    def abandon(self) -> None:
        with contextlib.suppress(OSError):  # a full disk refuses what is buffered once more
            self._file.close()


class ShardWriter:
    """Writes encoded blocks, in order, into a new folder."""

    def __init__(
        self, folder: Path, token_dtype: str, shard_tokens: int, masked: bool = False
    ) -> None:
        self._folder = folder
        self._token_dtype = token_dtype
        self._shard_tokens = shard_tokens
        self._dtypes = COLUMN_DTYPES | (MASK_DTYPES if masked else {})
        self._columns = {name: HashedFile(folder / name) for name in self._dtypes}
        self._ids = HashedFile(folder / "ids.zst")
        self._quarantine = HashedFile(folder / QUARANTINE)
        self._shard: HashedFile | None = None
        self._files: dict[str, dict[str, Any]] = {}
        self.shards: list[dict[str, Any]] = []
        self.documents = 0
        self.tokens = 0
        self.text_bytes = 0
        self.quarantined = 0
        self._runs = 0
        self._column("documents.offsets", np.zeros(1, np.int64))
        if masked:
            self._column("masks.offsets", np.zeros(1, np.int64))

    def add(self, block: EncodedBlock) -> None:
        if block.lengths.size == 0:
            return
        ends = np.cumsum(block.lengths)
        self._column("documents.offsets", self.tokens + ends)
        self._column("documents.text_bytes", block.text_bytes)
        self._column("documents.content_xxh3", block.content_hashes)
        self._column("documents.id_xxh3", block.id_hashes)
        self._column("documents.line", block.lines)
        if block.masks is not None:
            self._column("masks.runs", block.masks.runs)
            self._column("masks.offsets", self._runs + np.cumsum(block.masks.counts))
            self._column("masks.targets", block.masks.targets)
            self._runs += block.masks.runs.size
        first = self.documents
        for documents, frame in block.id_frames:
            self._column("ids.index", np.array([first, self._ids.bytes]))
            self._ids.write(frame)
            first += documents
        self._add_tokens(block.tokens, ends)
        self.documents += block.lengths.size
        self.tokens += block.tokens.size
        self.text_bytes += int(block.text_bytes.sum())

    def add_bad(self, row: BadRow, source: str, file: str) -> None:
        self._quarantine.write(row.as_json(source, file).encode())
        self.quarantined += 1

    def finish(self) -> dict[str, dict[str, Any]]:
        """Close and sync all files; ``{name: {bytes, xxh3_128}}``."""
        self._close_shard()
        for name, file in self._open_files().items():
            self._files[name] = file.close()
        return dict(sorted(self._files.items()))

    def abandon(self) -> None:
        """Close without finishing; the folder is of no use any more."""
        for file in self._open_files().values():
            file.abandon()
        if self._shard is not None:
            self._shard.abandon()

    def _open_files(self) -> dict[str, HashedFile]:
        return {**self._columns, "ids.zst": self._ids, QUARANTINE: self._quarantine}

    def _column(self, name: str, values: np.ndarray) -> None:
        self._columns[name].write_array(values, self._dtypes[name])

    def _add_tokens(self, tokens: np.ndarray, ends: np.ndarray) -> None:
        """Cut between documents, so that a shard holds at most ``shard_tokens``."""
        document, start = 0, 0
        while document < ends.size:
            if self._shard is None:
                self._begin_shard(self.documents + document)
            room = self._shard_tokens - self.shards[-1]["tokens"]
            until = int(np.searchsorted(ends, start + room, side="right"))
            if until == document and self.shards[-1]["tokens"] == 0:
                until = document + 1  # longer than any shard
            if until > document:
                self._extend_shard(tokens[start : ends[until - 1]], until - document)
                document, start = until, int(ends[until - 1])
            if document < ends.size:
                self._close_shard()

    def _begin_shard(self, first_document: int) -> None:
        name = f"tokens-{len(self.shards):05d}.bin"
        self._shard = HashedFile(self._folder / name)
        self.shards.append(
            {"file": name, "first_document": first_document, "documents": 0, "tokens": 0}
        )

    def _extend_shard(self, tokens: np.ndarray, documents: int) -> None:
        assert self._shard is not None
        self._shard.write_array(tokens, self._token_dtype)
        self.shards[-1]["tokens"] += tokens.size
        self.shards[-1]["documents"] += documents

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._files[self.shards[-1]["file"]] = self._shard.close()
            self._shard = None


def manifest_hash(manifest: dict[str, Any]) -> str:
    """xxh3_128 of a manifest without its own ``manifest_xxh3_128``."""
    rest = {k: v for k, v in manifest.items() if k != "manifest_xxh3_128"}
    return xxhash.xxh3_128_hexdigest(manifest_bytes(rest))


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """The one way a manifest is written, so that any changed byte of the file shows."""
    return json.dumps(manifest, indent=1, sort_keys=True).encode()


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write manifest.json with its own hash, and sync it and the folder."""
    file = HashedFile(folder / MANIFEST)
    file.write(manifest_bytes({**manifest, "manifest_xxh3_128": manifest_hash(manifest)}))
    file.close()
    sync_folder(folder)
