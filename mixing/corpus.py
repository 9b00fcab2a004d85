"""The built sources of a recipe, opened together: readers, exclusions and packed rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs import Data, Source, UserError
from mixing.audit import PackingLedger, packing_ledger
from mixing.packing import PackedRows, stored_rows
from mixing.selection import (
    ERASED,
    KEPT,
    FoundItems,
    Spans,
    exclusions,
    kept_spans,
    stored_items,
    subset_of,
    union,
    without_too_long,
)
from mixing.store import SourceReader, load_erasures, open_source


@dataclass(frozen=True)
class Removed:
    """What one eval set took from one trained source, counted in documents that would have
    been trained on."""

    source: str
    eval: str
    hash: str
    """Of the eval set's content."""
    items: int
    unjudged_items: int
    """Items that are too short or too common to be looked for."""
    documents_removed: int
    """Documents that lost a passage."""
    passages_removed: int
    tokens_removed: int
    matches: str
    """The file that lists them for review."""


@dataclass(frozen=True)
class Corpus:
    """All by source name; ``packed`` and ``ledgers`` have the trained sources only."""

    sources: dict[str, Source]
    readers: dict[str, SourceReader]
    reasons: dict[str, np.ndarray]
    """uint8 (documents,): why a document is not trained on, 0 where it is."""
    erased: dict[str, int]
    """Documents that were erased; in ``packed`` they are padding that keeps its place."""
    packed: dict[str, PackedRows]
    ledgers: dict[str, PackingLedger]
    """What became of the stored documents of the trained sources."""
    removed: tuple[Removed, ...]
    """By source and eval set, those that took nothing too."""


def open_corpus(
    data: Data, keys: Mapping[str, str], eval_hashes: Mapping[str, str] | None = None
) -> Corpus:
    """Open what is built; ``keys`` are the content addresses of the sources in the store.

    Exclusions look across sources, so a corpus is opened with all sources of its recipe.
    ``eval_hashes``: content hashes of the eval sets to keep out, by name; where they stand must
    have been looked for before. Raises UserError where it was not, and where more of a source
    would go than ``data.max_contaminated``.
    """
    sources = {s.name: s for s in data.sources}
    readers = {name: open_source(Path(data.store), keys[name], name) for name in sources}
    found = exclusions(list(readers.values()), list(sources.values()), data.seed)
    reasons = dict(zip(sources, found, strict=True))
    erasures = load_erasures(Path(data.store))
    erased = {name: erasures.documents(reader) for name, reader in readers.items()}
    trained: dict[str, _Trained] = {}
    for name, reader in readers.items():
        if sources[name].role != "retention":
            one = _trained(data, reader, reasons[name], erased[name], eval_hashes or {})
            trained[name], reasons[name] = one, one.reasons
        reasons[name][erased[name]] = ERASED
    return Corpus(
        sources=sources,
        readers=readers,
        reasons=reasons,
        erased={name: documents.size for name, documents in erased.items()},
        packed={name: one.packed for name, one in trained.items()},
        ledgers={name: one.ledger for name, one in trained.items()},
        removed=tuple(removed for one in trained.values() for removed in one.removed),
    )


@dataclass(frozen=True)
class _Trained:
    """What became of a source that is trained on."""

    reasons: np.ndarray
    packed: PackedRows
    ledger: PackingLedger
    removed: list[Removed]


def _trained(
    data: Data,
    reader: SourceReader,
    reasons: np.ndarray,
    erased: np.ndarray,
    eval_hashes: Mapping[str, str],
) -> _Trained:
    """Pack a source and count what became of its documents. Erased ones, int64 (documents,), are
    marked after all else is decided, so that nothing else moves."""
    reasons = without_too_long(reader, reasons, data.seq_len)
    items = _stored(data, reader, eval_hashes)
    kept = _kept(reader, reasons, items)
    part = subset_of(kept, reader, data.subset, data.seed)
    packed = _packed(reader, part, data)
    removed = [_removed(reader, reasons, n, eval_hashes[n], where) for n, where in items.items()]
    _refuse_too_much(data, reader, reasons, int(kept.length.sum()), removed)
    if erased.size:
        reasons[erased] = ERASED
        packed = packed.without(erased)
        kept, part = (_without_documents(spans, erased) for spans in (kept, part))
    ledger = packing_ledger(reader.lengths, reasons, kept, part, packed)
    return _Trained(reasons, packed, ledger, removed)


