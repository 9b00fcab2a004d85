"""Removes erased documents from the files of a built source, and from the blocks of a new build.

    wiped files under new names ─▶ manifest that names them (one rename) ─▶ old files removed

At every instant the folder is a source that opens and verifies. Of a document its length, its
line, and the hash and size of its text stay, so that no other document changes its place.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from mixing.publish import locked, replace_file, sync_folder
from mixing.store import (
    MANIFEST,
    NO_ID_HASH,
    QUARANTINE,
    Erasures,
    HashedFile,
    SourceReader,
    load_erasures,
    manifest_bytes,
    manifest_hash,
    open_source,
)
from mixing.tokens import EncodedBlock, id_frames

WIPED = 0
"""The id that stands where an erased document was; such places are masked wherever it is read."""
_VERSION = re.compile(r"\.e\d+$")


def wiped_block(block: EncodedBlock, documents: np.ndarray) -> EncodedBlock:
    """The block with the text and ids of these documents gone, and nothing else changed."""
    if not documents.size:
        return block
    tokens, hashes = block.tokens.copy(), block.id_hashes.copy()
    ends = np.cumsum(block.lengths)
    for document in documents.tolist():
        tokens[ends[document] - block.lengths[document] : ends[document]] = WIPED
    hashes[documents] = NO_ID_HASH
    ids = [own for _, frame in block.id_frames for own in _unpacked(frame)]
    for document in documents.tolist():
        ids[document] = None
    return replace(block, tokens=tokens, id_hashes=hashes, id_frames=id_frames(ids))


def unfinished(store: Path, key: str) -> list[str]:
    """A problem where the text of erased documents is still in this source."""
    reader = open_source(store, key)
    pending = _pending(reader, load_erasures(store))
    if not pending.size:
        return []
    return [f"{reader.folder}: {pending.size} erased documents are not wiped yet (alloy build)"]


def wipe_source(store: Path, key: str, progress: Callable[[str], None], excerpts: bool) -> int:
    """Wipe what the erasure list has of this source: how many documents were wiped now.

    ``excerpts``: take the excerpts and ids of its quarantine, which show parts of texts, away even
    where no document of it is erased.
    """
    with locked(store, key, progress):
        reader = open_source(store, key)
        _remove_superseded(reader)
        pending = _pending(reader, load_erasures(store))
        excerpts |= pending.size > 0
        quarantine = without_excerpts(reader.path(QUARANTINE)) if excerpts else None
        if not pending.size and quarantine is None:
            return 0
        _switch(reader, pending, quarantine)
        _remove_superseded(open_source(store, key))
        return pending.size


def without_excerpts(quarantine: Path) -> bytes | None:
    """A quarantine file with empty excerpts and without ids; None where it is that."""
    rows = [json.loads(line) for line in quarantine.read_bytes().splitlines()]
    if not any(row["excerpt"] or "id" in row for row in rows):
        return None
    shown = [{name: row[name] for name in row if name != "id"} | {"excerpt": ""} for row in rows]
    return b"".join(json.dumps(row).encode() + b"\n" for row in shown)


def _pending(reader: SourceReader, erasures: Erasures) -> np.ndarray:
    return np.setdiff1d(erasures.documents(reader), reader.manifest.get("erased", []))


def _switch(reader: SourceReader, pending: np.ndarray, quarantine: bytes | None) -> None:
    """Write new versions of the files that change, and a manifest that names them."""
    manifest = json.loads(manifest_bytes(reader.manifest))
    version = manifest.get("version", 0) + 1
    changes: dict[str, dict[str, Any]] = {}
    shards = np.searchsorted(
        [shard["first_document"] for shard in manifest["shards"]], pending, side="right"
    )
    for index in np.unique(shards - 1).tolist():
        shard = manifest["shards"][index]
        new = _new_name(shard["file"], version)
        changes[new] = _write_shard(reader, shard, new, pending[shards - 1 == index])
        del manifest["files"][shard["file"]]
        shard["file"] = new
    for name, write in _columns(reader, pending, quarantine).items():
        new = _new_name(name, version)
        file = HashedFile(reader.folder / new)
        write(file)
        changes[new] = file.close()
        del manifest["files"][reader.path(name).name]
        manifest.setdefault("renamed", {})[name] = new
    manifest["files"] = dict(sorted({**manifest["files"], **changes}.items()))
    manifest["version"] = version
    manifest["erased"] = sorted({*manifest.get("erased", []), *pending.tolist()})
    if manifest["erased"]:
        manifest["notes"]["erased_documents"] = len(manifest["erased"])
    manifest["manifest_xxh3_128"] = manifest_hash(manifest)
    sync_folder(reader.folder)
    replace_file(reader.folder / MANIFEST, manifest_bytes(manifest))


def _write_shard(
    reader: SourceReader, shard: dict[str, Any], new: str, documents: np.ndarray
) -> dict[str, Any]:
    ids = np.memmap(reader.folder / shard["file"], reader.token_dtype, mode="r")
    file = HashedFile(reader.folder / new)
    first, done = int(reader.offsets[shard["first_document"]]), 0
    for document in documents.tolist():
        begin, end = (reader.offsets[document : document + 2] - first).tolist()
        file.write_array(ids[done:begin], reader.token_dtype.str)
        file.write_array(np.full(end - begin, WIPED), reader.token_dtype.str)
        done = end
    file.write_array(ids[done:], reader.token_dtype.str)
    return file.close()


def _columns(
    reader: SourceReader, pending: np.ndarray, quarantine: bytes | None
) -> dict[str, Callable[[HashedFile], None]]:
    """What writes each changed file besides the shards, by its usual name."""
    writers: dict[str, Callable[[HashedFile], None]] = {}
    if quarantine is not None:
        writers[QUARANTINE] = lambda file: file.write(quarantine)
    if pending.size:
        hashes = np.fromfile(reader.path("documents.id_xxh3"), "<u8")
        hashes[pending] = NO_ID_HASH
        frames, index = _wiped_frames(reader, pending)
        writers["documents.id_xxh3"] = lambda file: file.write_array(hashes, "<u8")
        writers["ids.zst"] = lambda file: file.write(b"".join(frames))
        writers["ids.index"] = lambda file: file.write_array(index, "<i8")
    return writers


def _wiped_frames(reader: SourceReader, pending: np.ndarray) -> tuple[list[bytes], np.ndarray]:
    """The frames of ids without the pending ones, and their index of (first document, byte)."""
    packed = reader.path("ids.zst").read_bytes()
    index = np.fromfile(reader.path("ids.index"), "<i8").reshape(-1, 2)
    bounds = [*index[:, 1].tolist(), len(packed)]
    frames = [packed[begin:end] for begin, end in pairwise(bounds)]
    frame_of = np.searchsorted(index[:, 0], pending, side="right") - 1
    for frame in np.unique(frame_of).tolist():
        ids = _unpacked(frames[frame])
        for document in pending[frame_of == frame].tolist():
            ids[document - int(index[frame, 0])] = None
        ((_, frames[frame]),) = id_frames(ids)
    sizes = np.array([len(frame) for frame in frames], np.int64)
    return frames, np.stack([index[:, 0], np.cumsum(sizes) - sizes], axis=1).ravel()


def _unpacked(frame: bytes) -> list[str | None]:
    return json.loads(zstandard.ZstdDecompressor().decompress(frame))


def _new_name(name: str, version: int) -> str:
    return f"{_VERSION.sub('', name)}.e{version}"


def _remove_superseded(reader: SourceReader) -> None:
    """Files of an earlier manifest, and what a killed erasure wrote; others are left alone."""
    known = {*reader.manifest["files"], MANIFEST}
    names = {_VERSION.sub("", name) for name in known}
    for path in reader.folder.iterdir():
        is_temporary = path.name.startswith(f"{MANIFEST}.")
        if path.name not in known and (is_temporary or _VERSION.sub("", path.name) in names):
            path.unlink()
    sync_folder(reader.folder)
