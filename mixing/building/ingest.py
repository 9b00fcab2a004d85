"""Reads, encodes and writes the files of one source in order, counting what becomes of rows."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mixing.building.wipe import wiped_block
from mixing.documents import RowOptions, parse_block, read_file
from mixing.ledger import BadRow, Ledger
from mixing.sources import Block, InputFile
from mixing.store import Erasures, ShardWriter
from mixing.tokens import BlockTask, EncodedBlock, Library, Workers

BLOCK_BYTES = 4 << 20  # of lines, for one process at a time
SAMPLE_FILES = 8
SAMPLE_TEXTS_PER_FILE = 32
SAMPLE_CHARACTERS = 4_000  # of one text
SAMPLE_BYTES = 1 << 18  # read from the beginning of each file
PROGRESS_SECONDS = 5.0


@dataclass(frozen=True)
class TokenEnds:
    """Ids put before and after every document; None: nothing."""

    bos_id: int | None
    eos_id: int | None


class Tally:
    """Counts of one build: lines by the reader of the files, bad rows by the quarantine."""

    def __init__(self) -> None:
        self.lines = 0
        self.blank_lines = 0
        self.cut_files = 0
        self.dropped: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.documents_by_file: Counter[int] = Counter()
        self.erased: list[int] = []

    def ledger(self, documents_written: int) -> Ledger:
        documents_in = self.lines - self.blank_lines
        return Ledger(documents_in, documents_written, dict(sorted(self.dropped.items())))

    def inputs(self, files: Sequence[InputFile]) -> list[dict[str, Any]]:
        """The files for the manifest, with where the documents of each begin."""
        entries: list[dict[str, Any]] = []
        first_document = 0
        for index, file in enumerate(files):
            documents = self.documents_by_file[index]
            entries.append(
                {
                    "name": file.name,
                    "path": file.remote or str(file.path.resolve()),
                    "bytes": file.bytes,
                    "xxh3_128": file.xxh3_128,
                    "first_document": first_document,
                    "documents": documents,
                }
            )
            first_document += documents
        return entries


def ingest(
    name: str,
    files: Sequence[InputFile],
    rows: RowOptions,
    library: Library,
    ends: TokenEnds,
    pool: Workers,
    writer: ShardWriter,
    erasures: Erasures,
    progress: Callable[[str], None],
    read_tokens: int | None = None,
) -> Tally:
    """Write all documents of the files, or those of the first blocks that hold ``read_tokens``;
    quarantine the rest. What the writer gets does not depend on the number of processes. An
    erased document is written as its length only. Raises UserError where a file is not what was
    hashed."""
    tally = Tally()
    tally.notes["empty_files"] = sum(file.bytes == 0 for file in files)
    meter = Meter(name, progress)
    for read, result in pool.encode_in_order(_tasks(files, rows, library, ends, meter)):
        index = read.file
        if read_tokens is not None and writer.tokens >= read_tokens:
            tally.notes["files_not_read_to_their_end"] = len(files) - index
            break
        tally.lines += read.rows
        bad = [result] if isinstance(result, BadRow) else result.bad
        for row in bad:
            tally.dropped[row.reason] += row.rows
            tally.cut_files += row.rest_of_file
            if erasures.has_place(files[index].xxh3_128, row.line):
                row = replace(row, excerpt="", id=None)
            writer.add_bad(row, name, files[index].place)
        if isinstance(result, BadRow):
            continue
        tally.blank_lines += result.blank_lines
        tally.notes.update(result.notes)
        tally.documents_by_file[index] += result.lengths.size
        writer.add(_without_erased(result, files[index], erasures, writer.documents, tally))
        meter.show(writer.documents, writer.tokens, writer.text_bytes)
    return tally


def _without_erased(
    block: EncodedBlock, file: InputFile, erasures: Erasures, first: int, tally: Tally
) -> EncodedBlock:
    if not erasures:
        return block
    erased = erasures.among(file.xxh3_128, block.lines, block.content_hashes, block.text_bytes)
    tally.erased += (first + erased).tolist()
    return wiped_block(block, erased)


class _Read(NamedTuple):
    """What the reader of the files knows of a block."""

    file: int
    rows: int


def _tasks(
    files: Sequence[InputFile],
    rows: RowOptions,
    library: Library,
    ends: TokenEnds,
    meter: "Meter",
) -> Iterator[tuple[_Read, BlockTask | BadRow]]:
    for index, file in enumerate(files):
        for item in read_file(file, rows, BLOCK_BYTES):
            if isinstance(item, BadRow):
                yield _Read(index, item.rows), item
            else:
                task = BlockTask(item, rows, library, ends.bos_id, ends.eos_id)
                yield _Read(index, item.lines), task
                meter.read(index, len(files), item.file_share)


def sample_texts(files: Sequence[InputFile], rows: RowOptions) -> list[str]:
    """Beginnings of the first usable texts of up to SAMPLE_FILES files spread over the source."""
    step = max(1, len(files) // SAMPLE_FILES)
    texts: list[str] = []
    for file in files[::step][:SAMPLE_FILES]:
        blocks = read_file(file, rows, SAMPLE_BYTES)
        first = next((b for b in blocks if isinstance(b, Block)), None)
        if first is not None:
            usable = parse_block(first, rows)[0][:SAMPLE_TEXTS_PER_FILE]
            shown = [row.text or row.messages[-1].content for _, row in usable]
            texts += [text[:SAMPLE_CHARACTERS] for text in shown]
    return texts


class Meter:
    """Says every few seconds how far a source is."""

    def __init__(self, name: str, progress: Callable[[str], None]) -> None:
        self._name = name
        self._progress = progress
        self._started = self._shown = time.monotonic()
        self._where = ""

    def read(self, file: int, files: int, share: float) -> None:
        self._where = f"file {file + 1} of {files} ({share:.0%})"

    def show(self, documents: int, tokens: int, text_bytes: int) -> None:
        now = time.monotonic()
        if now - self._shown < PROGRESS_SECONDS:
            return
        self._shown = now
        rate = text_bytes / 1e6 / (now - self._started)
        self._progress(
            f"{self._name}: {self._where}, {documents:,} documents, {tokens:,} tokens, "
            f"{rate:.0f} MB/s of text"
        )
