"""Reads CSV and TSV files with a header in blocks of rows.

Python's own reader in its strict mode, because it tells a quote that is never closed or closed in
the middle of a field, where pyarrow's takes all that follows for one text, and because no row has
to fit into a block. It is several times faster than tokenizing.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mixing.ledger import BadRow, excerpt
from mixing.sources.blocks import Block, DamagedFile, HashingReader, decompressed
from mixing.sources.tables import batch_blocks, named_twice

BOM = "\ufeff"


@dataclass(frozen=True)
class Columns:
    """The columns that are read, and which of them is the id."""

    read: Sequence[str]
    id: str


class _Lines:
    """Lines of a file as text, with what is not UTF-8 escaped, bounded in length.

    A damaged file ends early and says so in ``damage``; the line that it broke off is left out.
    """

    def __init__(self, file: HashingReader, path: Path, max_line_bytes: int) -> None:
        self._pieces = decompressed(file, path)
        self._most = max_line_bytes
        self.damage: DamagedFile | None = None
        self.had_bom = False
        self.too_long = False

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(self._joined()):
            text = line.decode("utf-8", "surrogateescape")
            if number == 0 and text.startswith(BOM):
                self.had_bom = True
                text = text.removeprefix(BOM)
            yield text

    def _joined(self) -> Iterator[bytes]:
        held: list[bytes] = []
        size = 0
        for piece in self._whole_pieces():
            *whole, rest = piece.split(b"\n")
            for line in whole:
                yield b"".join([*held, line, b"\n"])
                held.clear()
                size = 0
            held.append(rest)
            size += len(rest)
            if size > self._most:
                self.too_long = True
                return
        last = b"".join(held)
        if last and self.damage is None:
            yield last

    def _whole_pieces(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except DamagedFile as damage:
            self.damage = damage


def read_csv(
    file: HashingReader,
    path: Path,
    delimiter: str,
    columns: Columns,
    max_line_bytes: int,
    block_bytes: int,
) -> Iterator[Block | BadRow]:
    """Blocks of the rows below the header, by the line at which each begins.

    A row with other than the header's number of fields, or with a quote out of place, is a BadRow
    and the next line begins the next row; blank lines are no rows.
    """
    csv.field_size_limit(max_line_bytes)
    lines = _Lines(file, path, max_line_bytes)
    reader = csv.reader(iter(lines), delimiter=delimiter, strict=True)
    rows = _rows(reader, lines)
    header = next(rows, None)
    if isinstance(header, tuple):
        yield from _below(header[1], rows, columns, lines, block_bytes)
    elif header is not None:  # without a header nothing can be told from anything
        yield replace(header, rest_of_file=True)


def _rows(reader: Any, lines: _Lines) -> Iterator[tuple[int, list[str]] | BadRow]:
    """``(line, fields)`` of every row that is not blank, the header's too."""
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            lines.too_long |= "field larger" in str(error)
            if lines.damage is not None or lines.too_long:
                break
            # all to the end of the file may be in that one quote
            unclosed = "end of data" in str(error)
            reason = "unclosed_quote" if unclosed else "bad_csv"
            yield BadRow(first, reason, excerpt(str(error).encode()), rest_of_file=unclosed)
            continue
        if fields:
            yield first, fields
    if lines.damage is not None:
        yield BadRow(first, lines.damage.reason, "", rest_of_file=True)
    elif lines.too_long:
        yield BadRow(first, "over_max_line_bytes", "", rest_of_file=True)


def _below(
    header: list[str],
    rows: Iterable[tuple[int, list[str]] | BadRow],
    columns: Columns,
    lines: _Lines,
    block_bytes: int,
) -> Iterator[Block | BadRow]:
    twice = named_twice(header, columns.read)
    if twice is not None:
        yield twice
        return
    names = [name for name in columns.read if name in header]
    places = [header.index(name) for name in names]
    id_place = header.index(columns.id) if columns.id in header else None
    had_bom = lines.had_bom
    held: list[tuple[int, list[bytes]]] = []
    size = 0
    for row in rows:
        if not isinstance(row, BadRow):
            row = _encoded(row, len(header), places, id_place)
        if isinstance(row, BadRow):
            yield row
            continue
        held.append(row)
        size += sum(map(len, row[1]))
        if size >= block_bytes:
            yield from _block(held, names, block_bytes, had_bom)
            held, size, had_bom = [], 0, False
    if held:
        yield from _block(held, names, block_bytes, had_bom)


def _encoded(
    row: tuple[int, list[str]], width: int, places: Sequence[int], id_place: int | None
) -> tuple[int, list[bytes]] | BadRow:
    number, fields = row
    if len(fields) != width:
        what = f"{len(fields)} fields under {width} names: {','.join(fields)}"
        glimpse = excerpt(what.encode("utf-8", "surrogateescape"))
        return BadRow(number, "wrong_number_of_fields", glimpse, id=_id_at(fields, id_place))
    try:
        return number, [fields[place].encode() for place in places]
    except UnicodeEncodeError:
        whole = ",".join(fields).encode("utf-8", "surrogateescape")
        return BadRow(number, "bad_utf8", excerpt(whole), id=_id_at(fields, id_place))


def _id_at(fields: Sequence[str], place: int | None) -> str | None:
    """What stands in the place of the id, where that is text; in a row with fields missing or to
    spare it may be another field."""
    if place is None or place >= len(fields):
        return None
    shown = fields[place].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return shown if shown == fields[place] else None


def _block(
    rows: list[tuple[int, list[bytes]]],
    names: Sequence[str],
    block_bytes: int,
    had_bom: bool,
) -> Iterator[Block]:
    numbers = np.array([number for number, _ in rows], np.int64)
    if names:
        parts = [pa.array(part, pa.string()) for part in zip(*(f for _, f in rows), strict=True)]
        batch = pa.record_batch(parts, names=list(names))
    else:  # rows without any column that is read are rows all the same
        batch = pa.record_batch([pa.nulls(len(rows))], names=[""])
    yield from batch_blocks(batch, int(numbers[0]), block_bytes, numbers=numbers, had_bom=had_bom)
