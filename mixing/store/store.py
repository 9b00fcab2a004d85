"""The store of built sources: content-addressed folders, each complete or absent.

<store>/<key>/               a built source, renamed into place when complete
<store>/.building-<key>/     one under way, or what a killed build left
<store>/.locks/<key>         held while a build of this key runs
<store>/.inputs/             remembered hashes of input files
<store>/.decontaminated/     where eval items stand in built sources
<store>/.packed/             rows of built sources, by what they were packed from
<store>/.erased.json         hashes of erased documents, kept away from every later build
<store>/.refused/            quarantine files of builds that max_bad refused
"""

import bisect
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import zstandard

from configs import UserError
from mixing.documents import PLAIN_TEMPLATE, RowOptions
from mixing.sources import InputFile, hash_file
from mixing.store.shards import (
    COLUMN_DTYPES,
    FORMAT_VERSION,
    MANIFEST,
    MASK_DTYPES,
    manifest_bytes,
    manifest_hash,
)
from mixing.tokens import TokenizerFile, flags_of_runs

REBUILD_HINT = "remove this folder and build again, or bring it back from a copy"
OPEN_SHARDS = 512  # Python keeps a file descriptor with each map


@dataclass(frozen=True)
class Provenance:
    """Where a document came from: its id, file and line (from 1)."""

    id: str
    file: str
    line: int


def source_key(
    files: Sequence[InputFile],
    tokenizer: TokenizerFile,
    rows: RowOptions,
    append_eos: bool,
    shard_tokens: int,
    read_tokens: int | None = None,
) -> str:
    """Content address: bytes of the files as a set, what the tokenizer is, and the options.

    Names and order of the files do not matter, nor do the name and role of the source.
    """
    content = {
        "format": FORMAT_VERSION,
        "files": sorted(_file_identity(f) for f in files),
        "tokenizer": tokenizer.content_hash,
        "bos_id": tokenizer.bos_id,
        "eos_id": tokenizer.eos_id if append_eos or rows.schema is not None else None,
        "rows": rows.identity(),
        "shard_tokens": shard_tokens,
    }
    if rows.schema is not None:
        content["chat"] = [asdict(tokenizer.chat), PLAIN_TEMPLATE]
    if read_tokens is not None:
        content["read_tokens"] = read_tokens
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True).encode())


def _file_identity(file: InputFile) -> list[Any]:
    """Content, and what it is read as: the same bytes are one text or many rows. Lines of JSON
    are not named, they were first."""
    content = [file.xxh3_128, file.bytes]
    return content if file.kind == "lines" else [*content, file.kind]


