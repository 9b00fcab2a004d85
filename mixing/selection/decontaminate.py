"""Finds the items of an eval set in a source, as token spans to leave out when it is packed.

    eval items ─▶ word n-grams ─▶ scan of the documents ─▶ Match per item and passage ─▶ Spans

An item counts as found where at least half of its n-grams stand together; n-grams that many
documents have are nobody's (statutes and contracts repeat themselves) and do not count. What
is removed is the passage, not the document. Judging whole items follows the contamination
analysis of Llama 2 (Touvron et al. 2023, A.6) and decon (Ai2 2025) rather than GPT-3's single
13-gram, which removes law texts for their boilerplate.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import repeat

import numpy as np
import xxhash

from mixing.selection.exclude import Spans, mixed
from mixing.store import SourceReader
from mixing.tokens import Decoder

WORD = re.compile(r"\w+")
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
FILTER_BITS = 24
WORDS_AT_ONCE = 200_000
BETWEEN_DOCUMENTS = "\n"  # no word, so no n-gram reaches over it
COMMON_SHARE = 1e-3
COMMON_FLOOR = 20


@dataclass(frozen=True)
class EvalSet:
    """The texts of an eval, one an item (a question with its choices)."""

    name: str
    items: tuple[str, ...]

    @property
    def content_hash(self) -> str:
        """xxh3_128 of the items in their order, for the record of what was looked for."""
        return xxhash.xxh3_128_hexdigest(json.dumps(self.items).encode())


@dataclass(frozen=True)
class Match:
    """A passage of a document in which ``found`` of the ``of`` judged n-grams of an item stand;
    ``start`` and ``length`` count tokens of the document."""

    eval_name: str
    item: int
    document: int
    start: int
    length: int
    found: int
    of: int

    def as_json(self, reader: SourceReader, decoder: Decoder) -> str:
        """A line for review: the match, where the document came from, and the passage."""
        passage = decoder.text(reader.tokens(self.document, self.start, self.length))
        row = {**asdict(self), **asdict(reader.provenance(self.document)), "passage": passage}
        return json.dumps(row) + "\n"


@dataclass(frozen=True)
class Contamination:
    """What was found in one source. ``unjudged`` counts, by eval set, items with too few words
    or none but common n-grams: nothing can be said of them."""

    matches: tuple[Match, ...]
    removed: Spans
    removed_share: float
    unjudged: dict[str, int]
    eval_hashes: dict[str, str] = field(default_factory=dict)


class ItemIndex:
    """The n-grams of all items as sorted keys, and the items of each. Made once for all sources."""

    def __init__(self, evals: Sequence[EvalSet], ngram_words: int = 8) -> None:
        self.evals = tuple(evals)
        self.ngram_words = ngram_words
        self.names = [(e.name, i) for e in evals for i in range(len(e.items))]
        words = [words_of(text) for e in evals for text in e.items]
        self.words_in_item = np.array([len(w) for w in words], np.int64)
        unique = sorted({word for item in words for word in item})
        self._number_of = {word: number for number, word in enumerate(unique, 1)}
        # 0 for a word that no item has: an n-gram with one in it is of no interest
        self._hash_of = np.append(np.uint64(0), mixed(np.arange(len(unique), dtype=np.uint64)) | 1)
        found = [ngram_keys(self.word_hashes(w), ngram_words)[0] for w in words]
        keys = np.concatenate([np.empty(0, np.uint64), *found])
        items = np.repeat(np.arange(len(words)), [k.size for k in found])
        order = np.lexsort((items, keys))
        keys, items = keys[order], items[order]
        is_new = np.ones(keys.size, bool)  # an item may say the same thing twice
        is_new[1:] = (keys[1:] != keys[:-1]) | (items[1:] != items[:-1])
        self.items = items[is_new]
        self.keys, first = np.unique(keys[is_new], return_index=True)
        self.item_bounds = np.append(first, self.items.size)
        self._maybe = np.zeros(1 << FILTER_BITS, bool)
        self._maybe[self.keys >> np.uint64(64 - FILTER_BITS)] = True

    def word_hashes(self, words: Sequence[str]) -> np.ndarray:
        """uint64 (words,): a hash of each word, 0 where no item has it."""
        numbers = map(self._number_of.get, words, repeat(0))
        return self._hash_of[np.fromiter(numbers, np.int64, count=len(words))]

    def hits(self, word_hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(n-gram, first word)`` of every n-gram of an item that stands in these words."""
        keys, places = ngram_keys(word_hashes, self.ngram_words)
        maybe = self._maybe[keys >> np.uint64(64 - FILTER_BITS)]  # most end here, cheaply
        keys, places = keys[maybe], places[maybe]
        at = np.searchsorted(self.keys, keys)
        at[at == self.keys.size] = 0
        same = self.keys[at] == keys if self.keys.size else np.zeros(keys.size, bool)
        return at[same], places[same]

    def judged_ngrams(self, is_common: np.ndarray) -> np.ndarray:
        """int64 (items,): n-grams of each item that are not common."""
        per_key = np.diff(self.item_bounds)
        counted = np.repeat(~is_common, per_key)
        return np.bincount(self.items[counted], minlength=len(self.names))