def _without_documents(spans: Spans, documents: np.ndarray) -> Spans:
    left = ~np.isin(spans.document, documents)
    return Spans(spans.document[left], spans.start[left], spans.length[left])


def _packed(reader: SourceReader, kept: Spans, data: Data) -> PackedRows:
    """Rows of a source; conversations are packed whole in either way of packing."""
    store = Path(data.store)
    if not reader.masked:
        return stored_rows(store, reader.key, kept, data.seq_len, data.packing)
    if not kept.document.size and (reader.lengths > data.seq_len).any():
        raise UserError(
            f"source '{reader.name}': none of its conversations fits into a row of "
            f"{data.seq_len} tokens",
            f"raise data.seq_len; its longest has {int(reader.lengths.max())}",
        )
    rows = stored_rows(store, reader.key, kept, data.seq_len, "best_fit")
    return rows.with_masks(reader.targets, reader.mask_hash)


def is_searched(data: Data, keys: Mapping[str, str], eval_hashes: Mapping[str, str]) -> bool:
    """Whether these eval sets have been looked for in every trained source."""
    store = Path(data.store)
    return all(
        stored_items(store, keys[source.name], eval_hash) is not None
        for source in data.sources
        if source.role != "retention"
        for eval_hash in eval_hashes.values()
    )


def _stored(
    data: Data, reader: SourceReader, eval_hashes: Mapping[str, str]
) -> dict[str, FoundItems]:
    found: dict[str, FoundItems] = {}
    for name, eval_hash in eval_hashes.items():
        items = stored_items(Path(data.store), reader.key, eval_hash)
        if items is None:
            raise UserError(
                f"source '{reader.name}' was not searched for the items of {name} ({eval_hash})",
                "run `alloy build`",
            )
        found[name] = items
    return found


def trained_spans(packed: PackedRows) -> Spans:
    """What of a source is trained on, in content order: its pieces, joined where they were cut for
    a row, without erased documents."""
    left = slice(None) if packed.erased is None else ~packed.erased
    columns = (packed.document[left], packed.start[left], packed.length[left])
    order = np.lexsort((columns[1], columns[0]))
    document, start, length = (column[order] for column in columns)
    goes_on = (document[1:] == document[:-1]) & (start[1:] == start[:-1] + length[:-1])
    first = np.flatnonzero(np.concatenate([[True], ~goes_on])) if document.size else order
    joined = np.add.reduceat(length, first) if document.size else length
    return Spans(document[first], start[first], joined)


def _kept(reader: SourceReader, reasons: np.ndarray, items: Mapping[str, FoundItems]) -> Spans:
    removed = union([found.spans for found in items.values()]) if items else None
    return kept_spans(reader, reasons, removed)


def _removed(
    reader: SourceReader, reasons: np.ndarray, name: str, eval_hash: str, found: FoundItems
) -> Removed:
    kept = reasons[found.spans.document] == KEPT
    return Removed(
        source=reader.name,
        eval=name,
        hash=eval_hash,
        items=found.items,
        unjudged_items=found.unjudged,
        documents_removed=np.unique(found.spans.document[kept]).size,
        passages_removed=int(kept.sum()),
        tokens_removed=int(found.spans.length[kept].sum()),
        matches=str(found.path),
    )


def _refuse_too_much(
    data: Data,
    reader: SourceReader,
    reasons: np.ndarray,
    kept: int,
    removed: list[Removed],
) -> None:
    """Boilerplate that an eval shares with a corpus can take much of it; a person must agree."""
    before = int(reader.lengths[reasons == KEPT].sum())
    gone = before - kept
    if not removed or gone <= data.max_contaminated * before:
        return
    by_eval = ", ".join(f"{r.eval} {r.tokens_removed:,}" for r in removed if r.tokens_removed)
    percent = math.ceil(1e4 * gone / before) / 1e2
    raise UserError(
        f"source '{reader.name}': {gone:,} of its {before:,} tokens ({gone / before:.2%}) repeat "
        f"eval items ({by_eval}), data.max_contaminated is {data.max_contaminated:.2%}",
        f"see {max(removed, key=lambda r: r.tokens_removed).matches}; "
        f"agree with data.max_contaminated: {percent:g}%",
    )
