"""A build stores the usable texts as the ids of tokenizers, and its ledger has the rest."""

import json
import os

import numpy as np
import pytest
import zstandard
from ingest_helpers import (
    a_data,
    a_source,
    build,
    built,
    file_bytes,
    random_texts,
    stored_texts,
    write_jsonl,
    write_texts,
)
from places import SHARED_DATA
from small_tokenizer import EOS, reference, small_tokenizer
from tokenizers import Tokenizer

from configs import UserError
from mixing.building.build import build_corpus, build_source, find_source
from mixing.store.store import open_source, verify_source
from mixing.tokens.tokenizer import load_tokenizer


def test_every_document_is_stored_with_its_ids_hashes_and_origin(tmp_path):
    texts = random_texts(1, 500)
    path = write_texts(tmp_path / "a.jsonl", texts)
    reader = built(tmp_path / "store", a_source(path), shard_tokens=5000)
    backend = reference(small_tokenizer())
    assert reader.documents == len(texts)
    for i, text in enumerate(texts):
        ids = [*backend.encode(text, add_special_tokens=False).ids, small_tokenizer().eos_id]
        assert reader.tokens(i).tolist() == ids
        assert reader.tokens(i, 1, 0).size == 0
        assert reader.tokens(i, 1).tolist() == ids[1:]
        assert (reader.lengths[i], reader.text_bytes[i]) == (len(ids), len(text))
        origin = reader.provenance(i)
        assert (origin.id, origin.file, origin.line) == (f"d{i}", str(path), i + 1)
        assert i in reader.find_id(f"d{i}")
    assert reader.find_id("nothing") == []
    assert len(reader.manifest["shards"]) > 5
    assert all(shard["tokens"] <= 5000 for shard in reader.manifest["shards"])
    assert verify_source(tmp_path / "store", reader.key) == []


def test_real_corpus_has_the_ids_of_tokenizers(tmp_path):
    corpus = SHARED_DATA / "corpora" / "tech_ethereum_eips.jsonl.zst"
    file = SHARED_DATA / "tokenizers" / "gpt2.json"
    if not corpus.exists() or not file.exists():
        pytest.skip(f"no {corpus} and {file}")
    tokenizer = load_tokenizer(str(file))
    source = a_source(corpus)
    report = build_source(source, a_data(tmp_path, source), tokenizer, 1, lambda _: None)
    reader = open_source(tmp_path, report.key)
    backend = Tokenizer.from_file(str(file))
    backend.encode_special_tokens = True
    raw = zstandard.ZstdDecompressor().stream_reader(corpus.open("rb")).readall()
    rows = [json.loads(line) for line in raw.decode().split("\n")[:-1]]
    assert report.documents_in == report.documents_written == len(rows)
    assert report.text_bytes == sum(len(row["text"].encode()) for row in rows)
    expected = backend.encode_batch([row["text"] for row in rows], add_special_tokens=False)
    for i, (row, encoding) in enumerate(zip(rows, expected, strict=True)):
        assert reader.tokens(i).tolist() == [*encoding.ids, tokenizer.eos_id], row["id"]
        assert reader.provenance(i).id == row["id"]


@pytest.mark.parametrize("name", ["law_us_code", "general_novels", "medicine_medquad",
                                  "tech_peps", "tech_rust_rfcs", "tech_ethereum_eips"])  # fmt: skip
@pytest.mark.slow
def test_ledgers_of_all_real_corpora_balance(tmp_path, name):
    corpus = SHARED_DATA / "corpora" / f"{name}.jsonl.zst"
    file = SHARED_DATA / "tokenizers" / "gpt2.json"
    if not corpus.exists() or not file.exists():
        pytest.skip(f"no {corpus} and {file}")
    source = a_source(corpus)
    report = build_source(
        source, a_data(tmp_path, source), load_tokenizer(str(file)), 2, lambda _: None
    )
    raw = zstandard.ZstdDecompressor().stream_reader(corpus.open("rb")).readall()
    assert report.documents_in == raw.count(b"\n") == report.documents_written
    assert report.ledger_balanced
    assert verify_source(tmp_path, report.key) == []


def test_too_many_bad_rows_publish_nothing_and_keep_the_quarantine(tmp_path):
    rows = [{"text": "fine"}] * 9 + [b"{broken"]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match=r"1 of 10 rows are bad \(10.00%, max_bad is 5.00%\)") as e:
        build(tmp_path / "store", a_source(path, max_bad=0.05))
    assert "max_bad: 10%" in e.value.hint
    assert [p.name for p in (tmp_path / "store").iterdir() if not p.name.startswith(".")] == []
    (refused,) = (tmp_path / "store" / ".refused").iterdir()
    assert json.loads(refused.read_text())["line"] == 10
    report = build(tmp_path / "store", a_source(path, max_bad=0.1))
    assert (report.documents_written, report.dropped) == (9, {"bad_json": 1})
    with pytest.raises(UserError, match=r"max_bad is 5\.00%"):  # though it is in the store now
        build(tmp_path / "store", a_source(path, max_bad=0.05))


def test_a_cut_file_is_more_than_one_bad_row(tmp_path):
    whole = b"\n".join(
        json.dumps({"text": f"text {i} {os.urandom(40).hex()}"}).encode() for i in range(5000)
    )
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(whole)[:-1000])
    with pytest.raises(UserError, match=r"1 of 1 files cannot be read to their end"):
        build(tmp_path / "store", a_source(tmp_path / "a.jsonl.zst", max_bad=0.5))


