"""Each text is trained on in one place at most, and no held-out text is trained on anywhere."""

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
import xxhash
from ingest_helpers import a_source, built, write_texts

from configs import Source, UserError
from mixing.selection.exclude import (
    DUPLICATE,
    HELDOUT,
    KEPT,
    exclusions,
    heldout_documents,
    heldout_of,
    kept_spans,
    mixed,
)

RANK = {"domain": 0, "general": 1, "retention": 2}


@dataclass
class Texts:
    """A SourceReader over texts, as far as exclusions look."""

    texts: list[str]
    content_hashes: np.ndarray = field(init=False)
    text_bytes: np.ndarray = field(init=False)
    lengths: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        hashes = [xxhash.xxh3_64_intdigest(t.encode()) for t in self.texts]
        self.content_hashes = np.array(hashes, np.uint64)
        self.text_bytes = np.array([len(t.encode()) for t in self.texts], np.int64)
        self.lengths = self.text_bytes + 1


def source(name: str, role: str, heldout: float = 0.0) -> Source:
    return Source(name=name, role=role, path="x", heldout=heldout)


def random_corpus(seed: int):
    rng = random.Random(seed)
    sources = [
        source(f"s{rng.randrange(10**6)}-{i}", rng.choice(list(RANK)), rng.choice([0.0, 0.1, 0.5]))
        for i in range(rng.randint(1, 6))
    ]
    texts = [[f"text {rng.randrange(300)}" for _ in range(rng.randint(1, 200))] for _ in sources]
    return sources, texts


@pytest.mark.parametrize("seed", range(40))
def test_each_text_is_kept_once_and_in_the_right_place(seed):
    sources, texts = random_corpus(seed)
    reasons = exclusions([Texts(t) for t in texts], sources)
    places: dict[str, list[tuple]] = {}
    for s, rows in zip(sources, texts, strict=True):
        for i, text in enumerate(rows):
            places.setdefault(text, []).append((RANK[s.role], s.name, i))
    first = {text: min(where) for text, where in places.items()}
    for s, rows, codes in zip(sources, texts, reasons, strict=True):
        assert codes.dtype == np.uint8
        for i, text in enumerate(rows):
            here = (RANK[s.role], s.name, i)
            assert (codes[i] == DUPLICATE) == (here != first[text])
    trained = {t for s, rows, codes in zip(sources, texts, reasons, strict=True)
               for t, code in zip(rows, codes, strict=True)
               if code == KEPT and s.role != "retention"}  # fmt: skip
    unseen = {t for s, rows, codes in zip(sources, texts, reasons, strict=True)
              for t, code in zip(rows, codes, strict=True)
              if code == HELDOUT or (code == KEPT and s.role == "retention")}  # fmt: skip
    assert not trained & unseen


def fates(sources, texts, reasons) -> dict[tuple[str, str], int]:
    return {
        (s.name, text): int(code)
        for s, rows, codes in zip(sources, texts, reasons, strict=True)
        for text, code in zip(rows, codes, strict=True)
        if code != DUPLICATE
    }


@pytest.mark.parametrize("seed", range(10))
def test_order_of_sources_and_documents_changes_nothing(seed):
    sources, texts = random_corpus(seed)
    reasons = exclusions([Texts(t) for t in texts], sources)
    fate = fates(sources, texts, reasons)
    rng = random.Random(seed)
    order = rng.sample(range(len(sources)), len(sources))
    shuffled = [rng.sample(texts[i], len(texts[i])) for i in order]
    again = exclusions([Texts(t) for t in shuffled], [sources[i] for i in order])
    fate_again = fates([sources[i] for i in order], shuffled, again)
    assert fate_again == fate


def test_domain_wins_over_general_and_training_over_retention():
    shared = ["both", "own"]
    sources = [source("a", "retention"), source("b", "general"), source("c", "domain")]
    reasons = exclusions([Texts([*shared, "r"]), Texts([*shared, "g"]), Texts(shared)], sources)
    assert [r.tolist() for r in reasons] == [[1, 1, 0], [1, 1, 0], [0, 0]]


def test_held_out_share_and_floor():
    texts = Texts([f"text {i}" for i in range(20_000)])
    for share in (0.0, 0.005, 0.3, 1.0):
        held = heldout_of(texts.content_hashes, share)
        spread = 4 * (20_000 * share * (1 - share)) ** 0.5
        assert abs(held.sum() - 20_000 * share) <= spread
    few = Texts(["a", "b", "c"]).content_hashes
    assert heldout_of(few, 1e-9).sum() == 1
    assert heldout_of(few, 0.0).sum() == heldout_of(few[:1], 1e-9).sum() == 0


def test_more_documents_leave_the_split_where_it_was():
    texts = [f"text {i}" for i in range(5000)]
    small = heldout_of(Texts(texts[:3000]).content_hashes, 0.05)
    large = heldout_of(Texts(texts).content_hashes, 0.05)
    assert np.array_equal(small, large[:3000])


def test_a_larger_share_holds_out_a_superset():
    hashes = Texts([f"text {i}" for i in range(5000)]).content_hashes
    small, large = heldout_of(hashes, 0.05), heldout_of(hashes, 0.2)
    assert not (small & ~large).any()


def test_retention_holds_nothing_out():
    (reasons,) = exclusions([Texts(["a", "b", "a"])], [source("r", "retention", heldout=0.9)])
    assert reasons.tolist() == [0, 0, 1]


def test_equal_hashes_of_texts_of_other_sizes_are_not_duplicates():
    reader = Texts(["aa", "b"])
    reader.content_hashes[:] = 5
    (reasons,) = exclusions([reader], [source("s", "domain")])
    assert reasons.tolist() == [0, 0]


def test_spans_and_held_out_documents():
    reader = Texts(["aaa", "b", "cc", "b"])
    reasons = np.array([KEPT, HELDOUT, KEPT, DUPLICATE], np.uint8)
    spans = kept_spans(reader, reasons)
    assert [spans.document.tolist(), spans.start.tolist(), spans.length.tolist()] == [
        [0, 2], [0, 0], [4, 3]
    ]  # fmt: skip
    assert {a.dtype for a in (spans.document, spans.start, spans.length)} == {np.dtype(np.int64)}
    assert heldout_documents(reasons).tolist() == [1]


def test_mixing_is_a_bijection_with_even_bits():
    values = mixed(np.arange(1 << 16, dtype=np.uint64))
    assert np.unique(values).size == 1 << 16
    bits = np.unpackbits(values.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    assert abs(bits - 0.5).max() < 0.01
    # first output of splitmix64 seeded with 0 (reference implementation by Vigna)
    assert int(mixed(np.zeros(1, np.uint64))[0]) == 0xE220A8397B1DCDAF


def test_one_reader_for_each_source():
    with pytest.raises(UserError):
        exclusions([Texts(["a"])], [])


def test_built_sources(tmp_path):
    one = a_source(write_texts(tmp_path / "1.jsonl", ["the", "court", "the"]), "one", heldout=0.0)
    two = a_source(
        write_texts(tmp_path / "2.jsonl", ["\ufeffcourt", "may"]),
        "two",
        role="general",
        heldout=0.0,
    )
    readers = [built(tmp_path / "store", s) for s in (one, two)]
    assert [r.tolist() for r in exclusions(readers, [one, two])] == [[0, 0, 1], [1, 0]]
    spans = kept_spans(readers[0], exclusions(readers, [one, two])[0])
    assert spans.length.tolist() == readers[0].lengths[:2].tolist()
