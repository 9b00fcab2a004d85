"""Which documents a step trains on, and which steps see a document.

step ─▶ pieces of documents      document ─▶ steps and positions
"""

from dataclasses import dataclass

import numpy as np

from mixing.blend import RowReader


@dataclass(frozen=True)
class TracedPiece:
    """A piece of a document at one position of the run."""

    step: int
    position: int
    source: str
    epoch: int
    row: int
    document: int
    start: int
    """First token of the piece in its document."""
    length: int
    """Tokens of the piece."""


def pieces_of_step(reader: RowReader, step: int) -> list[TracedPiece]:
    """Every piece that a step reads, in the order of positions; erased ones are left out.

    Raises IndexError outside the run.
    """
    first = step * reader.plan.batch_rows
    positions = range(first, first + reader.plan.batch_rows)
    return [piece for position in positions for piece in pieces_at(reader, position)]


def pieces_at(reader: RowReader, position: int) -> list[TracedPiece]:
    """The pieces of the row at a position."""
    where = reader.locate(position)
    packed = reader.packed[where.source]
    span = range(int(packed.row_starts[where.row]), int(packed.row_starts[where.row + 1]))
    return [
        TracedPiece(
            step=position // reader.plan.batch_rows,
            position=position,
            source=reader.plan.sources[where.source].name,
            epoch=where.epoch,
            row=where.row,
            document=int(packed.document[piece]),
            start=int(packed.start[piece]),
            length=int(packed.length[piece]),
        )
        for piece in span
        if packed.erased is None or not packed.erased[piece]
    ]


def pieces_of_document(reader: RowReader, source: str, document: int) -> list[TracedPiece]:
    """Every place of the run that reads a document of a source, in order; empty where none does.

    Raises KeyError for a source that the plan does not train on.
    """
    index = {s.name: i for i, s in enumerate(reader.plan.sources)}[source]
    packed = reader.packed[index]
    pieces = np.flatnonzero(packed.document == document)
    rows = np.unique(np.searchsorted(packed.row_starts, pieces, side="right") - 1)
    positions = sorted(p for row in rows for p in reader.order.positions_of(index, int(row)))
    found = (piece for position in positions for piece in pieces_at(reader, position))
    return [piece for piece in found if piece.document == document]