class SourceReader:
    """A built source, opened: counts at hand, everything else mapped from disk when asked for.

    ``lengths`` are tokens of each stored document with BOS and EOS, int64 (documents,);
    ``text_bytes`` UTF-8 bytes of its text, int64; ``content_hashes`` xxh3_64 of it, uint64.
    """

    def __init__(self, folder: Path, key: str, manifest: dict[str, Any], name: str) -> None:
        self.folder = folder
        self.key = key
        self.manifest = manifest
        self.name = name
        self.token_dtype = np.dtype(manifest["token_dtype"])
        self.documents: int = manifest["documents_written"]
        self.total_tokens: int = manifest["tokens"]
        self._renamed: dict[str, str] = manifest.get("renamed", {})
        self._shard_paths = [str(folder / shard["file"]) for shard in manifest["shards"]]
        self._shard_starts = [shard["first_document"] for shard in manifest["shards"]]
        self._file_starts = [file["first_document"] for file in manifest["inputs"]]

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 (documents + 1,): where each document begins in the sequence of all shards."""
        # A plain array over the map: a memmap makes an object of every number that is read.
        return np.asarray(self._column("documents.offsets"))

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @cached_property
    def text_bytes(self) -> np.ndarray:
        return self._column("documents.text_bytes")

    @cached_property
    def content_hashes(self) -> np.ndarray:
        return self._column("documents.content_xxh3")

    def tokens(self, document: int, start: int = 0, length: int | None = None) -> np.ndarray:
        """Ids of a document or a part of it: a read-only view of the mapped shard."""
        index = bisect.bisect_right(self._shard_starts, document) - 1
        shard = self.manifest["shards"][index]
        first = int(self.offsets[document])
        size = int(self.offsets[document + 1]) - first
        length = size - start if length is None else length
        if not 0 <= document < self.documents or start < 0 or not 0 <= length <= size - start:
            raise IndexError(f"document {document} of {self.documents}: {start}+{length} of {size}")
        begin = first - int(self.offsets[shard["first_document"]]) + start
        path = self._shard_paths[index]
        try:
            ids = _mapped_shard(path, self.token_dtype.str, shard["tokens"])
        except FileNotFoundError:
            raise UserError(
                f"{path}: it is gone since this source was opened, as after an erasure",
                "start again: what was running goes on where it stopped",
            ) from None
        return ids[begin : begin + length]

    @cached_property
    def lines(self) -> np.ndarray:
        """int64 (documents,): line of each in its file, from 1."""
        return self._column("documents.line")

    def path(self, name: str) -> Path:
        """Where a file of the source is; one that an erasure wrote anew has another name."""
        return self.folder / self._renamed.get(name, name)

    @property
    def masked(self) -> bool:
        """Whether only parts of its documents are supervised (conversations)."""
        return "masks.runs" in self.manifest["files"]

    @property
    def mask_hash(self) -> str:
        """Hash of all masks; empty for plain text."""
        return self.manifest["files"]["masks.runs"]["xxh3_128"] if self.masked else ""

    @cached_property
    def targets(self) -> np.ndarray:
        """int64 (documents,): supervised tokens that have a token before them."""
        return self._column("masks.targets") if self.masked else self.lengths - 1

    def supervised(self, document: int, start: int = 0, length: int | None = None) -> np.ndarray:
        """bool (length,): which tokens of a document or a part of it are supervised."""
        size = int(self.lengths[document])
        flags = np.ones(size, bool)
        if self.masked:
            begin, end = self._mask_offsets[document : document + 2].tolist()
            flags = flags_of_runs(self._mask_runs[begin:end])
        return flags[start : size if length is None else start + length]

    def provenance(self, document: int) -> Provenance:
        if not 0 <= document < self.documents:
            raise IndexError(f"document {document} of {self.documents}")
        file = self.manifest["inputs"][bisect.bisect_right(self._file_starts, document) - 1]
        line = int(self.lines[document])
        frames = self._id_frames
        frame = int(np.searchsorted(frames[:, 0], document, side="right")) - 1
        end = int(frames[frame + 1, 1]) if frame + 1 < len(frames) else None
        ids = _frame_ids(str(self.path("ids.zst")), int(frames[frame, 1]), end)
        own_id = ids[document - int(frames[frame, 0])]
        return Provenance(own_id or f"{file['name']}:{line}", file["path"], line)

    def find_id(self, document_id: str) -> list[int]:
        """Documents that carry this id (more than one where ids repeat)."""
        wanted = np.uint64(xxhash.xxh3_64_intdigest(document_id.encode()))
        named = np.flatnonzero(self._column("documents.id_xxh3") == wanted).tolist()
        found = [d for d in named if self.provenance(d).id == document_id]
        return sorted({*found, *self._find_default_id(document_id)})

    def _find_default_id(self, document_id: str) -> list[int]:
        """Documents without an id of their own are called ``file:line``."""
        name, _, digits = document_id.rpartition(":")
        if not digits.isdigit():
            return []
        found: list[int] = []
        for file in self.manifest["inputs"]:
            if file["name"] != name:
                continue
            first = file["first_document"]
            lines = self.lines[first : first + file["documents"]]
            at = int(np.searchsorted(lines, int(digits)))
            if at < len(lines) and int(lines[at]) == int(digits):
                found += [first + at] if self.provenance(first + at).id == document_id else []
        return found

    @cached_property
    def _mask_offsets(self) -> np.ndarray:
        return np.asarray(self._column("masks.offsets"))

    @cached_property
    def _mask_runs(self) -> np.ndarray:
        return np.asarray(self._column("masks.runs"))

    @cached_property
    def _id_frames(self) -> np.ndarray:
        return self._column("ids.index").reshape(-1, 2)

    def _column(self, name: str) -> np.ndarray:
        return np.memmap(self.path(name), dtype=(COLUMN_DTYPES | MASK_DTYPES)[name], mode="r")


@lru_cache(maxsize=OPEN_SHARDS)
def _mapped_shard(path: str, dtype: str, tokens: int) -> np.ndarray:
    # A view keeps its map alive, so a shard that falls out of this cache stays readable.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(tokens,)))


def release_maps() -> None:
    """Let go of all shards, and of the memory of their pages that were read; they are mapped again
    when asked for."""
    _mapped_shard.cache_clear()


@lru_cache(maxsize=8)
def _frame_ids(path: str, begin: int, end: int | None) -> list[str | None]:
    with open(path, "rb") as file:
        file.seek(begin)
        packed = file.read() if end is None else file.read(end - begin)
    return json.loads(zstandard.ZstdDecompressor().decompress(packed))


def open_source(store: Path, key: str, name: str | None = None) -> SourceReader:
    """Open a built source. ``name`` is what the recipe calls it (else as when it was built).

    The manifest's own hash, the sizes of all files and the counts are checked, contents are
    not. Raises UserError naming the file that is wrong.
    """
    folder = store / key
    manifest = _read_manifest(folder, key)
    for problem in _size_problems(folder, manifest):
        raise UserError(problem, REBUILD_HINT)
    return SourceReader(folder, key, manifest, name or manifest["name"])


def verify_source(store: Path, key: str) -> list[str]:
    """Hash every file again; problems, each naming its file (none: all is as it was built)."""
    folder = store / key
    try:
        manifest = _read_manifest(folder, key)
    except UserError as error:
        return [error.message]
    problems = list(_size_problems(folder, manifest))
    wrong = {problem.split(": ")[0] for problem in problems}
    for name, entry in manifest["files"].items():
        path = folder / name
        if str(path) not in wrong and hash_file(path) != entry["xxh3_128"]:
            problems.append(f"{path}: its content is not what was written (xxh3_128 differs)")
    strangers = sorted({p.name for p in folder.iterdir()} - {*manifest["files"], MANIFEST})
    problems += [f"{folder / name}: not part of this source" for name in strangers]
    return problems or _structure_problems(SourceReader(folder, key, manifest, manifest["name"]))


def _read_manifest(folder: Path, key: str) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
        manifest = json.loads(raw)
    except FileNotFoundError:
        raise UserError(f"{path}: missing", "build this source (alloy build)") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error})", REBUILD_HINT) from None
    intact = isinstance(manifest, dict) and raw == manifest_bytes(manifest)
    if not intact or manifest.get("manifest_xxh3_128") != manifest_hash(manifest):
        raise UserError(f"{path}: its content is not what was written", REBUILD_HINT)
    if manifest["key"] != key:
        raise UserError(f"{path}: belongs to {manifest['key']}, not {key}", REBUILD_HINT)
    return manifest


def _size_problems(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    for name, entry in manifest["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            yield f"{path}: missing"
            continue
        if size != entry["bytes"]:
            yield f"{path}: {size} bytes, {entry['bytes']} were written"


def _structure_problems(reader: SourceReader) -> list[str]:
    """Whether columns, shards and counts fit together (hashes can only say 'as written')."""
    problems: list[str] = []
    lengths, shards = reader.lengths, reader.manifest["shards"]
    if lengths.size != reader.documents or (lengths <= 0).any() or reader.offsets[0] != 0:
        problems.append(f"{reader.folder / 'documents.offsets'}: not the documents of the manifest")
    if int(reader.offsets[-1]) != reader.total_tokens:
        problems.append(f"{reader.folder / 'documents.offsets'}: ends off the token count")
    if reader.masked and not _masks_fit(reader):
        problems.append(f"{reader.folder / 'masks.runs'}: not the lengths of its documents")
    for shard in shards:
        first, until = shard["first_document"], shard["first_document"] + shard["documents"]
        if int(reader.offsets[until] - reader.offsets[first]) != shard["tokens"]:
            problems.append(f"{reader.folder / shard['file']}: not the tokens of its documents")
    return problems


def _masks_fit(reader: SourceReader) -> bool:
    """Whether the runs of each document add up to its tokens, and give its targets."""
    if reader._mask_offsets.size != reader.documents + 1:
        return False
    found = [reader.supervised(d) for d in range(reader.documents)]
    sizes, targets = [f.size for f in found], [int(f[1:].sum()) for f in found]
    return np.array_equal(sizes, reader.lengths) and np.array_equal(targets, reader.targets)
