"""The built sources of a recipe, opened together: readers, exclusions and packed rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs import Data, Source, UserError
from mixing.erasures import load_erasures
from mixing.exclude import ERASED, KEPT, Spans, exclusions, kept_spans, without_too_long
from mixing.matches import FoundItems, stored_items, union
from mixing.pack import PackedRows
from mixing.packed_store import stored_rows
from mixing.packing_ledger import PackingLedger, packing_ledger
from mixing.store import SourceReader, open_source


@dataclass(frozen=True)
class Removed:
    """What one eval set took from one trained source, counted in documents that would have
    been trained on."""

    source: str
    eval: str
    eval_hash: str
    items: int
    unjudged_items: int
    """Items that are too short or too common to be looked for."""
    documents: int
    """Documents that lost a passage."""
    passages: int
    tokens: int
    matches: str
    """The file that lists them for review."""

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "eval": self.eval,
            "hash": self.eval_hash,
            "items": self.items,
            "unjudged_items": self.unjudged_items,
            "documents_removed": self.documents,
            "passages_removed": self.passages,
            "tokens_removed": self.tokens,
            "matches": self.matches,
        }


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
    packed: dict[str, PackedRows] = {}
    removed: list[Removed] = []
    for name in (s.name for s in data.sources if s.role != "retention"):
        reasons[name] = without_too_long(readers[name], reasons[name], data.seq_len)
        items = _stored(data, readers[name], eval_hashes or {})
        packed[name] = _packed(readers[name], _kept(readers[name], reasons[name], items), data)
        by_eval = [
            _removed(readers[name], reasons[name], eval_name, (eval_hashes or {})[eval_name], where)
            for eval_name, where in items.items()
        ]
        _refuse_too_much(data, readers[name], reasons[name], packed[name], by_eval)
        removed += by_eval
    erased = _erase(Path(data.store), readers, reasons, packed)
    ledgers = {
        name: packing_ledger(
            readers[name].lengths,
            reasons[name],
            trained_spans(data, readers[name], reasons[name], eval_hashes or {}),
            packed[name],
        )
        for name in packed
    }
    return Corpus(sources, readers, reasons, erased, packed, ledgers, tuple(removed))


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


def _erase(
    store: Path,
    readers: Mapping[str, SourceReader],
    reasons: dict[str, np.ndarray],
    packed: dict[str, PackedRows],
) -> dict[str, int]:
    """Mark erased documents after all else is decided, so that nothing else moves."""
    counts: dict[str, int] = {}
    erasures = load_erasures(store)
    for name, reader in readers.items():
        documents = erasures.documents(reader)
        counts[name] = documents.size
        reasons[name][documents] = ERASED
        if name in packed and documents.size:
            packed[name] = packed[name].without(documents)
    return counts


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


def trained_spans(
    data: Data, reader: SourceReader, reasons: np.ndarray, eval_hashes: Mapping[str, str]
) -> Spans:
    """What of a trained source may be trained on; ``reasons`` are those of an open corpus, in
    which erased documents are marked."""
    return _kept(reader, reasons, _stored(data, reader, eval_hashes))


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
        eval_hash=eval_hash,
        items=found.items,
        unjudged_items=found.unjudged,
        documents=np.unique(found.spans.document[kept]).size,
        passages=int(kept.sum()),
        tokens=int(found.spans.length[kept].sum()),
        matches=str(found.path),
    )


def _refuse_too_much(
    data: Data,
    reader: SourceReader,
    reasons: np.ndarray,
    packed: PackedRows,
    removed: list[Removed],
) -> None:
    """Boilerplate that an eval shares with a corpus can take much of it; a person must agree."""
    before = int(reader.lengths[reasons == KEPT].sum())
    gone = before - packed.tokens
    if not removed or gone <= data.max_contaminated * before:
        return
    by_eval = ", ".join(f"{r.eval} {r.tokens:,}" for r in removed if r.tokens)
    percent = math.ceil(1e4 * gone / before) / 1e2
    raise UserError(
        f"source '{reader.name}': {gone:,} of its {before:,} tokens ({gone / before:.2%}) repeat "
        f"eval items ({by_eval}), data.max_contaminated is {data.max_contaminated:.2%}",
        f"see {max(removed, key=lambda r: r.tokens).matches}; "
        f"agree with data.max_contaminated: {percent:g}%",
    )