def words_of(text: str) -> list[str]:
    """Words in lower case. Joined before lowering, which may change what a word is."""
    return str(" ".join(WORD.findall(text))).lower().split()


def ngram_keys(word_hashes: np.ndarray, ngram_words: int) -> tuple[np.ndarray, np.ndarray]:
    """``(keys uint64, first word)`` of the n-grams without an unknown word (hash 0)."""
    count = word_hashes.size - ngram_words + 1
    if count <= 0:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    keys = np.zeros(count, np.uint64)
    known = np.ones(count, bool)
    for j in range(ngram_words):
        part = word_hashes[j : j + count]
        known &= part != 0
        keys = keys * MULTIPLIER + part  # modulo 2^64
    return mixed(keys[known]), np.flatnonzero(known)


def contamination(
    reader: SourceReader,
    documents: np.ndarray,
    decoder: Decoder,
    index: ItemIndex,
    found_share: float = 0.5,
) -> Contamination:
    """Look for the items of the index in these documents of a source.

    An n-gram in more than 0.1% of the documents (at least 20) is common. Memory is bounded by
    the n-grams of the items times that number, not by the source.
    """
    most = max(COMMON_FLOOR, int(COMMON_SHARE * len(documents)))
    in_documents = np.zeros(index.keys.size, np.int64)
    found: list[tuple[int, np.ndarray, np.ndarray]] = []
    for document, ngrams, places in _scan(reader, documents, decoder, index):
        in_documents[np.unique(ngrams)] += 1
        rare = in_documents[ngrams] <= most
        if rare.any():
            found.append((document, ngrams[rare], places[rare]))
    is_common = in_documents > most
    judged = index.judged_ngrams(is_common)
    matches: list[Match] = []
    for document, ngrams, places in found:
        rare = ~is_common[ngrams]
        hits = hits_by_item(index, ngrams[rare], places[rare])
        ids = reader.tokens(document)
        matches += _matches_in(document, ids, decoder, index, hits, judged, found_share)
    removed = merged_spans(matches)
    unjudged = {e.name: 0 for e in index.evals}
    for (name, _), count in zip(index.names, judged.tolist(), strict=True):
        unjudged[name] += count == 0
    share = removed.length.sum() / max(1, int(reader.lengths[documents].sum()))
    hashes = {e.name: e.content_hash for e in index.evals}
    return Contamination(tuple(matches), removed, float(share), unjudged, hashes)


