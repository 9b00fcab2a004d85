"""Which documents may be trained on: what is not taken, duplicates and held-out ones are left out
at packing.

Nothing here touches tokens: another mix, held-out share or set of sources re-tokenizes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from configs import Source, UserError
from mixing.store import SourceReader

KEPT = np.uint8(0)
DUPLICATE = np.uint8(1)
HELDOUT = np.uint8(2)
ERASED = np.uint8(3)
TOO_LONG = np.uint8(4)
NOT_TAKEN = np.uint8(5)
REASONS = {
    int(KEPT): "kept",
    int(DUPLICATE): "duplicate",
    int(HELDOUT): "heldout",
    int(ERASED): "erased",
    int(TOO_LONG): "too_long",
    int(NOT_TAKEN): "not_taken",
}

TAKE_SALT = 0x616C6C6F79  # any number but zero

ROLE_ORDER = {"domain": 0, "general": 1, "retention": 2}


@dataclass(frozen=True)
class Spans:
    """Parts of a source's documents, each int64 (spans,), in order of document and start."""

    document: np.ndarray
    start: np.ndarray
    length: np.ndarray


def exclusions(
    readers: Sequence[SourceReader], sources: Sequence[Source], seed: int = 0
) -> list[np.ndarray]:
    """Reason code of every document, one uint8 (documents,) array per source.

    Of a source with ``take`` only what is taken counts for anything else. A text is kept once: in a
    domain source rather than a general one, in a trained source rather than a retention one, then
    in the first source by name, at its first place. Of what is kept, ``heldout`` of each trained
    source is held out by content hash, at least one document of two or more; a retention source is
    for evaluation as a whole and has none.
    """
    if len(readers) != len(sources):
        raise UserError(f"{len(readers)} readers for {len(sources)} sources", "one for each")
    reasons = [_not_taken(r, s.take, seed) for r, s in zip(readers, sources, strict=True)]
    _mark_duplicates(readers, sources, reasons)
    for reader, source, codes in zip(readers, sources, reasons, strict=True):
        if source.role != "retention":
            kept = np.flatnonzero(codes == KEPT)
            held = heldout_of(np.asarray(reader.content_hashes)[kept], source.heldout)
            codes[kept[held]] = HELDOUT
    return reasons


def _not_taken(reader: SourceReader, take: int | None, seed: int) -> np.ndarray:
    """KEPT for what is taken of a source, DUPLICATE for copies in it, NOT_TAKEN for the rest."""
    if take is None:
        return np.full(reader.content_hashes.size, KEPT)
    reasons = np.full(reader.content_hashes.size, DUPLICATE)
    _, first = np.unique(_text_keys(reader), return_index=True)
    taken = taken_of(np.asarray(reader.content_hashes)[first], reader.lengths[first], take, seed)
    reasons[first] = np.where(taken, KEPT, NOT_TAKEN)
    return reasons


def taken_of(content_hashes: np.ndarray, lengths: np.ndarray, take: int, seed: int) -> np.ndarray:
    """Which of these different texts are taken, bool (documents,): in an order that the seed and
    each text alone decide, all until their tokens reach ``take``.

    So the same are taken however the texts lie in files, and more of them where ``take`` grows.
    """
    order = np.argsort(seeded_keys(content_hashes, seed), kind="stable")
    before = np.cumsum(lengths[order]) - lengths[order]
    taken = np.zeros(content_hashes.size, bool)
    taken[order[before < take]] = True
    return taken


def seeded_keys(content_hashes: np.ndarray, seed: int) -> np.ndarray:
    """uint64 keys whose order is one of texts that the seed and each text alone decide.

    It must know nothing of the draws of ``heldout_of``: those are small where texts are held out,
    and the smallest come first here.
    """
    salt = mixed(np.array([seed], np.uint64) + np.uint64(TAKE_SALT))
    return mixed(content_hashes.astype(np.uint64) ^ salt)