@pytest.mark.parametrize(("rows", "message"), [([], "no documents"), ([b"", b" "], "no documents"),
                                               ([b"{"], "none of its 1 documents")])  # fmt: skip
def test_a_source_without_documents_is_refused(tmp_path, rows, message):
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match=message):
        build(tmp_path / "store", a_source(path, max_bad=1.0))
    assert (
        find_source(a_source(path), a_data(tmp_path / "store", a_source(path)), small_tokenizer())
        is None
    )


def test_names_and_places_of_files_do_not_matter_but_content_and_options_do(tmp_path):
    texts = [random_texts(i, 50) for i in range(4)]
    for i, part in enumerate(texts):
        write_texts(tmp_path / "in" / f"{i}.jsonl", part)
        write_texts(tmp_path / "moved" / f"x/{9 - i}.jsonl", part)
    one = build(tmp_path / "a", a_source(tmp_path / "in"))
    other = build(tmp_path / "b", a_source(tmp_path / "moved", name="other", role="general"))
    assert one.key == other.key
    assert file_bytes(tmp_path / "a" / one.key) == file_bytes(tmp_path / "b" / other.key)
    in_same_store = build(tmp_path / "a", a_source(tmp_path / "moved", name="other"))
    assert (in_same_store.reused, in_same_store.name) == (True, "other")
    source = a_source(tmp_path / "in")
    for changed in (
        build(tmp_path / "a", source, append_eos=False),
        build(tmp_path / "a", source, shard_tokens=77),
        build(tmp_path / "a", a_source(tmp_path / "in", max_doc_bytes=10_000)),
        build(tmp_path / "a", a_source(tmp_path / "in", id_column="name")),
    ):
        assert changed.key != one.key
    write_texts(tmp_path / "in" / "0.jsonl", random_texts(9, 50))
    assert build(tmp_path / "a", source).key != one.key


def test_built_sources_are_found_without_tokenizing(tmp_path, monkeypatch):
    path = write_texts(tmp_path / "a.jsonl", random_texts(1, 50))
    source, store = a_source(path), tmp_path / "store"
    data = a_data(store, source)
    assert find_source(source, data, small_tokenizer()) is None
    key = build(store, source).key
    monkeypatch.setattr("mixing.tokens.encode.encode_block", lambda *_: pytest.fail("tokenized"))
    assert find_source(source, data, small_tokenizer()) == key
    report = build(store, source)
    assert (report.reused, report.key) == (True, key)


def test_a_document_longer_than_a_shard_or_a_block_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("mixing.building.ingest.BLOCK_BYTES", 1000)
    texts = ["short", " ".join(random_texts(5, 400)), "end"]
    path = write_texts(tmp_path / "a.jsonl", texts)
    reader = built(tmp_path / "store", a_source(path), shard_tokens=100)
    assert stored_texts(reader) == texts
    assert [s["documents"] for s in reader.manifest["shards"]] == [1, 1, 1]


def test_bos_comes_from_the_post_processor_only(tmp_path):
    path = write_texts(tmp_path / "a.jsonl", ["the court", "may"])
    token = {"SpecialToken": {"id": EOS, "type_id": 0}}
    processor = {
        "type": "TemplateProcessing",
        "single": [token, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {EOS: {"id": EOS, "ids": [0], "tokens": [EOS]}},
    }
    tokenizer = small_tokenizer(post_processor=processor)
    source = a_source(path)
    for append_eos, extra in ((True, 2), (False, 1)):
        data = a_data(tmp_path / "store", source, append_eos=append_eos)
        key = build_source(source, data, tokenizer, 1, lambda _: None).key
        reader = open_source(tmp_path / "store", key)
        plain = reference(small_tokenizer()).encode("the court", add_special_tokens=False).ids
        assert reader.tokens(0).tolist() == [0, *plain, *[0] * (extra - 1)]


def test_a_text_of_which_nothing_is_left_is_quarantined(tmp_path):
    tokenizer = small_tokenizer(
        normalizer={"type": "Replace", "pattern": {"String": "\u00ad"}, "content": ""}
    )
    rows = [{"text": "the"}, {"text": "\u00ad\u00ad"}, {"text": "may"}]
    source = a_source(write_jsonl(tmp_path / "a.jsonl", rows), max_bad=0.5)
    data = a_data(tmp_path / "store", source)
    report = build_source(source, data, tokenizer, 1, lambda _: None)
    assert (report.documents_written, report.dropped) == (2, {"no_tokens": 1})
    assert open_source(tmp_path / "store", report.key).provenance(1).line == 3


def test_corpus_reports_follow_the_recipe(tmp_path):
    sources = [
        a_source(write_texts(tmp_path / f"{name}.jsonl", random_texts(i, 30)), name=name, role=role)
        for i, (name, role) in enumerate([("b", "general"), ("a", "domain"), ("c", "retention")])
    ]
    said: list[str] = []
    data = a_data(tmp_path / "store", *sources)
    reports = build_corpus(data, small_tokenizer(), 1, said.append)
    assert [(r.name, r.role, r.reused) for r in reports] == [
        ("b", "general", False), ("a", "domain", False), ("c", "retention", False)
    ]  # fmt: skip
    assert sum("tokenizing with gigatoken" in line for line in said) == 3
    assert all(r.reused for r in build_corpus(data, small_tokenizer(), 1, said.append))
    assert np.sum([r.tokens for r in reports]) > 0
