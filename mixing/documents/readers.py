"""Reads any file of a source in blocks of rows, and holds its bytes against their hash.

InputFile ─▶ its kind, by its name ─▶ lines | csv, tsv | text | parquet | arrow ─▶ Block or BadRow
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import pyarrow as pa

from configs import UserError
from mixing.documents.documents import RowOptions
from mixing.ledger import BadRow, excerpt
from mixing.sources import (
    Block,
    Columns,
    DamagedFile,
    HashingReader,
    InputFile,
    decompressed,
    hash_file,
    read_arrow,
    read_blocks,
    read_csv,
    read_parquet,
)

BOM_BYTES = 3


def read_file(file: InputFile, rows: RowOptions, block_bytes: int) -> Iterator[Block | BadRow]:
    """Blocks of about ``block_bytes``, in order. Raises UserError, at the end, where a file of
    this machine is not what was hashed."""
    with file.open() as raw:
        stream = HashingReader(raw)
        yield from _items(stream, raw, file, rows, block_bytes)
        if file.remote:
            return
        is_table = file.kind in ("parquet", "arrow")
        if (hash_file(file.path) if is_table else stream.finish()) != file.xxh3_128:
            raise UserError(
                f"{file.place}: it was changed while it was read",
                "build again when nothing writes to it",
            )


def blocks_of(file: InputFile, rows: RowOptions, block_bytes: int) -> Iterator[Block | BadRow]:
    """The same of a file that is not hashed yet."""
    with file.open() as raw:
        yield from _items(HashingReader(raw), raw, file, rows, block_bytes)


def _items(
    stream: HashingReader, raw: BinaryIO, file: InputFile, rows: RowOptions, block_bytes: int
) -> Iterator[Block | BadRow]:
    if file.kind in ("parquet", "arrow"):
        return _table(raw, file, rows, block_bytes)
    return _stream(stream, file, rows, block_bytes)


def _table(
    raw: BinaryIO, file: InputFile, rows: RowOptions, block_bytes: int
) -> Iterator[Block | BadRow]:
    # not mapped: pages of a map count as memory of the process until somebody else needs them
    source = pa.PythonFile(raw, "r") if file.remote else pa.OSFile(file.place)
    read = read_parquet if file.kind == "parquet" else read_arrow
    with source:
        yield from read(source, rows.columns, block_bytes)


def _stream(
    stream: HashingReader, file: InputFile, rows: RowOptions, block_bytes: int
) -> Iterator[Block | BadRow]:
    if file.kind in ("csv", "tsv"):
        delimiter, longest = "," if file.kind == "csv" else "\t", rows.max_line_bytes
        columns = Columns(rows.columns, rows.id_column)
        for item in read_csv(stream, file.path, delimiter, columns, longest, block_bytes):
            yield _with_share(item, stream, file)
    elif file.kind == "text":
        yield _text(stream, file, rows.max_doc_bytes)
    else:
        for item in read_blocks(stream, file.path, rows.max_line_bytes, block_bytes):
            yield _with_share(item, stream, file)


def _with_share(item: Block | BadRow, stream: HashingReader, file: InputFile) -> Block | BadRow:
    if isinstance(item, BadRow):
        return item
    return replace(item, file_share=min(1.0, stream.bytes_read / file.bytes))


def _text(stream: HashingReader, file: InputFile, max_doc_bytes: int) -> Block | BadRow:
    """The whole file as one document."""
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in decompressed(stream, file.path):
            pieces.append(piece)
            size += len(piece)
            if size > max_doc_bytes + BOM_BYTES:
                return BadRow(1, "over_max_doc_bytes", excerpt(pieces[0]))
    except DamagedFile as damage:
        return BadRow(1, damage.reason, excerpt(b"".join(pieces[:1])), rest_of_file=True)
    return Block(1, b"".join(pieces), 1, "text", file_share=1.0)