def _mark_duplicates(
    readers: Sequence[SourceReader], sources: Sequence[Source], reasons: Sequence[np.ndarray]
) -> None:
    """Mark all but the first of equal texts (xxh3_64 and size) that are KEPT so far, in place.
    49 bytes a document of memory."""
    order = sorted(
        range(len(sources)), key=lambda i: (ROLE_ORDER[sources[i].role], sources[i].name)
    )
    kept = [slice(None) if sources[i].take is None else reasons[i] == KEPT for i in order]
    texts = np.concatenate([_text_keys(readers[i])[k] for i, k in zip(order, kept, strict=True)])
    _, first = np.unique(texts, return_index=True)
    is_copy = np.ones(texts.size, bool)
    is_copy[first] = False
    begin = 0
    for i, documents in zip(order, kept, strict=True):
        codes = reasons[i][documents]
        codes[is_copy[begin : begin + codes.size]] = DUPLICATE
        reasons[i][documents] = codes
        begin += codes.size


def _text_keys(reader: SourceReader) -> np.ndarray:
    """What two documents share when their texts are the same: hash and size in one number."""
    return mixed(np.asarray(reader.content_hashes) ^ mixed(reader.text_bytes.astype(np.uint64)))


def heldout_of(content_hashes: np.ndarray, share: float) -> np.ndarray:
    """Which of these texts are held out, bool (documents,).

    Decided by each text alone, so more documents, other files or another order leave the rest
    where it is; only the one document that a small source owes moves with its content.
    """
    held = np.zeros(content_hashes.size, bool)
    if share <= 0.0:
        return held
    draws = mixed(content_hashes.astype(np.uint64)) / 2.0**64
    held = draws < share
    if content_hashes.size >= 2 and not held.any():
        held[int(draws.argmin())] = True
    return held


def mixed(values: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele et al. 2014) of uint64 values: a bijection whose output
    bits are independent of what else the values are used for."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def without_too_long(reader: SourceReader, reasons: np.ndarray, seq_len: int) -> np.ndarray:
    """The reasons with kept conversations of more than ``seq_len`` tokens marked: they are never
    split, so no row can hold them."""
    if not reader.masked:
        return reasons
    return np.where((reasons == KEPT) & (reader.lengths > seq_len), TOO_LONG, reasons)


def kept_spans(reader: SourceReader, reasons: np.ndarray, removed: Spans | None = None) -> Spans:
    """Documents that are kept, whole or, where passages are ``removed``, what is left of them.

    ``removed`` is in order of document and start, without overlaps. Conversations are never split:
    one with a passage removed is left out whole.
    """
    document = np.flatnonzero(reasons == KEPT).astype(np.int64)
    if removed is not None and reader.masked:
        document, removed = np.setdiff1d(document, removed.document), None
    whole = Spans(document, np.zeros(document.size, np.int64), reader.lengths[document])
    return whole if removed is None else without(whole, removed)


def without(spans: Spans, removed: Spans) -> Spans:
    """Whole documents minus passages; what is left of one token has no target and goes too."""
    cut: dict[int, list[tuple[int, int]]] = {}
    for document, start, length in zip(*map(np.ndarray.tolist, _columns(removed)), strict=True):
        cut.setdefault(document, []).append((start, start + length))
    hit = np.isin(spans.document, removed.document)
    rows = [
        (document, begin, end - begin)
        for document, length in np.stack([spans.document, spans.length], 1)[hit].tolist()
        for begin, end in _gaps(length, cut[document])
        if end - begin >= 2
    ]
    left = np.array(rows, np.int64).reshape(-1, 3)
    columns = [
        np.concatenate([whole[~hit], part])
        for whole, part in zip(_columns(spans), left.T, strict=True)
    ]
    order = np.lexsort((columns[1], columns[0]))
    return Spans(*(column[order] for column in columns))


def _columns(spans: Spans) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return spans.document, spans.start, spans.length


def _gaps(length: int, cut: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Stretches of ``range(length)`` between ordered cuts."""
    begins = [0, *(end for _, end in cut)]
    ends = [*(start for start, _ in cut), length]
    return [(begin, end) for begin, end in zip(begins, ends, strict=True) if begin < end]


def heldout_documents(reasons: np.ndarray) -> np.ndarray:
    """Indices of the documents held out for bits-per-byte, int64."""
    return np.flatnonzero(reasons == HELDOUT).astype(np.int64)
