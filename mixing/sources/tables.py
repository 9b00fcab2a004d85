"""Reads Parquet and Arrow files in blocks of rows, a few MB at a time.

    row groups or record batches ─▶ batches of the columns that are read ─▶ Block(kind="table")

What cannot be decoded is a BadRow: a row group of Parquet by itself, as the footer says how many
rows it holds; in an Arrow file all that follows.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from mixing.ledger import BadRow, excerpt
from mixing.sources.blocks import Block

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
ARROW_FILE = b"ARROW1"
BUFFER_BYTES = 1 << 20
# A group of few different texts is small by its metadata and large once decoded.
MOST_BATCH_ROWS = 4096


@dataclass(frozen=True)
class NotUtf8:
    """A row with a string that is not UTF-8, and its columns without one."""

    glimpse: bytes
    others: dict[str, Any]


def read_parquet(file: Any, columns: Sequence[str], block_bytes: int) -> Iterator[Block | BadRow]:
    """Blocks of a Parquet file, which is read a row group after the other; ``file`` is a path or
    a binary file that can seek.

    Raises OSError where reading itself fails; what cannot be decoded comes as BadRow.
    """
    try:
        # pre_buffer would hold whole row groups; page checksums are there where a writer made them
        parquet = pq.ParquetFile(
            file, pre_buffer=False, buffer_size=BUFFER_BYTES, page_checksum_verification=True
        )
        metadata, available = parquet.metadata, parquet.schema_arrow.names
    except (pa.ArrowException, OSError) as error:
        yield _rest(1, "damaged_parquet", error)
        return
    twice = named_twice(available, columns)
    if twice is not None:
        yield twice
        return
    names = [name for name in columns if name in available]
    done = 0
    for group in range(metadata.num_row_groups):
        until = done + metadata.row_group(group).num_rows
        batches = parquet.iter_batches(
            batch_size=_batch_rows(metadata.row_group(group), names, block_bytes),
            row_groups=[group],
            columns=names,
            use_threads=False,
        )
        try:
            for batch in batches:
                share = (done + batch.num_rows) / metadata.num_rows
                yield from batch_blocks(batch, done + 1, block_bytes, file_share=share)
                done += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            _reraise_if_of_the_disk(error)
            where = f"row group {group}, rows {done + 1} to {until}: {error}"
            yield BadRow(done + 1, "damaged_row_group", excerpt(where.encode()), until - done)
            done = until


def named_twice(available: Sequence[str], columns: Sequence[str]) -> BadRow | None:
    """A file in which nobody can tell what a column means is of no use as a whole."""
    for name in columns:
        if available.count(name) > 1:
            return BadRow(1, "column_named_twice", excerpt(name.encode()), rest_of_file=True)
    return None


def _batch_rows(group: pq.RowGroupMetaData, names: Sequence[str], block_bytes: int) -> int:
    """Rows of about ``block_bytes`` of the columns that are read, by their average."""
    parts = [group.column(i) for i in range(group.num_columns)]
    size = sum(p.total_uncompressed_size for p in parts if p.path_in_schema.split(".")[0] in names)
    return max(1, min(MOST_BATCH_ROWS, block_bytes * group.num_rows // max(1, size)))


def read_arrow(
    source: pa.NativeFile, columns: Sequence[str], block_bytes: int
) -> Iterator[Block | BadRow]:
    """Blocks of an Arrow file in either IPC format, the one for files or the one for streams.

    Raises OSError where reading itself fails.
    """
    row = 1
    try:
        for batch, share in _record_batches(source):
            twice = named_twice(batch.schema.names, columns)
            if twice is not None:
                yield twice
                return
            kept = batch.select([n for n in columns if n in batch.schema.names])
            yield from batch_blocks(kept, row, block_bytes, share)
            row += batch.num_rows
        if not _is_whole(source):
            yield BadRow(row, "truncated_arrow", "", rest_of_file=True)
    except (pa.ArrowException, OSError) as error:
        yield _rest(row, "damaged_arrow", error)


def _record_batches(source: pa.NativeFile) -> Iterator[tuple[pa.RecordBatch, float]]:
    """Checked record batches, each with the share of the file that ends with it."""
    if source.read(len(ARROW_FILE)) == ARROW_FILE:
        reader = pa.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            batch = reader.get_batch(index)
            yield _checked(batch), (index + 1) / reader.num_record_batches
        return
    source.seek(0)
    for batch in pa.ipc.open_stream(source):
        yield _checked(batch), min(1.0, source.tell() / source.size())


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Offsets that lead out of a buffer would crash the process; strings that are not UTF-8 are
    the business of their rows."""
    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):
                raise
    return batch


def _is_whole(source: pa.NativeFile) -> bool:
    """Whether a stream has the marker that a writer puts at its end; a file without its footer
    does not open."""
    source.seek(0)
    if source.read(len(ARROW_FILE)) == ARROW_FILE:
        return True
    source.seek(max(0, source.size() - len(END_OF_STREAM)))
    return source.read() == END_OF_STREAM


def batch_blocks(
    batch: pa.RecordBatch,
    first_row: int,
    block_bytes: int,
    file_share: float = 0.0,
    numbers: np.ndarray | None = None,
    had_bom: bool = False,
) -> Iterator[Block]:
    """A record batch as blocks of at most about ``block_bytes``, halved where it is larger."""
    if batch.num_rows == 0:
        return
    if batch.nbytes > 2 * block_bytes and batch.num_rows > 1:
        half = batch.num_rows // 2
        parts = [(batch.slice(0, half), 0, half), (batch.slice(half), half, batch.num_rows)]
        for part, begin, end in parts:
            share = file_share if end == batch.num_rows else file_share * end / batch.num_rows
            own = None if numbers is None else numbers[begin:end]
            yield from batch_blocks(
                part, first_row + begin, block_bytes, share, own, had_bom and begin == 0
            )
        return
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data = sink.getvalue().to_pybytes()
    yield Block(first_row, data, batch.num_rows, "table", numbers, had_bom, file_share)


def table_rows(data: bytes) -> Iterator[dict[str, Any] | NotUtf8]:
    """The rows of a block's table."""
    for batch in pa.ipc.open_stream(data):
        try:
            yield from batch.to_pylist() if batch.num_columns else [{}] * batch.num_rows
        except UnicodeDecodeError:
            yield from _rows_one_by_one(batch)


def _rows_one_by_one(batch: pa.RecordBatch) -> Iterable[dict[str, Any] | NotUtf8]:
    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        try:
            yield row.to_pylist()[0]
        except UnicodeDecodeError as error:
            yield NotUtf8(error.object, _decodable(row))


def _decodable(row: pa.RecordBatch) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        with suppress(UnicodeDecodeError):
            found[name] = column[0].as_py()
    return found


def _rest(row: int, reason: str, error: Exception) -> BadRow:
    _reraise_if_of_the_disk(error)
    return BadRow(row, reason, excerpt(str(error).encode()), rest_of_file=True)


def _reraise_if_of_the_disk(error: Exception) -> None:
    """Arrow calls bad data an OSError too; one of the operating system has a number."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
