"""What became of the stored documents of a source when it was packed: the counts must add up."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mixing.packing import PackedRows
from mixing.selection import KEPT, REASONS, Spans


@dataclass(frozen=True)
class PackingLedger:
    """``documents`` and ``tokens`` by what became of them: packed, duplicate, heldout, erased,
    too_long (a conversation longer than a row), contaminated (passages of evals, and documents of
    which nothing else was left), outside_subset (where a part of the source is asked for).
    ``balanced``: the tokens that the rows hold, counted over the rows, are those of the spans that
    may be trained on, and all there are have a place here.
    """

    documents: dict[str, int]
    tokens: dict[str, int]
    rows: int
    padding: int
    balanced: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def packing_ledger(
    lengths: np.ndarray, reasons: np.ndarray, kept: Spans, part: Spans, packed: PackedRows
) -> PackingLedger:
    """``lengths`` int64 and ``reasons`` uint8, each (documents,), of everything that is stored;
    ``kept`` what of it may be trained on, ``part`` the part of that which is."""
    documents = {name: int((reasons == code).sum()) for code, name in REASONS.items()}
    tokens = {name: int(lengths[reasons == code].sum()) for code, name in REASONS.items()}
    whole_documents, whole_tokens = documents.pop(REASONS[int(KEPT)]), tokens.pop("kept")
    left_documents, left_tokens = np.unique(kept.document).size, int(kept.length.sum())
    documents["packed"] = np.unique(part.document).size
    tokens["packed"] = int(part.length.sum())
    documents["contaminated"] = whole_documents - left_documents
    tokens["contaminated"] = whole_tokens - left_tokens
    documents["outside_subset"] = left_documents - documents["packed"]
    tokens["outside_subset"] = left_tokens - tokens["packed"]
    everything = sum(documents.values()) == lengths.size and min(tokens.values()) >= 0
    return PackingLedger(
        documents=documents,
        tokens=tokens,
        rows=packed.rows,
        padding=packed.padding,
        balanced=everything and packed.tokens == tokens["packed"],
    )
