"""The built sources of a recipe, opened together: readers, exclusions and packed rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs import Data, Source, UserError
from mixing.exclude import exclusions, kept_spans, without_too_long
from mixing.pack import PackedRows, pack
from mixing.packing_ledger import PackingLedger, packing_ledger
from mixing.store import SourceReader, open_source


@dataclass(frozen=True)
class Corpus:
    """All by source name; ``packed`` and ``ledgers`` have the trained sources only."""

    sources: dict[str, Source]
    readers: dict[str, SourceReader]
    reasons: dict[str, np.ndarray]
    """uint8 (documents,): why a document is not trained on, 0 where it is."""
    packed: dict[str, PackedRows]
    ledgers: dict[str, PackingLedger]
    """What became of the stored documents."""


def open_corpus(data: Data, keys: Mapping[str, str]) -> Corpus:
    """Open what is built; ``keys`` are the content addresses of the sources in the store.

    Exclusions look across sources, so a corpus is opened with all sources of its recipe.
    """
    sources = {s.name: s for s in data.sources}
    readers = {name: open_source(Path(data.store), keys[name], name) for name in sources}
    found = exclusions(list(readers.values()), list(sources.values()))
    reasons = dict(zip(sources, found, strict=True))
    packed: dict[str, PackedRows] = {}
    ledgers: dict[str, PackingLedger] = {}
    for name, source in sources.items():
        if source.role != "retention":
            reasons[name] = without_too_long(readers[name], reasons[name], data.seq_len)
            packed[name] = _packed(readers[name], reasons[name], data)
            ledgers[name] = packing_ledger(readers[name].lengths, reasons[name], packed[name])
            if not packed[name].rows and ledgers[name].documents["too_long"]:
                raise UserError(
                    f"source '{name}': none of its conversations fits into a row of "
                    f"{data.seq_len} tokens",
                    f"raise data.seq_len; its longest has {int(readers[name].lengths.max())}",
                )
    return Corpus(sources, readers, reasons, packed, ledgers)


def _packed(reader: SourceReader, reasons: np.ndarray, data: Data) -> PackedRows:
    """Rows of a source; conversations are packed whole in either way of packing."""
    spans = kept_spans(reader, reasons)
    if not reader.masked:
        return pack(spans, data.seq_len, data.packing)
    return pack(spans, data.seq_len, "best_fit").with_masks(reader.targets, reader.mask_hash)
