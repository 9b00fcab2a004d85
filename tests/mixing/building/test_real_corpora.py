"""Slow proofs on real text: ids, ledgers and formats of everything below ../shared/data."""

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from ingest_helpers import a_data, a_source, write_jsonl
from tokenizers import Tokenizer

from configs import Source
from mixing.building.build import SourceReport, build_source
from mixing.corpus import open_corpus
from mixing.store.store import SourceReader, open_source, verify_source
from mixing.tokens.tokenizer import load_tokenizer

CORPORA = [
    "law_us_code",
    "general_novels",
    "medicine_medquad",
    "tech_peps",
    "tech_rust_rfcs",
    "tech_ethereum_eips",
]
TOKENIZERS = ["gpt2", "olmo2", "pythia_20b"]
OTHERS: dict[str, dict[str, Any]] = {
    "mmlu/test/*.csv": {"text_column": "question", "id_column": "none"},
    "tasks/arc_easy/*.jsonl": {"text_column": "query"},
    "tasks/gsm8k/*.jsonl": {
        "format": "prompt_response",
        "prompt_column": "question",
        "response_column": "answer",
    },
    "tasks/ifeval/*.jsonl": {"text_column": "prompt", "id_column": "key"},
    "tasks/openai_moderation/*.jsonl.gz": {"text_column": "prompt"},
    "tasks/hellaswag/*.jsonl": {"text_column": "query"},
}


def built(
    source: Source, store: Path, tokenizer_path: Path, workers: int = 2
) -> tuple[SourceReader, SourceReport]:
    data = a_data(store, source)
    report = build_source(
        source, data, load_tokenizer(str(tokenizer_path)), workers, lambda _: None
    )
    return open_source(store, report.key, source.name), report


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


def batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(islice(items, size)):
        yield batch


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer_name", TOKENIZERS)
@pytest.mark.parametrize("name", CORPORA)
def test_every_document_has_the_ids_of_tokenizers(
    name: str, tokenizer_name: str, shared_data: Path, tmp_path: Path
) -> None:
    path = shared_data / f"corpora/{name}.jsonl.zst"
    file = shared_data / f"tokenizers/{tokenizer_name}.json"
    reader, _ = built(a_source(path), tmp_path, file)
    backend = Tokenizer.from_file(str(file))
    backend.encode_special_tokens = True
    end = reader.manifest["tokenizer"]["eos_id"]
    document = 0
    for batch in batches(rows_of(path), 500):
        texts = [row["text"].lstrip("\ufeff") for row in batch]
        for row, encoding in zip(
            batch, backend.encode_batch_fast(texts, add_special_tokens=False), strict=True
        ):
            assert reader.tokens(document).tolist() == [*encoding.ids, end], row["id"]
            document += 1
    assert document == reader.documents


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_ledgers_of_all_other_files_balance(name: str, shared_data: Path, tmp_path: Path) -> None:
    source = a_source(str(shared_data / name), heldout=0.1, **OTHERS[name])
    data = a_data(tmp_path, source)
    reader, report = built(source, tmp_path, shared_data / "tokenizers/gpt2.json")
    assert report.ledger_balanced
    assert report.dropped == {}
    paths = list(shared_data.glob(name))
    if name.endswith(".csv"):
        expected = sum(len(list(csv.reader(p.open(newline="")))) - 1 for p in paths)
    elif name.endswith(".jsonl"):
        expected = sum(p.read_bytes().count(b"\n") for p in paths)
    else:
        expected = 1680
    assert report.documents_written == expected
    ledger = open_corpus(data, {source.name: reader.key}).ledgers[source.name]
    assert ledger.balanced
    assert sum(ledger.tokens.values()) == reader.total_tokens
    assert ledger.rows * data.seq_len == ledger.tokens["packed"] + ledger.padding


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in CORPORA if n != "law_us_code"])
def test_a_corpus_is_the_same_in_every_format(name: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / f"corpora/{name}.jsonl.zst"
    file = shared_data / "tokenizers/gpt2.json"
    rows = [(row["id"], row["text"]) for row in rows_of(path)]
    ids, texts = [row[0] for row in rows], [row[1] for row in rows]
    table = pa.table({"id": ids, "text": pa.array(texts, pa.large_string())})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=200)
    with (
        pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=100)
    for suffix, delimiter in (("csv", ","), ("tsv", "\t")):
        with open(tmp_path / f"a.{suffix}", "w", newline="", encoding="utf-8") as out:
            csv.writer(out, delimiter=delimiter).writerows([("id", "text"), *rows])
    expected, first = built(a_source(path), tmp_path / "store", file)
    for suffix in ("parquet", "arrow", "csv", "tsv"):
        found, report = built(a_source(tmp_path / f"a.{suffix}"), tmp_path / "store", file)
        assert report.notes == first.notes, suffix
        assert np.array_equal(found.offsets, expected.offsets), suffix
        assert np.array_equal(found.content_hashes, expected.content_hashes), suffix
        shards = [
            [(r.folder / s["file"]).read_bytes() for s in r.manifest["shards"]]
            for r in (found, expected)
        ]
        assert shards[0] == shards[1], suffix
        assert verify_source(tmp_path / "store", report.key) == []


