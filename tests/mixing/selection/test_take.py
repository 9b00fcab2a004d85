"""``take``: a seeded part of a source that goes by its texts, chosen at packing."""

from pathlib import Path

import numpy as np
import pytest
from format_files import jsonl, parquet
from ingest_helpers import a_data, a_source, build, random_texts
from small_tokenizer import small_tokenizer

from alloy.planning.estimate import estimated_source
from configs import Data, Source
from mixing.corpus import Corpus, open_corpus
from mixing.selection.exclude import DUPLICATE, HELDOUT, KEPT, NOT_TAKEN, heldout_of, taken_of
from mixing.store.store import open_source

TAKE = 20_000


def opened(store: Path, *sources: Source, **options: object) -> Corpus:
    data = a_data(store, *sources, seq_len=128, **options)
    keys = {s.name: build(store, s).key for s in sources}
    return open_corpus(data, keys)


def ids_of(corpus: Corpus, name: str, *codes: np.uint8) -> set[str]:
    chosen = np.flatnonzero(np.isin(corpus.reasons[name], codes)).tolist()
    return {corpus.readers[name].provenance(d).id for d in chosen}


def taken_tokens(corpus: Corpus, name: str) -> int:
    taken = np.isin(corpus.reasons[name], (KEPT, HELDOUT))
    return int(corpus.readers[name].lengths[taken].sum())


def a_corpus(folder: Path, files: int, form: str = "jsonl", seed: int = 0) -> Path:
    """The same 2,000 documents in other files, in another order."""
    folder.mkdir()
    rows = [{"id": f"d{i}", "text": f"{t} {i}"} for i, t in enumerate(random_texts(1, 2000))]
    np.random.default_rng(seed).shuffle(rows)
    for part in range(files):
        write = parquet(row_group_size=50) if form == "parquet" else jsonl
        write(folder / f"{part}.{form}", rows[part::files])
    return folder


def test_it_is_the_same_however_the_documents_lie(tmp_path: Path) -> None:
    found = []
    for i, (files, form) in enumerate([(1, "jsonl"), (7, "jsonl"), (3, "parquet")]):
        path = a_corpus(tmp_path / str(i), files, form, seed=i)
        corpus = opened(tmp_path / "store", a_source(path, take=TAKE))
        found.append(ids_of(corpus, "s", KEPT, HELDOUT))
        assert TAKE <= taken_tokens(corpus, "s") < TAKE + 300  # one document more than needed
    assert found[0] == found[1] == found[2]
    assert 100 < len(found[0]) < 1000


def test_more_takes_the_same_and_more_and_another_seed_takes_others(tmp_path: Path) -> None:
    path, store = a_corpus(tmp_path / "in", 1), tmp_path / "store"
    one = ids_of(opened(store, a_source(path, take=TAKE)), "s", KEPT, HELDOUT)
    two = ids_of(opened(store, a_source(path, take=2 * TAKE)), "s", KEPT, HELDOUT)
    other = ids_of(opened(store, a_source(path, take=TAKE), seed=1), "s", KEPT, HELDOUT)
    assert one < two
    assert len(one & other) < 0.5 * len(one)
    whole = opened(store, a_source(path))
    all_of_it = opened(store, a_source(path, take=10**9))
    assert whole.packed["s"].hash == all_of_it.packed["s"].hash


def test_nothing_is_tokenized_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_corpus(tmp_path / "in", 1)
    before = opened(tmp_path / "store", a_source(path))
    monkeypatch.setattr("mixing.tokens.encode.encode_block", lambda *_: pytest.fail("tokenized"))
    after = opened(tmp_path / "store", a_source(path, take=TAKE))
    assert after.readers["s"].key == before.readers["s"].key
    ledger = after.ledgers["s"]
    assert ledger.balanced
    assert sum(ledger.tokens.values()) == before.readers["s"].total_tokens
    assert ledger.tokens["not_taken"] == before.readers["s"].total_tokens - taken_tokens(after, "s")


def test_what_is_held_out_is_a_share_of_what_is_taken(tmp_path: Path) -> None:
    """Were it the same hash of the text for both, all that is held out would be taken first."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 100_000, np.uint64)
    for seed in range(5):
        taken = taken_of(hashes, np.full(hashes.size, 10), 100_000, seed)
        assert taken.sum() == 10_000
        assert abs(heldout_of(hashes[taken], 0.05).mean() - 0.05) < 0.01
    corpus = opened(
        tmp_path / "store", a_source(a_corpus(tmp_path / "in", 1), take=TAKE, heldout=0.1)
    )
    held = len(ids_of(corpus, "s", HELDOUT)) / len(ids_of(corpus, "s", HELDOUT, KEPT))
    assert 0.04 < held < 0.18


def test_copies_count_once_and_what_is_not_taken_stands_in_nobodys_way(tmp_path: Path) -> None:
    texts = [f"word {i}" for i in range(200)]
    jsonl(tmp_path / "a.jsonl", [{"text": t} for t in [*texts, *texts]])
    jsonl(tmp_path / "b.jsonl", [{"text": t} for t in texts])
    one = a_source(tmp_path / "a.jsonl", "own", take=300, heldout=0)
    two = a_source(tmp_path / "b.jsonl", "web", role="general", heldout=0)
    corpus = opened(tmp_path / "store", one, two)
    own, web = corpus.reasons["own"], corpus.reasons["web"]
    assert (own == DUPLICATE).sum() == 200
    assert (own == KEPT).sum() + (own == NOT_TAKEN).sum() == 200
    assert 300 <= taken_tokens(corpus, "own") < 310
    assert (web == KEPT).sum() == (own == NOT_TAKEN).sum()


def test_an_estimate_knows_it(tmp_path: Path) -> None:
    source = a_source(a_corpus(tmp_path / "in", 1), take=TAKE, heldout=0)
    data = Data(sources=(source,), seq_len=128)
    assert estimated_source(source, data, small_tokenizer()).tokens == TAKE
    hub = Source(name="h", role="general", hub="a/b", take=TAKE, heldout=0)
    assert estimated_source(hub, data, small_tokenizer()).tokens == TAKE


def test_an_estimate_of_every_format_is_near(tmp_path: Path) -> None:
    for files, form in ((3, "jsonl"), (3, "parquet")):
        source = a_source(a_corpus(tmp_path / form, files, form), heldout=0)
        data = Data(store=str(tmp_path / "store"), sources=(source,), seq_len=128)
        guess = estimated_source(source, data, small_tokenizer()).tokens
        reader = open_source(tmp_path / "store", build(tmp_path / "store", source).key)
        assert abs(guess / reader.total_tokens - 1) < 0.1