def _scan(
    reader: SourceReader, documents: np.ndarray, decoder: Decoder, index: ItemIndex
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """``(document, n-gram, first word)`` of the documents with hits; many are hashed at once."""
    words: list[str] = []
    begins: list[int] = []
    batch: list[int] = []
    last = int(documents[-1]) if documents.size else -1
    for document in documents.tolist():
        begins.append(len(words))
        batch.append(document)
        words += words_of(decoder.text(reader.tokens(document)))
        words.append(BETWEEN_DOCUMENTS)
        if len(words) < WORDS_AT_ONCE and document != last:
            continue
        ngrams, places = index.hits(index.word_hashes(words))
        bounds = np.searchsorted(places, [*begins, len(words)])
        for i in np.flatnonzero(np.diff(bounds)).tolist():
            part = slice(bounds[i], bounds[i + 1])
            yield batch[i], ngrams[part], places[part] - begins[i]
        words, begins, batch = [], [], []


def hits_by_item(
    index: ItemIndex, ngrams: np.ndarray, places: np.ndarray
) -> dict[int, list[tuple[int, int]]]:
    """``(first word, n-gram)`` of a document's n-grams, for each item that has them."""
    hits: dict[int, list[tuple[int, int]]] = {}
    for ngram, place in zip(ngrams.tolist(), places.tolist(), strict=True):
        bounds = slice(index.item_bounds[ngram], index.item_bounds[ngram + 1])
        for item in index.items[bounds].tolist():
            hits.setdefault(item, []).append((place, ngram))
    return hits


def _matches_in(
    document: int,
    ids: np.ndarray,
    decoder: Decoder,
    index: ItemIndex,
    hits: dict[int, list[tuple[int, int]]],
    judged: np.ndarray,
    found_share: float,
) -> list[Match]:
    found: list[tuple[int, int, int, int]] = []  # item, first word, past the last, n-grams
    for item, places in sorted(hits.items()):
        words = int(index.words_in_item[item])
        for first, last, count in passages(places, words, found_share * judged[item]):
            # What of the item has other words lies before or after what was recognized.
            past = last + index.ngram_words
            beyond = max(0, words - (past - first))
            found.append((item, first - beyond, past + beyond, count))
    if not found:
        return []
    spans = token_spans(decoder, ids, [(first, past) for _, first, past, _ in found])
    return [
        Match(*index.names[item], document, start, length, count, int(judged[item]))
        for (item, _, _, count), (start, length) in zip(found, spans, strict=True)
    ]


def token_spans(
    decoder: Decoder, ids: np.ndarray, words: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """``(start, length)`` in tokens of ranges of words, which may reach over the text's ends."""
    places = _word_bytes(decoder.text(ids))
    token_ends = decoder.token_ends(ids)
    spans: list[tuple[int, int]] = []
    for first, past in words:
        begin, end = places[max(0, first)][0], places[min(past, len(places)) - 1][1]
        start = int(np.searchsorted(token_ends, begin, side="right"))
        stop = int(np.searchsorted(token_ends, end, side="left")) + 1
        spans.append((start, stop - start))
    return spans


def passages(
    hits: Sequence[tuple[int, int]], item_words: int, at_least: float
) -> Iterator[tuple[int, int, int]]:
    """``(first place, last place, different n-grams)`` of the stretches of at most twice the
    item's words that hold at least ``at_least`` of its n-grams; none overlaps the one before."""
    ordered = sorted(hits)
    begin = 0
    while begin < len(ordered):
        limit = ordered[begin][0] + 2 * item_words
        end = begin
        while end < len(ordered) and ordered[end][0] <= limit:
            end += 1
        different = len({ngram for _, ngram in ordered[begin:end]})
        if different >= at_least:
            yield ordered[begin][0], ordered[end - 1][0], different
            begin = end
        else:
            begin += 1


def _word_bytes(text: str) -> list[tuple[int, int]]:
    """Where each word begins and ends, in bytes of UTF-8."""
    if text.isascii():
        return [match.span() for match in WORD.finditer(text)]
    widths = np.array([len(character.encode()) for character in text], np.int64)
    at = np.concatenate([[0], np.cumsum(widths)])
    return [(int(at[m.start()]), int(at[m.end()])) for m in WORD.finditer(text)]


def merged_spans(matches: Sequence[Match]) -> Spans:
    """Passages in order of document and place, overlapping ones joined."""
    merged: list[list[int]] = []
    for document, start, stop in sorted((m.document, m.start, m.start + m.length) for m in matches):
        if merged and merged[-1][0] == document and start <= merged[-1][2]:
            merged[-1][2] = max(merged[-1][2], stop)
        else:
            merged.append([document, start, stop])
    rows = np.array(merged, np.int64).reshape(-1, 3)
    return Spans(rows[:, 0], rows[:, 1], rows[:, 2] - rows[:, 1])