ADVERSARIAL = [
    "<|endoftext|>",
    "a<|endoftext|>b",
    "<|endoftext|><|endoftext|>",
    " <|endoftext|> ",
    "<|endoftext",
    "|endoftext|>",
    "<|im_start|>user\n<|im_end|>",
    "<|padding|>",
    "<|fim_prefix|>",
    "<|endofprompt|>",
    "|||IP_ADDRESS|||",
    "|||EMAIL_ADDRESS|||",
    "<s>",
    "</s>",
    "[INST]",
    "<pad>",
    "a" * 20_000,
    " " * 5_000,
    "\n" * 5_000,
    "\t \n " * 500,
    "ab" * 10_000,
    "1" * 5_000,
    "é" * 3_000,
    "don't DON'T I'll 'S 's 're",
    "\u2019s don\u2019t",
    "x\u0000y",
    "\x01\x02\x7f",
    "a\r\nb\r\n\r\n",
    "a\ufeffb",
    "\u200b\u200c\u200d",
    "e\u0301 \u00e9",
    "\ufb01 \u2460 \u212b",
    "\u202e\u202dabc",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1e9\U0001f1ea",
    "\u0e01\u0e33",
    "\u0915\u094d\u0937",
    "\uac00\ud7a3",
    "\u4e00" * 2_000,
    "\U00020000\U0002a6d6",
    "\ue000\uf8ff\U000f0000",
    "\uffff\ufffe",
    "\u0378\U000e0fff",
    "3.14159 1,000,000 1e-9 0x1F",
    "   leading",
    "trailing   ",
    "a  b   c    d",
    "\u00a0\u2003\u3000 \u0085\u2028\u2029",
    "snake_case camelCase XMLHttpRequest",
    "http://a.b/c?d=e&f#g",
    "{}[]()<>!@#$%^&*+=|\\~`",
    "''''\"\"\"\"",
    "....----____",
    "\u0660\u0661\u00b2\u00bd\u2167",
]


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer_name", TOKENIZERS)
def test_adversarial_strings_have_the_ids_of_tokenizers(
    tokenizer_name: str, shared_data: Path, tmp_path: Path
) -> None:
    file = shared_data / f"tokenizers/{tokenizer_name}.json"
    backend = Tokenizer.from_file(str(file))
    added = [token.content for token in backend.get_added_tokens_decoder().values()]
    rng = np.random.default_rng(0)
    parts = [*ADVERSARIAL, *added]
    mixed = ["".join(parts[i][:40] for i in rng.integers(0, len(parts), 12)) for _ in range(3000)]
    texts = [*parts, *(f"before {a} after" for a in added), *mixed]
    texts = [text for text in texts if not text.isspace() and not text.startswith("\ufeff")]
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    reader, report = built(a_source(path), tmp_path / "store", file)
    assert (report.documents_written, report.dropped) == (len(texts), {})
    assert report.notes["special_like_strings"] > len(added)
    backend.encode_special_tokens = True
    end = reader.manifest["tokenizer"]["eos_id"]
    for i, text in enumerate(texts):
        expected = [*backend.encode(text, add_special_tokens=False).ids, end]
        assert reader.tokens(i).tolist() == expected, text[:80]
