"""The built sources of a recipe, opened together: readers, exclusions and packed rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs import Data, Source
from mixing.exclude import exclusions, kept_spans
from mixing.pack import PackedRows, pack
from mixing.store import SourceReader, open_source


@dataclass(frozen=True)
class Corpus:
    """All by source name; ``packed`` has the trained sources only."""

    sources: dict[str, Source]
    readers: dict[str, SourceReader]
    reasons: dict[str, np.ndarray]
    """uint8 (documents,): why a document is not trained on, 0 where it is."""
    packed: dict[str, PackedRows]


def open_corpus(data: Data, keys: Mapping[str, str]) -> Corpus:
    """Open what is built; ``keys`` are the content addresses of the sources in the store.

    Exclusions look across sources, so a corpus is opened with all sources of its recipe.
    """
    sources = {s.name: s for s in data.sources}
    readers = {name: open_source(Path(data.store), keys[name], name) for name in sources}
    found = exclusions(list(readers.values()), list(sources.values()))
    reasons = dict(zip(sources, found, strict=True))
    packed = {
        name: pack(kept_spans(readers[name], reasons[name]), data.seq_len, data.packing)
        for name, source in sources.items()
        if source.role != "retention"
    }
    return Corpus(sources, readers, reasons, packed)
