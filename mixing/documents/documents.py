"""Turns blocks of rows into documents; a bad row says why and does not stop the others.

Block ─▶ rows: columns by name ─▶ Row (a text or a conversation, with its id) or BadRow
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic_core

from configs import Source
from mixing.documents.chat_template import Message
from mixing.documents.schemas import Schema
from mixing.ledger import BadRow, excerpt
from mixing.sources import Block, NotUtf8, table_rows

BOM = "\ufeff"
UTF8_BOM = BOM.encode()


@dataclass(frozen=True)
class RowOptions:
    """How a line becomes a document; part of a built source's key."""

    text_column: str
    id_column: str
    max_doc_bytes: int
    schema: Schema | None = None
    """None: plain text."""

    @classmethod
    def of(cls, source: Source) -> "RowOptions":
        return cls(source.text_column, source.id_column, source.max_doc_bytes, Schema.of(source))

    def identity(self) -> dict[str, Any]:
        """What of it decides a document."""
        same = {"id_column": self.id_column, "max_doc_bytes": self.max_doc_bytes}
        if self.schema is None:
            return {"text_column": self.text_column, **same}
        return {**self.schema.identity(), **same}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        read = (self.text_column,) if self.schema is None else self.schema.columns
        return tuple(dict.fromkeys((self.id_column, *read)))

    @property
    def max_line_bytes(self) -> int:
        """Longest line that is kept in memory: the text at three bytes of JSON for one of
        UTF-8 (an escaped character beyond the BMP), and room for the other columns."""
        return 3 * self.max_doc_bytes + (16 << 20)


@dataclass(frozen=True)
class Row:
    """A usable line. ``id`` is None where the row has none that can be used. A conversation has
    ``messages``, and its text once it is rendered."""

    text: str
    utf8: bytes
    id: str | None
    had_bom: bool
    odd_id: bool
    messages: tuple[Message, ...] = ()


def parse_block(
    block: Block, options: RowOptions
) -> tuple[list[tuple[int, Row]], list[BadRow], Counter[str]]:
    """``(line, row)`` of the usable rows, the others, and notes (with ``blank_lines``)."""
    notes = Counter[str]()
    rows: list[tuple[int, Row]] = []
    bad: list[BadRow] = []
    parsers = {"lines": _parsed_lines, "table": _parsed_table, "text": _parsed_text}
    for row in parsers[block.kind](block, options, notes):
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            rows.append(row)
    return rows, bad, notes


def _parsed_lines(
    block: Block, options: RowOptions, notes: Counter[str]
) -> Iterator[tuple[int, Row] | BadRow]:
    data = block.data
    if block.first_line == 1 and data.startswith(UTF8_BOM):
        data = data[len(UTF8_BOM) :]
        notes["file_bom_stripped"] += 1
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n"), block.first_line):
        if not line or line.isspace():
            notes["blank_lines"] += 1
            continue
        row = parse_row(line, number, options)
        yield row if isinstance(row, BadRow) else (number, row)


def _parsed_table(
    block: Block, options: RowOptions, notes: Counter[str]
) -> Iterator[tuple[int, Row] | BadRow]:
    notes["file_bom_stripped"] += block.had_bom
    consecutive = range(block.first_line, block.first_line + block.lines)
    numbers = consecutive if block.numbers is None else block.numbers.tolist()
    for number, columns in zip(numbers, table_rows(block.data), strict=True):
        if isinstance(columns, NotUtf8):
            known, _ = _usable_id(columns.others.get(options.id_column))
            yield BadRow(number, "bad_utf8", excerpt(columns.glimpse), id=known)
            continue
        row = document_of(columns, options)
        if isinstance(row, str):
            glimpse = json.dumps(columns, default=str).encode()
            known, _ = _usable_id(columns.get(options.id_column))
            yield BadRow(number, row, excerpt(glimpse), id=known)
        else:
            yield number, row


def _parsed_text(
    block: Block, options: RowOptions, notes: Counter[str]
) -> Iterator[tuple[int, Row] | BadRow]:
    del notes
    try:
        row = document_of({options.text_column: block.data.decode()}, options)
    except UnicodeDecodeError:
        row = "bad_utf8"
    yield BadRow(1, row, excerpt(block.data)) if isinstance(row, str) else (1, row)


def parse_row(line: bytes, number: int, options: RowOptions) -> Row | BadRow:
    """One line of JSON to a document, or why not."""
    columns = _parse_json(line, number)
    if isinstance(columns, BadRow):
        return columns
    if not isinstance(columns, dict):
        return BadRow(number, "not_an_object", excerpt(line))
    row = document_of(columns, options)
    if not isinstance(row, str):
        return row
    known, _ = _usable_id(columns.get(options.id_column))
    return BadRow(number, row, excerpt(line), id=known)


def document_of(columns: Mapping[str, Any], options: RowOptions) -> Row | str:
    """The columns of a row to a document, or the reason why not."""
    if options.schema is not None:
        return _conversation(columns, options.schema, options)
    text = columns.get(options.text_column)
    if text is None:
        return "no_text"
    if not isinstance(text, str):
        return "text_not_a_string"
    had_bom = text.startswith(BOM)
    if had_bom:
        text = text.lstrip(BOM)
    if not text or text.isspace():
        return "empty_text"
    try:
        utf8 = text.encode()
    except UnicodeEncodeError:
        return "lone_surrogate"
    if len(utf8) > options.max_doc_bytes:
        return "over_max_doc_bytes"
    document_id, odd_id = _usable_id(columns.get(options.id_column))
    return Row(text, utf8, document_id, had_bom, odd_id)


def _conversation(row: Mapping[str, Any], schema: Schema, options: RowOptions) -> Row | str:
    """A row that still has to be rendered, or why not."""
    messages = schema.messages(row)
    if isinstance(messages, str):
        return messages
    try:
        size = sum(len(m.content.encode()) for m in messages)
    except UnicodeEncodeError:
        return "lone_surrogate"
    if size > options.max_doc_bytes:
        return "over_max_doc_bytes"
    document_id, odd_id = _usable_id(row.get(options.id_column))
    return Row("", b"", document_id, False, odd_id, messages)


def _parse_json(line: bytes, number: int) -> Any:
    try:
        return pydantic_core.from_json(line, cache_strings="keys")
    except ValueError:
        pass
    # Refused by the fast parser: the other one says why, and takes lone surrogates and
    # nesting that the fast one does not.
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError:
        return BadRow(number, "bad_utf8", excerpt(line))
    except (ValueError, RecursionError):
        return BadRow(number, "bad_json", excerpt(line))


def _usable_id(value: Any) -> tuple[str | None, bool]:
    """The id as text, and whether there was one of a kind that cannot be used."""
    if value is None or value == "":
        return None, False
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value), False
    if not isinstance(value, str):
        return None, True
    try:
        value.encode()
    except UnicodeEncodeError:
        return None, True
    return value, False
