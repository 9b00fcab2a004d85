"""Files to blocks of whole lines, lines to texts; what is bad says why and stops nothing."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydantic_core
import xxhash
import zstandard

from configs import Source
from mixing.chat_template import Message
from mixing.ledger import BadRow
from mixing.schemas import Schema

BOM = "\ufeff"
EXCERPT_CHARACTERS = 200
# Small compressed pieces bound what one piece can expand to.
COMPRESSED_BYTES = 1 << 16


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
    def max_line_bytes(self) -> int:
        """Longest line that is kept in memory: the text at three bytes of JSON for one of
        UTF-8 (an escaped character beyond the BMP), and room for the other columns."""
        return 3 * self.max_doc_bytes + (16 << 20)


@dataclass(frozen=True)
class Block:
    """Whole lines of one file; ``first_line`` counts from 1."""

    first_line: int
    data: bytes
    lines: int


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


class DamagedFile(Exception):
    """The rest of a compressed file cannot be read; the argument is the reason's name."""


class HashingReader:
    """A binary file that hashes what is read from it."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._digest = xxhash.xxh3_128()

    def read(self, size: int = -1) -> bytes:
        piece = self._raw.read(size)
        self._digest.update(piece)
        return piece

    def finish(self) -> str:
        """xxh3_128 of the whole file, reading what is left of it."""
        while self.read(COMPRESSED_BYTES):
            pass
        return self._digest.hexdigest()


def read_blocks(
    file: HashingReader, path: Path, max_line_bytes: int, block_bytes: int
) -> Iterator[Block | BadRow]:
    """Blocks of about ``block_bytes`` of whole lines, in order.

    A line over ``max_line_bytes`` and the unreadable rest of a damaged file come as BadRow;
    each counts as one line. The last line needs no line break.
    """
    cutter = LineCutter(max_line_bytes, block_bytes)
    try:
        for piece in decompressed(file, path):
            yield from cutter.add(piece)
    except DamagedFile as damage:
        yield from cutter.finish_damaged(str(damage))
        return
    yield from cutter.finish()


def decompressed(file: HashingReader, path: Path) -> Iterator[bytes]:
    """Pieces of the file's content. Raises DamagedFile after all that could be read."""
    if path.name.endswith(".zst"):
        return _zst_pieces(file)
    if path.name.endswith(".gz"):
        return _gz_pieces(file)
    return iter(lambda: file.read(1 << 20), b"")


def _zst_pieces(file: HashingReader) -> Iterator[bytes]:
    # The stream reader of zstandard takes a file that ends inside a frame for a whole one;
    # a decompression object knows whether its frame has ended.
    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    frame = None
    while piece := file.read(COMPRESSED_BYTES):
        while piece:
            frame = frame or unpacker.decompressobj()
            try:
                out = frame.decompress(piece)
            except zstandard.ZstdError:
                raise DamagedFile("damaged_zst") from None
            if out:
                yield out
            piece = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise DamagedFile("truncated_zst")


def _gz_pieces(file: HashingReader) -> Iterator[bytes]:
    stream = gzip.GzipFile(fileobj=cast(BinaryIO, file), mode="rb")
    while True:
        try:
            piece = stream.read1(1 << 18)
        except EOFError:
            raise DamagedFile("truncated_gz") from None
        except (gzip.BadGzipFile, zlib.error):
            raise DamagedFile("damaged_gz") from None
        if not piece:
            return
        yield piece


class LineCutter:
    """Pieces of any size to blocks of whole lines, with a bound on the memory of one line."""

    def __init__(self, max_line_bytes: int, block_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._block_bytes = block_bytes
        self._pieces: list[bytes] = []
        self._held = 0  # bytes in _pieces
        self._line = 1  # number of the first line in _pieces
        self._skipping = False  # inside a line that is too long

    def add(self, piece: bytes) -> Iterator[Block | BadRow]:
        if self._skipping:
            end = piece.find(b"\n")
            if end < 0:
                return
            self._skipping = False
            piece = piece[end + 1 :]
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held < self._block_bytes or (
            b"\n" not in piece and self._held <= self._max_line_bytes
        ):
            return
        data = self._take()
        end = data.rfind(b"\n") + 1
        if end:
            yield self._block(data[:end])
        rest = data[end:]
        if len(rest) > self._max_line_bytes:
            yield BadRow(self._line, "over_max_line_bytes", excerpt(rest))
            self._line += 1
            self._skipping = True
        elif rest:
            self._pieces, self._held = [rest], len(rest)

    def finish(self) -> Iterator[Block | BadRow]:
        data = self._take()
        if data:
            yield self._block(data)

    def finish_damaged(self, reason: str) -> Iterator[Block | BadRow]:
        data = self._take()
        end = data.rfind(b"\n") + 1
        if end:
            yield self._block(data[:end])
        yield BadRow(self._line, reason, excerpt(data[end:]))

    def _take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces, self._held = [], 0
        return data

    def _block(self, data: bytes) -> Block:
        lines = data.count(b"\n") + (not data.endswith(b"\n"))
        block = Block(self._line, data, lines)
        self._line += lines
        return block


def parse_row(line: bytes, number: int, options: RowOptions) -> Row | BadRow:
    """One line of JSON to a document, or why not."""
    row = _parse_json(line, number)
    if isinstance(row, BadRow):
        return row

    def bad(reason: str) -> BadRow:
        return BadRow(number, reason, excerpt(line))

    if not isinstance(row, dict):
        return bad("not_an_object")
    if options.schema is not None:
        found = _conversation(row, options.schema, options)
        return bad(found) if isinstance(found, str) else found
    text = row.get(options.text_column)
    if text is None:
        return bad("no_text")
    if not isinstance(text, str):
        return bad("text_not_a_string")
    had_bom = text.startswith(BOM)
    if had_bom:
        text = text.lstrip(BOM)
    if not text or text.isspace():
        return bad("empty_text")
    try:
        utf8 = text.encode()
    except UnicodeEncodeError:
        return bad("lone_surrogate")
    if len(utf8) > options.max_doc_bytes:
        return bad("over_max_doc_bytes")
    document_id, odd_id = _usable_id(row.get(options.id_column))
    return Row(text, utf8, document_id, had_bom, odd_id)


def _conversation(row: dict[str, Any], schema: Schema, options: RowOptions) -> Row | str:
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


def excerpt(data: bytes) -> str:
    """The beginning of some bytes as printable text; bytes that are not UTF-8 as \\xNN."""
    return data[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")[:EXCERPT_CHARACTERS]
