"""What became of the stored documents of a source when it was packed: the counts must add up."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mixing.exclude import KEPT, REASONS
from mixing.pack import PackedRows


@dataclass(frozen=True)
class PackingLedger:
    """``documents`` and ``tokens`` by what became of them: packed, duplicate, heldout, too_long
    (a conversation longer than a row). ``balanced``: the tokens that the rows hold, counted over
    the rows, are those of the documents that are packed, and rows x seq_len is theirs and the
    ``padding``.
    """

    documents: dict[str, int]
    tokens: dict[str, int]
    rows: int
    padding: int
    balanced: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def excluded(self) -> str:
        """``heldout 2, too_long 1``: documents that are not packed; empty where all are."""
        counts = {k: v for k, v in self.documents.items() if k != "packed" and v}
        return ", ".join(f"{reason} {count:,}" for reason, count in counts.items())


def packing_ledger(lengths: np.ndarray, reasons: np.ndarray, packed: PackedRows) -> PackingLedger:
    """``lengths`` int64 and ``reasons`` uint8, each (documents,), of everything that is stored."""
    names = [("packed" if code == int(KEPT) else name) for code, name in REASONS.items()]
    documents = np.bincount(reasons, minlength=len(names)).tolist()
    tokens = [int(lengths[reasons == code].sum()) for code in REASONS]
    in_rows = int(packed.length.sum())
    return PackingLedger(
        documents=dict(zip(names, documents, strict=True)),
        tokens=dict(zip(names, tokens, strict=True)),
        rows=packed.rows,
        padding=packed.rows * packed.seq_len - in_rows,
        balanced=in_rows == tokens[int(KEPT)] and sum(tokens) == int(lengths.sum()),
    )
