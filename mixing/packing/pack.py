"""Packs documents into rows of ``seq_len`` tokens, as an index: which span lies in which row.

    Spans ─▶ pack ─▶ PackedRows (row ─▶ pieces of documents)

Nothing is dropped: tokens of the spans = tokens of the rows, and rows x seq_len = tokens + padding.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import xxhash

from mixing.packing.best_fit import best_fit_rows


class SpanList(Protocol):
    """What may be trained on, in content order: int64 arrays of one length."""

    @property
    def document(self) -> np.ndarray: ...
    @property
    def start(self) -> np.ndarray: ...
    @property
    def length(self) -> np.ndarray: ...


@dataclass(frozen=True)
class PackedRows:
    """The pieces of each row; those of row r are ``row_starts[r]:row_starts[r + 1]``.

    Rows are numbered by their first piece and pieces in a row are in content order, so the
    result depends on the documents and their order alone.
    """

    seq_len: int
    row_starts: np.ndarray
    """int64 (rows + 1,)"""
    document: np.ndarray
    """int64 (pieces,)"""
    start: np.ndarray
    """int64 (pieces,): first token of the piece in its document."""
    length: np.ndarray
    """int64 (pieces,), each at least 1."""
    erased: np.ndarray | None = None
    """bool (pieces,): pieces that keep their place in the row and are read as padding."""
    targets: np.ndarray | None = None
    """int64 (pieces,): targets of the loss in each piece of masked documents; None: all tokens but
    the last of each piece."""
    mask_hash: str = ""
    """Hash of the masks, where there are any."""

    @property
    def rows(self) -> int:
        return len(self.row_starts) - 1

    @cached_property
    def tokens_per_row(self) -> np.ndarray:
        """int64 (rows,): tokens that are not padding."""
        return self._per_row(self._kept(self.length))

    @cached_property
    def supervised_per_row(self) -> np.ndarray:
        """int64 (rows,): targets of the loss. The last token of a piece has none: the next one
        is another document's, or lies in another row."""
        return self._per_row(self._kept(self.length - 1 if self.targets is None else self.targets))

    @property
    def tokens(self) -> int:
        return int(self.tokens_per_row.sum())

    @property
    def supervised_tokens(self) -> int:
        return int(self.supervised_per_row.sum())

    @property
    def padding(self) -> int:
        return self.rows * self.seq_len - self.tokens

    @cached_property
    def hash(self) -> str:
        """xxh3-128 of index and masks without erasures, so that erasing keeps a plan valid."""
        digest = xxhash.xxh3_128(f"alloy-pack-1:{self.seq_len}".encode())
        for array in (self.row_starts, self.document, self.start, self.length):
            digest.update(np.ascontiguousarray(array, dtype="<i8").data)
        if self.targets is not None:
            digest.update(f"masks:{self.mask_hash}".encode())
        return digest.hexdigest()

    def held(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and supervised tokens of some rows, each int64 (rows,), looking at those only."""
        if not len(rows):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        first = self.row_starts[rows]
        pieces = self.row_starts[rows + 1] - first
        begins = np.cumsum(pieces) - pieces
        piece = np.repeat(first - begins, pieces) + np.arange(int(pieces.sum()))
        erased = 0 if self.erased is None else self.erased[piece]
        kept = np.ones(len(piece), np.int64) - erased
        tokens = np.add.reduceat(self.length[piece] * kept, begins)
        if self.targets is not None:
            return tokens, np.add.reduceat(self.targets[piece] * kept, begins)
        return tokens, tokens - np.add.reduceat(kept, begins)

    def without(self, documents: np.ndarray) -> "PackedRows":
        """The same rows with every piece of these documents read as padding.

        Every other token keeps its position, so a run that is under way keeps its order.
        """
        erased = np.isin(self.document, documents)
        if self.erased is not None:
            erased |= self.erased
        return replace(self, erased=erased)

    def with_masks(self, targets: np.ndarray, mask_hash: str) -> "PackedRows":
        """Rows of masked documents; ``targets`` int64 (documents,) of each whole document.

        Raises ValueError where a document lies in two pieces: masks go with whole documents.
        """
        if (self.start != 0).any():
            raise ValueError("a masked document is split")
        return replace(self, targets=np.asarray(targets)[self.document], mask_hash=mask_hash)

    def _kept(self, per_piece: np.ndarray) -> np.ndarray:
        return per_piece if self.erased is None else np.where(self.erased, 0, per_piece)

    def _per_row(self, per_piece: np.ndarray) -> np.ndarray:
        if self.rows == 0:
            return np.zeros(0, np.int64)
        return np.add.reduceat(per_piece, self.row_starts[:-1])  # every row has a piece


def pack(spans: SpanList, seq_len: int, packing: Literal["best_fit", "concat"]) -> PackedRows:
    """Lay spans out in rows.

    best_fit: spans over ``seq_len`` are cut into ``seq_len`` pieces and a remainder, then
    best-fit-decreasing (Ding et al. 2024, "Fewer Truncations Improve Language Modeling").
    concat: one stream, cut every ``seq_len``; the last row may be short. Empty spans hold
    nothing and appear in no row.
    """
    if packing == "concat":
        document, start, length, row = _concat(spans, seq_len)
    else:
        document, start, length = _cut(spans, seq_len)
        row = _by_first_piece(best_fit_rows(length, seq_len))
    order = np.argsort(row, kind="stable")  # content order inside a row
    rows = int(row.max()) + 1 if len(row) else 0
    row_starts = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=rows), out=row_starts[1:])
    return PackedRows(seq_len, row_starts, document[order], start[order], length[order])


def _cut(spans: SpanList, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pieces of at most ``size`` tokens: 10 tokens cut by 4 give lengths 4, 4, 2."""
    pieces = -(-spans.length // size)
    span = np.repeat(np.arange(len(pieces)), pieces)
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    offset = (np.arange(len(span)) - first) * size
    length = np.minimum(spans.length[span] - offset, size)
    return spans.document[span], spans.start[span] + offset, length


def _concat(spans: SpanList, seq_len: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    kept = np.flatnonzero(spans.length)
    ends = np.cumsum(spans.length[kept])
    total = int(ends[-1]) if len(ends) else 0
    starts = ends - spans.length[kept]
    # Where a piece begins: a stable sort merges the two sorted runs in one pass.
    cuts = np.sort(np.concatenate((starts, np.arange(0, total, seq_len))), kind="stable")
    cuts = cuts[np.diff(cuts, prepend=-1) > 0]
    span = np.searchsorted(starts, cuts, side="right") - 1
    length = np.diff(cuts, append=total)
    start = spans.start[kept][span] + cuts - starts[span]
    return spans.document[kept][span], start, length, cuts // seq_len


def _by_first_piece(row: np.ndarray) -> np.ndarray:
    """Rows renumbered in the order of their first piece: [2, 1, 2, 0] becomes [0, 1, 0, 2]."""
    first = np.empty(int(row.max()) + 1 if len(row) else 0, np.int64)
    first[row[::-1]] = np.arange(len(row))[::-1]  # the last write is the first piece
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[row]
