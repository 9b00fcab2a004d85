"""Packing: nothing lost, and the same rows as the textbook algorithm one document at a time."""

import numpy as np
import pytest
from memory_corpus import Spans, whole_documents

from mixing.packing.pack import PackedRows, pack


def pieces(packed: PackedRows, row: int) -> list[tuple[int, int, int]]:
    span = slice(packed.row_starts[row], packed.row_starts[row + 1])
    columns = (packed.document[span], packed.start[span], packed.length[span])
    return list(zip(*(c.tolist() for c in columns), strict=True))


def naive_best_fit(spans: Spans, seq_len: int) -> list[list[tuple[int, int, int]]]:
    """Best-fit-decreasing as the textbook has it, a piece at a time over all open rows."""
    items = []
    for document, start, length in zip(spans.document, spans.start, spans.length, strict=True):
        for offset in range(0, int(length), seq_len):
            size = min(seq_len, int(length) - offset)
            items.append((int(document), int(start) + offset, size))
    free: list[int] = []
    reached: list[int] = []  # when the row came to its free space
    rows: list[list[int]] = []
    for time, index in enumerate(sorted(range(len(items)), key=lambda i: -items[i][2])):
        size = items[index][2]
        fitting = [r for r in range(len(rows)) if free[r] >= size]
        if fitting:
            row = min(fitting, key=lambda r: (free[r], reached[r]))
        else:
            row = len(rows)
            rows.append([])
            free.append(seq_len)
            reached.append(time)
        rows[row].append(index)
        free[row] -= size
        reached[row] = time
    ordered = sorted(sorted(row) for row in rows)
    return [[items[i] for i in row] for row in ordered]


def random_spans(rng: np.random.Generator, seq_len: int) -> Spans:
    """Spans of documents, several to a document at times, empty ones and long ones among them."""
    count = int(rng.integers(0, 60))
    document = np.sort(rng.integers(0, max(1, count), count))
    length = rng.choice([0, 1, 2, seq_len - 1, seq_len, seq_len + 1, 3 * seq_len], count)
    random = rng.integers(0, 2 * seq_len, count)
    length = np.where(rng.random(count) < 0.5, length, random)
    start = np.cumsum(length) - length  # any starts do, as long as spans do not overlap
    return Spans(document, start, length)


@pytest.mark.parametrize("seed", range(60))
def test_best_fit_is_the_textbook_algorithm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seq_len = int(rng.integers(2, 40))
    spans = random_spans(rng, seq_len)
    packed = pack(spans, seq_len, "best_fit")
    assert [pieces(packed, r) for r in range(packed.rows)] == naive_best_fit(spans, seq_len)


@pytest.mark.parametrize("seed", range(60))
def test_concat_is_one_stream_cut_every_seq_len(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seq_len = int(rng.integers(2, 40))
    spans = random_spans(rng, seq_len)
    stream = [
        (int(d), int(s) + i)
        for d, s, n in zip(spans.document, spans.start, spans.length, strict=True)
        for i in range(int(n))
    ]
    packed = pack(spans, seq_len, "concat")
    read = [
        [(d, s + i) for d, s, n in pieces(packed, r) for i in range(n)] for r in range(packed.rows)
    ]
    assert read == [stream[i : i + seq_len] for i in range(0, len(stream), seq_len)]


@pytest.mark.parametrize("packing", ["best_fit", "concat"])
@pytest.mark.parametrize("seed", range(40))
def test_ledger_balances(packing, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seq_len = int(rng.integers(2, 200))
    spans = random_spans(rng, seq_len)
    packed = pack(spans, seq_len, packing)
    assert packed.tokens == int(spans.length.sum())
    assert packed.rows * seq_len == packed.tokens + packed.padding
    assert packed.tokens_per_row.max(initial=0) <= seq_len
    assert packed.length.min(initial=1) >= 1
    assert packed.supervised_tokens == packed.tokens - len(packed.length)
    read = sorted(
        (d, s + i) for r in range(packed.rows) for d, s, n in pieces(packed, r) for i in range(n)
    )
    asked = sorted(
        (int(d), int(s) + i)
        for d, s, n in zip(spans.document, spans.start, spans.length, strict=True)
        for i in range(int(n))
    )
    assert read == asked  # each token once


def test_hand_computed_rows() -> None:
    packed = pack(whole_documents([7, 3, 25, 5, 2]), 10, "best_fit")
    # 25 is cut into 10, 10, 5. Then 7 opens a row, 5 and 5 share one, 3 fits beside 7.
    assert [pieces(packed, r) for r in range(packed.rows)] == [
        [(0, 0, 7), (1, 0, 3)],
        [(2, 0, 10)],
        [(2, 10, 10)],
        [(2, 20, 5), (3, 0, 5)],
        [(4, 0, 2)],
    ]
    assert packed.supervised_per_row.tolist() == [8, 9, 9, 8, 1]


def test_best_fit_is_close_to_full_on_unequal_documents() -> None:
    lengths = np.random.default_rng(0).lognormal(6, 1.3, 20_000).astype(np.int64) + 1
    packed = pack(whole_documents(lengths), 4096, "best_fit")
    assert packed.padding < 0.001 * packed.rows * 4096


def test_no_spans_make_no_rows() -> None:
    for packing in ("best_fit", "concat"):
        packed = pack(whole_documents([]), 8, packing)
        assert (packed.rows, packed.tokens, packed.padding) == (0, 0, 0)
        assert packed.supervised_per_row.shape == (0,)


@pytest.mark.parametrize("seed", range(20))
def test_some_rows_hold_what_all_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    packed = pack(random_spans(rng, 30), 30, "best_fit")
    if seed % 2:
        packed = packed.without(rng.integers(0, 60, 12))
    rows = rng.integers(0, packed.rows, 25) if packed.rows else np.zeros(0, np.int64)
    tokens, supervised = packed.held(rows)
    assert tokens.tolist() == packed.tokens_per_row[rows].tolist()
    assert supervised.tolist() == packed.supervised_per_row[rows].tolist()


def test_hash_is_of_the_rows() -> None:
    first = pack(whole_documents([5, 6, 7]), 16, "best_fit")
    assert first.hash == pack(whole_documents([5, 6, 7]), 16, "best_fit").hash
    others = [
        pack(whole_documents([5, 6, 8]), 16, "best_fit"),
        pack(whole_documents([5, 6, 7]), 17, "best_fit"),
        pack(whole_documents([5, 6, 7]), 16, "concat"),
    ]
    assert len({first.hash, *(o.hash for o in others)}) == 4


def test_erased_documents_keep_their_place() -> None:
    packed = pack(whole_documents([7, 3, 25, 5, 2]), 10, "best_fit")
    erased = packed.without(np.array([2])).without(np.array([4]))
    assert erased.hash == packed.hash
    assert erased.rows == packed.rows
    assert erased.tokens_per_row.tolist() == [10, 0, 0, 5, 0]
    assert erased.supervised_per_row.tolist() == [8, 0, 0, 4, 0]
