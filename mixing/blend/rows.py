"""Rows of token ids by position.

Order + PackedRows + SourceReader ─▶ RowReader ─▶ Row(position)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from configs import CheckFailed, UserError
from mixing.blend.planned import Plan
from mixing.blend.seek import Location, Locations, Order
from mixing.packing import PackedRows

IGNORED = -100
"""Label of a position without a target."""
_BLOCK, _BLOCKS = 256, 64
"""Positions that are located at once, and how many such blocks are remembered: a training loop goes
through positions in order, and most of locating one is the call."""


class TokenReader(Protocol):
    """The tokens of one source, as ``mixing.store.SourceReader`` has them."""

    @property
    def key(self) -> str: ...
    def tokens(self, document: int, start: int = 0, length: int | None = None) -> np.ndarray: ...
    def supervised(
        self, document: int, start: int = 0, length: int | None = None
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class Row:
    """What a model sees at one position of the run; arrays are (seq_len,) but for the
    lengths of documents."""

    input_ids: np.ndarray
    """int64; the padding id where there is no token."""
    labels: np.ndarray
    """int64: the target of each position, that is the next token of the same piece; -100 at the
    last token of a piece, at padding, and where the next token is not supervised."""
    position_ids: np.ndarray
    """int64, from 0 in each piece. A piece that carries on a long document begins at 0 too, and
    padding at the end counts as one more piece."""
    segments: np.ndarray
    """int32: 0, 1, 2 ... by piece; -1 at padding and erased documents."""
    document_lengths: np.ndarray
    """int64 (pieces,): tokens of each piece in order, erased ones too; what is left of seq_len is
    padding. Attention over whole rows takes their cumulated sums."""
    source: int
    """Index into ``Plan.sources``."""


@dataclass(frozen=True)
class _Block:
    """Consecutive positions: the row of each, and the targets of all before it in the block."""

    source: list[int]
    row: list[int]
    supervised_before: list[int]
    """One more than there are positions."""


class RowReader:
    """The rows of a plan. ``position`` counts from the start of the run.

    Raises UserError where readers or packed rows are not the ones that the plan was made of.
    """

    def __init__(
        self,
        plan: Plan,
        readers: Mapping[str, TokenReader],
        packed: Mapping[str, PackedRows],
        pad_id: int,
    ) -> None:
        self.plan = plan
        self.order = Order(plan)
        self.pad_id = pad_id
        _refuse_strangers(plan, readers, packed)
        self._readers = [readers[source.name] for source in plan.sources]
        self.packed = [packed[source.name] for source in plan.sources]
        self._block = lru_cache(_BLOCKS)(self._located)

    def locate(self, position: int) -> Location:
        """Source, row, epoch and phase of a position, from the plan alone."""
        return self.order.locate(position)

    def row(self, position: int) -> Row:
        """The row at a position; raises IndexError outside of the run."""
        block, index = divmod(position, _BLOCK)
        self._require_inside(position, position + 1)
        where = self._block(block)
        return self.read(where.source[index], where.row[index])

    def read(self, source: int, row: int) -> Row:
        """A row of a source of the plan, by its number in the source's PackedRows."""
        packed, reader = self.packed[source], self._readers[source]
        pieces = slice(packed.row_starts[row], packed.row_starts[row + 1])
        length = packed.length[pieces]
        ids = np.full(packed.seq_len, self.pad_id, np.int64)
        spans = zip(packed.document[pieces].tolist(), packed.start[pieces].tolist(), strict=True)
        begin = 0
        for (document, start), tokens in zip(spans, length.tolist(), strict=True):
            found = reader.tokens(document, start, tokens)
            if len(found) != tokens:
                raise self._short(source, document, start, tokens, len(found))
            ids[begin : begin + tokens] = found
            begin += tokens
        erased = None if packed.erased is None else packed.erased[pieces]
        found = _row(ids, length, erased, self.pad_id, source)
        if packed.targets is not None:
            self._mask(found.labels, packed, pieces, reader)
        return found

    @staticmethod
    def _mask(labels: np.ndarray, packed: PackedRows, pieces: slice, reader: TokenReader) -> None:
        """Take the labels of tokens that are not supervised away, in place."""
        begin = 0
        columns = (packed.document[pieces], packed.start[pieces], packed.length[pieces])
        for document, start, length in zip(*(c.tolist() for c in columns), strict=True):
            supervised = reader.supervised(document, start, length)
            labels[begin : begin + length - 1][~supervised[1:]] = IGNORED
            begin += length

    def _short(
        self, source: int, document: int, start: int, tokens: int, found: int
    ) -> CheckFailed:
        return CheckFailed(
            f"source '{self.plan.sources[source].name}': document {document} has {found} of the "
            f"{tokens} tokens from {start} that its rows ask for",
            "run `alloy corpus verify --deep`, and build the source again",
        )

    def supervised(self, first: int, count: int) -> int:
        """Targets of the loss at positions first .. first + count - 1, without reading tokens;
        raises IndexError outside of the run."""
        end = first + count
        self._require_inside(first, end)
        total = 0
        for block in range(first // _BLOCK, -(-end // _BLOCK)):
            begin = block * _BLOCK
            before = self._block(block).supervised_before
            total += before[min(end - begin, _BLOCK)] - before[max(first - begin, 0)]
        return total

    def _require_inside(self, first: int, end: int) -> None:
        if not 0 <= first <= end <= self.plan.rows:
            raise IndexError(f"positions {first} to {end - 1} of a run of {self.plan.rows} rows")

    def _located(self, block: int) -> "_Block":
        first = block * _BLOCK
        where = self.order.locate_many(np.arange(first, min(first + _BLOCK, self.plan.rows)))
        before = np.append(0, np.cumsum(self.held(where)[1]))
        return _Block(where.source.tolist(), where.row.tolist(), before.tolist())

    def held(self, where: Locations) -> tuple[np.ndarray, np.ndarray]:
        """Tokens that are not padding, and targets of the loss, of each located row, int64."""
        tokens, supervised = np.zeros((2, len(where.row)), np.int64)
        for source in np.unique(where.source).tolist():
            here = np.flatnonzero(where.source == source)
            tokens[here], supervised[here] = self.packed[source].held(where.row[here])
        return tokens, supervised

    def rows_by_source(self, first: int, count: int) -> dict[str, int]:
        """Rows of each source at positions first .. first + count - 1."""
        rows = self.order.rows_by_source(first, count).tolist()
        return {source.name: n for source, n in zip(self.plan.sources, rows, strict=True)}


def _row(
    ids: np.ndarray, length: np.ndarray, erased: np.ndarray | None, pad_id: int, source: int
) -> Row:
    """Labels, positions and segments of pieces of these lengths that fill ``ids`` from the left."""
    seq_len, pieces = len(ids), len(length)
    ends = np.cumsum(length)
    filled = int(ends[-1])
    lengths, begins = np.append(length, seq_len - filled), np.append(ends - length, filled)
    position_ids = np.arange(seq_len)
    position_ids -= np.repeat(begins, lengths)
    names = np.arange(pieces + 1, dtype=np.int32)
    names[pieces] = -1
    if erased is not None and erased.any():
        names[:pieces][erased] = -1
        ids[np.repeat(np.append(erased, False), lengths)] = pad_id
    segments = np.repeat(names, lengths)
    labels = np.empty(seq_len, np.int64)
    labels[: filled - 1] = ids[1:filled]
    labels[filled - 1 :] = IGNORED
    labels[ends - 1] = IGNORED
    if erased is not None:
        labels[segments == -1] = IGNORED
    return Row(ids, labels, position_ids, segments, length, source)


def _refuse_strangers(
    plan: Plan, readers: Mapping[str, TokenReader], packed: Mapping[str, PackedRows]
) -> None:
    if plan.estimated:
        raise UserError(
            "the plan is an estimate of sources that are not built", "run `alloy build`"
        )
    for source in plan.sources:
        if source.name not in readers or source.name not in packed:
            raise UserError(f"source '{source.name}' of the plan is not built", "run `alloy build`")
        found = (readers[source.name].key, packed[source.name].hash)
        if found != (source.key, source.pack_hash):
            raise UserError(
                f"source '{source.name}' is not what the plan was made of: it has key {found[0]} "
                f"and rows {found[1]}, the plan {source.key} and {source.pack_hash}",
                "build the corpus that the plan names, or make a new plan",
            )
