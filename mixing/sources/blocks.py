"""Reads a file in blocks of whole lines; a damaged part says so and does not stop the rest."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
import xxhash
import zstandard

from mixing.ledger import BadRow, excerpt

# Small compressed pieces bound what one piece can expand to.
COMPRESSED_BYTES = 1 << 16


@dataclass(frozen=True)
class Block:
    """Some rows of one file, in a form that goes to another process.

    ``data`` is whole lines of JSON, an Arrow stream of a table, or one text, as ``kind`` says.
    """

    first_line: int
    """Line or row of the first one, from 1."""
    data: bytes
    lines: int
    kind: Literal["lines", "table", "text"] = "lines"
    numbers: np.ndarray | None = None
    """int64 (lines,): line of each row of a table, where they are not consecutive."""
    had_bom: bool = False
    """Whether a byte order mark was taken off what stands before a table's rows."""
    file_share: float = 0.0
    """About how much of the file has been read by the end of this block."""


class DamagedFile(Exception):
    """The rest of a compressed file cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HashingReader:
    """A binary file that hashes and counts what is read from it."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._digest = xxhash.xxh3_128()
        self.bytes_read = 0

    def read(self, size: int = -1) -> bytes:
        piece = self._raw.read(size)
        self._digest.update(piece)
        self.bytes_read += len(piece)
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
        yield from cutter.finish_damaged(damage.reason)
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
        yield BadRow(self._line, reason, excerpt(data[end:]), rest_of_file=True)

    def _take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces, self._held = [], 0
        return data

    def _block(self, data: bytes) -> Block:
        lines = data.count(b"\n") + (not data.endswith(b"\n"))
        block = Block(self._line, data, lines)
        self._line += lines
        return block
