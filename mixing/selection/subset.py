"""Chooses a seeded part of what may be trained on, which a small run repeats as often as a
large run repeats the whole.

    Spans of a source, share ─▶ subset_of ─▶ Spans

Documents go in an order that the seed and their texts decide, so a smaller part lies inside a
larger one, and where files lie changes nothing. Nothing is tokenized again: it is one more cut at
packing.
"""

import numpy as np

from mixing.selection.exclude import Spans, seeded_keys
from mixing.store import SourceReader


def subset_of(spans: Spans, reader: SourceReader, share: float, seed: int) -> Spans:
    """The first ``share`` of the units of ``spans``, whole documents but for the last one, which is
    cut; a conversation is left whole. Units are tokens, of a masked source targets."""
    if share >= 1:
        return spans
    units = reader.targets[spans.document] if reader.masked else spans.length
    keys = seeded_keys(np.asarray(reader.content_hashes)[spans.document], seed)
    length = first_units(keys, spans, units, share, whole=reader.masked)
    kept = length >= (1 if reader.masked else 2)  # what is left of one token has no target
    return Spans(spans.document[kept], spans.start[kept], length[kept])


def first_units(
    keys: np.ndarray, spans: Spans, units: np.ndarray, share: float, *, whole: bool
) -> np.ndarray:
    """Lengths to which spans are cut, int64 (spans,), 0 where one is left out.

    Spans go by key, then document, then start, until ``share`` of all units is reached; the one
    that reaches it is cut there, or taken ``whole``. ``keys`` uint64 and ``units`` int64, (spans,).
    """
    order = np.lexsort((spans.start, spans.document, keys))
    before = np.cumsum(units[order]) - units[order]
    left = np.maximum(0, round(share * int(units.sum())) - before)
    length = spans.length[order]
    cut = np.zeros(length.size, np.int64)
    cut[order] = np.where(left > 0, length, 0) if whole else np.minimum(length, left)
    return cut
