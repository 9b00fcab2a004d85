"""The erasure list of a store: hashes of what must stay away, which do not say what it was.

    <store>/.erased.json ─▶ Erasures ─▶ documents of a built source, rows of a new build

An entry holds a hash of the document's id, the hash and size of its text, and its place (hash of
the input file, line). A document is erased where its text is the same, in whatever source, or
where it stands at the same line of a file of the same bytes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from configs import UserError
from mixing.publish import locked, replace_file
from mixing.store.store import SourceReader

LIST = ".erased.json"
FORMAT = 1


@dataclass(frozen=True)
class Erasure:
    """One erased document. A row that was only ever quarantined has no text: size -1."""

    id_sha256: str
    content_xxh3: int
    text_bytes: int
    input_xxh3_128: str
    line: int


@dataclass(frozen=True)
class Erasures:
    """The whole list, made to be asked."""

    entries: tuple[Erasure, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)

    @cached_property
    def _texts(self) -> frozenset[tuple[int, int]]:
        return frozenset((e.content_xxh3, e.text_bytes) for e in self.entries)

    @cached_property
    def _hashes(self) -> np.ndarray:
        hashes = {e.content_xxh3 for e in self.entries if e.text_bytes >= 0}
        return np.array(sorted(hashes), np.uint64)

    def has_id(self, document_id: str) -> bool:
        return any(e.id_sha256 == hashed_id(document_id) for e in self.entries)

    def has_place(self, input_xxh3_128: str, line: int) -> bool:
        return line in self.lines_of(input_xxh3_128)

    def lines_of(self, input_xxh3_128: str) -> list[int]:
        """Erased lines of a file with this content."""
        return [e.line for e in self.entries if e.input_xxh3_128 == input_xxh3_128]

    def among(
        self, input_xxh3_128: str, lines: np.ndarray, hashes: np.ndarray, text_bytes: np.ndarray
    ) -> np.ndarray:
        """Which of some documents of one file are erased, int64 indices in order."""
        same = np.flatnonzero(np.isin(hashes, self._hashes)).tolist()
        found = {i for i in same if (int(hashes[i]), int(text_bytes[i])) in self._texts}
        found |= set(np.flatnonzero(np.isin(lines, self.lines_of(input_xxh3_128))).tolist())
        return np.array(sorted(found), np.int64)

    def documents(self, reader: SourceReader) -> np.ndarray:
        """Erased documents of a built source, int64, in order; wiped already or not."""
        found = [np.empty(0, np.int64)]
        for file in reader.manifest["inputs"] if self else ():
            first = file["first_document"]
            part = slice(first, first + file["documents"])
            columns = reader.lines[part], reader.content_hashes[part], reader.text_bytes[part]
            found.append(first + self.among(file["xxh3_128"], *columns))
        return np.concatenate(found)


def hashed_id(document_id: str) -> str:
    return hashlib.sha256(document_id.encode()).hexdigest()


def load_erasures(store: Path) -> Erasures:
    """The list of a store; empty where there is none. Raises UserError for a damaged one."""
    path = store / LIST
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree["format"] != FORMAT:
            raise UserError(f"{path}: format {tree['format']}, not {FORMAT}", "upgrade alloy")
        return Erasures(tuple(Erasure(**entry) for entry in tree["erased"]))
    except FileNotFoundError:
        return Erasures()
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error})", "bring it back from a copy") from None


def add_erasures(store: Path, new: Sequence[Erasure]) -> Erasures:
    """The list with ``new`` added to it, on disk before this returns."""
    with locked(store, "erased"):
        entries = tuple(dict.fromkeys([*load_erasures(store).entries, *new]))
        tree = {"format": FORMAT, "erased": [asdict(entry) for entry in entries]}
        replace_file(store / LIST, json.dumps(tree, indent=1).encode())
    return Erasures(entries)
