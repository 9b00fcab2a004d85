"""Erases documents from a store for good.

    ids ─▶ erasure list (from here on every plan masks them) ─▶ matches, quarantines, shards wiped

Killed anywhere, the same command again does the rest; the next build does it for its own sources.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import AlloyError, CheckFailed, Source, UserError
from mixing.building.wipe import wipe_source, without_excerpts
from mixing.publish import remove_leftovers, replace_file
from mixing.selection import FOLDER, read_matches, write_matches
from mixing.store import (
    MANIFEST,
    QUARANTINE,
    Erasure,
    Erasures,
    SourceReader,
    add_erasures,
    hashed_id,
    load_erasures,
    open_source,
)


@dataclass(frozen=True)
class ErasedFrom:
    """Documents wiped from one built source; those of other recipes hold copies of the text."""

    source: str
    key: str
    documents: int


def erase(
    store: Path,
    sources: Sequence[tuple[Source, SourceReader]],
    ids: Sequence[str],
    progress: Callable[[str], None],
) -> list[ErasedFrom]:
    """Erase the documents with these ids in these sources, and every copy of their texts in the
    store. Raises UserError, with nothing erased, where an id is nowhere."""
    known = load_erasures(store)
    new: list[Erasure] = []
    missing: list[str] = []
    for document_id in ids:
        found = [e for source, reader in sources for e in _found(source, reader, document_id)]
        new += found
        if not found and not known.has_id(document_id):
            missing.append(document_id)
    if missing:
        raise UserError(
            f"no document has the id {', '.join(repr(i) for i in missing)}; nothing was erased",
            "ids are in the input's rows",
        )
    return finish(store, add_erasures(store, new), progress)


def finish(store: Path, erasures: Erasures, progress: Callable[[str], None]) -> list[ErasedFrom]:
    """Wipe all that the list names from every built source of the store.

    Raises CheckFailed, when all else is done, where a source is damaged: it may hold the text.
    """
    remove_leftovers(store)
    for path in sorted((store / ".refused").glob("*.jsonl")):
        content = without_excerpts(path)
        if content is not None:
            replace_file(path, content)
    wiped: list[ErasedFrom] = []
    damaged: list[AlloyError] = []
    for manifest in sorted(store.glob(f"[!.]*/{MANIFEST}")):
        key = manifest.parent.name
        try:
            wiped += finish_source(store, key, erasures, progress, excerpts=True)
        except UserError as error:
            damaged.append(error)
    if damaged:
        raise CheckFailed(
            f"{len(damaged)} damaged sources may still hold the text: {damaged[0].message}",
            "remove their folders and erase again",
        )
    return wiped


def finish_source(
    store: Path,
    key: str,
    erasures: Erasures,
    progress: Callable[[str], None],
    excerpts: bool = False,
) -> list[ErasedFrom]:
    """Wipe all that the list names from one built source and from its stored matches."""
    reader = open_source(store, key)
    documents = set(erasures.documents(reader).tolist())
    for path in sorted((store / FOLDER).glob(f"{key}-*.jsonl")):
        _wipe_matches(path, documents)
    count = wipe_source(store, key, progress, excerpts)
    return [ErasedFrom(reader.name, key, count)] if count else []


def _found(source: Source, reader: SourceReader, document_id: str) -> list[Erasure]:
    """Entries for the documents of a source with this id, and for quarantined rows with it."""
    files = {file["path"]: file["xxh3_128"] for file in reader.manifest["inputs"]}
    hashed = hashed_id(document_id)
    entries: list[Erasure] = []
    for document in reader.find_id(document_id):
        place = reader.provenance(document)
        content, size = int(reader.content_hashes[document]), int(reader.text_bytes[document])
        entries.append(Erasure(hashed, content, size, files[place.file], place.line))
    is_own = _id_in_json(source.id_column, document_id)
    for line in reader.path(QUARANTINE).read_bytes().splitlines():
        row = json.loads(line)
        if row.get("id") == document_id or is_own.search(row["excerpt"]):
            entries += [
                Erasure(hashed, 0, -1, digest, row["line"])
                for path, digest in files.items()
                if path == row["file"] or path.endswith(f"/{row['file']}")
            ]
    return entries


def _id_in_json(column: str, document_id: str) -> re.Pattern[str]:
    """What the id looks like in a line of JSON, which may be cut off or not be JSON at all."""
    values = {json.dumps(document_id), json.dumps(document_id, ensure_ascii=False)}
    values |= {document_id} if document_id.isdigit() else set()
    either = "|".join(re.escape(value) for value in sorted(values))
    return re.compile(rf"{re.escape(json.dumps(column))}\s*:\s*(?:{either})(?![0-9])")


def _wipe_matches(path: Path, documents: set[int]) -> None:
    """The places of a match stay, or rows would move; what stood there and its id go."""
    header, rows = read_matches(path)
    if not any(row["document"] in documents and row["passage"] for row in rows):
        return
    for row in rows:
        if row["document"] in documents:
            row |= {"id": None, "passage": ""}
    write_matches(path, header, [json.dumps(row) + "\n" for row in rows])
