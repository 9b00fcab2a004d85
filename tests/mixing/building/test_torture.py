"""Generated sources with every defect, in every format in which it can occur.

What is expected is known from how the rows were made, not from any code that reads them.
"""

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from ingest_helpers import a_source, build
from small_tokenizer import EOS, reference, small_tokenizer

from configs import UserError
from mixing.store.store import open_source, verify_source

MOST_BYTES = 3000
GOOD = {
    "plain": (b"the court may", {}),
    "quotes": (b'a "b", c', {}),
    "crlf": (b"dos\r\nlines\r\n", {"crlf_documents": 1}),
    "bom": (b"\xef\xbb\xbfmarked", {"bom_stripped": 1}),
    "nul": (b"nul \0 inside", {"nul_documents": 1}),
    "special": (f"a {EOS} b {EOS}".encode(), {"special_like_strings": 2}),
    "utf8": ("\u00e9\U0001f600".encode(), {}),
    "longest": (b"w" * (MOST_BYTES - 20), {}),
}
BAD = {
    "bad_utf8": (b"bad \xff utf8", "bad_utf8"),
    "surrogate": (b"half \xed\xa0\x80", "bad_utf8"),
    "cut": ("\u00e9".encode()[:1], "bad_utf8"),
    "empty": (b"", "empty_text"),
    "blank": (b" \n ", "empty_text"),
    "over": (b"w" * (MOST_BYTES + 1), "over_max_doc_bytes"),
    "null": (None, "no_text"),
}


@dataclass(frozen=True)
class Made:
    """One row as bytes, and what must become of it."""

    id: bytes | None
    text: bytes | None
    reason: str | None
    notes: dict[str, int]


def torture_rows(seed: int, count: int = 400) -> list[Made]:
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        own_id = rng.choice([None, f"d{i}".encode(), f"d{rng.randrange(count)}".encode()])
        if rng.random() < 0.3:
            text, reason = BAD[rng.choice(list(BAD))]
            rows.append(Made(own_id, text, reason, {}))
        else:
            text, notes = GOOD[rng.choice(list(GOOD))]
            rows.append(Made(own_id, text + f" {i}".encode(), None, notes))
    return rows


def json_text(text: bytes) -> bytes:
    for byte, escape in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r")):
        text = text.replace(byte, escape)
    return b'"' + text.replace(b"\0", b"\\u0000") + b'"'


def as_jsonl(rows: list[Made]) -> bytes:
    lines = []
    for row in rows:
        own_id = b"" if row.id is None else b'"id": ' + json_text(row.id) + b", "
        text = b"null" if row.text is None else json_text(row.text)
        lines.append(b"{" + own_id + b'"text": ' + text + b"}\n")
    return b"".join(lines)


def as_separated(rows: list[Made], delimiter: bytes) -> bytes:
    def field(value: bytes | None) -> bytes:
        return b'"' + (value or b"").replace(b'"', b'""') + b'"'

    lines = [delimiter.join([b"id", b"text"])]
    lines += [delimiter.join([field(row.id), field(row.text)]) for row in rows]
    return b"\n".join(lines) + b"\n"


def strings(values: list[bytes | None]) -> pa.Array:
    """An array of strings that nobody has checked."""
    raw = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), raw.null_count)


def as_table(rows: list[Made]) -> pa.Table:
    return pa.table({"id": strings([r.id for r in rows]), "text": strings([r.text for r in rows])})


def as_arrow(rows: list[Made], open_writer: Callable[..., Any]) -> bytes:
    sink = pa.BufferOutputStream()
    table = as_table(rows)
    with open_writer(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=29)
    return sink.getvalue().to_pybytes()


def as_parquet(rows: list[Made]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(as_table(rows), sink, row_group_size=31, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def zst(data: bytes) -> bytes:
    """A frame of many blocks, as a stream would be written."""
    packer = zstandard.ZstdCompressor().compressobj()
    out = []
    for begin in range(0, len(data), 2000):
        out.append(packer.compress(data[begin : begin + 2000]))
        out.append(packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    return b"".join([*out, packer.flush()])


WRITERS: dict[str, Callable[[list[Made]], bytes]] = {
    "a.jsonl": as_jsonl,
    "a.jsonl.zst": lambda rows: zst(as_jsonl(rows)),
    "a.jsonl.gz": lambda rows: gzip.compress(as_jsonl(rows)),
    "a.csv": lambda rows: as_separated(rows, b","),
    "marked.csv": lambda rows: b"\xef\xbb\xbf" + as_separated(rows, b","),
    "a.csv.zst": lambda rows: zst(as_separated(rows, b",")),
    "a.tsv": lambda rows: as_separated(rows, b"\t"),
    "a.tsv.gz": lambda rows: gzip.compress(as_separated(rows, b"\t")),
    "a.parquet": as_parquet,
    "stream.arrow": lambda rows: as_arrow(rows, pa.ipc.new_stream),
    "file.arrow": lambda rows: as_arrow(rows, pa.ipc.new_file),
}


def in_format(row: Made, name: str) -> Made:
    """What a format can say of a row: an empty field of CSV is no null."""
    if "sv" in name and row.text is None:
        return Made(row.id, b"", "empty_text", {})
    return row


def stored(store: Path, key: str) -> Counter[str]:
    reader = open_source(store, key)
    backend = reference(small_tokenizer())
    ids = [reader.tokens(i).tolist()[:-1] for i in range(reader.documents)]
    return Counter(backend.decode(row, skip_special_tokens=False) for row in ids)


def texts_of(rows: list[Made]) -> Counter[str]:
    good = [row.text for row in rows if row.reason is None and row.text is not None]
    return Counter(text.decode().removeprefix("\ufeff") for text in good)


def expected_notes(rows: list[Made], name: str) -> Counter[str]:
    kept = [row for row in rows if row.reason is None]
    notes = Counter[str]()
    for row in kept:
        notes.update(row.notes)
    ids = [row.id for row in kept if row.id is not None]
    notes["documents_without_id"] = len(kept) - len(ids)
    notes["duplicate_ids"] = len(ids) - len(set(ids))
    notes["file_bom_stripped"] = name.startswith("marked")
    return +notes


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", WRITERS)
def test_rows_with_every_defect(
    name: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixing.building.ingest.BLOCK_BYTES", 20_000)
    rows = [in_format(row, name) for row in torture_rows(seed)]
    (tmp_path / name).write_bytes(WRITERS[name](rows))
    source = a_source(tmp_path / name, max_bad=0.5, max_doc_bytes=MOST_BYTES)
    report = build(tmp_path / "store", source)
    assert report.dropped == Counter(row.reason for row in rows if row.reason)
    assert report.notes == expected_notes(rows, name)
    assert report.documents_in == len(rows)
    assert report.ledger_balanced
    assert stored(tmp_path / "store", report.key) == texts_of(rows)
    assert verify_source(tmp_path / "store", report.key) == []
    quarantine = [json.loads(line) for line in Path(report.quarantine).read_text().splitlines()]
    if "sv" not in name:  # there, rows begin at other lines
        bad = {i: row.reason for i, row in enumerate(rows, 1) if row.reason}
        assert {row["line"]: row["reason"] for row in quarantine} == bad
    assert len(quarantine) == sum(report.dropped.values())


@pytest.mark.parametrize("suffix", [".txt", ".md", ".txt.zst", ".txt.gz"])
def test_texts_with_every_defect(suffix: str, tmp_path: Path) -> None:
    rows = [row for row in torture_rows(3, 100) if row.text is not None]
    pack = {".zst": zstandard.compress, ".gz": gzip.compress}.get(Path(suffix).suffix, bytes)
    for i, row in enumerate(rows):
        folder = tmp_path / "in" / str(i % 3)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}{suffix}").write_bytes(pack(row.text))
    source = a_source(tmp_path / "in", max_bad=0.5, max_doc_bytes=MOST_BYTES)
    report = build(tmp_path / "store", source)
    assert report.dropped == Counter(row.reason for row in rows if row.reason)
    assert report.documents_in == len(rows)
    assert report.ledger_balanced
    assert stored(tmp_path / "store", report.key) == texts_of(rows)


@pytest.mark.parametrize("name", ["a.parquet", "stream.arrow", "file.arrow"])
def test_a_column_named_twice(name: str, tmp_path: Path) -> None:
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(table, path)
    else:
        open_writer = pa.ipc.new_stream if name == "stream.arrow" else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as sink, open_writer(sink, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(UserError, match="column_named_twice 1"):
        build(tmp_path / "store", a_source(path, max_bad=1.0))


WRONG_TYPES = {
    "number": pa.array([1, 2]),
    "list": pa.array([["a"], ["b"]]),
    "struct": pa.array([{"a": 1}, {"a": 2}]),
    "bytes": pa.array([b"a", b"b"]),
    "time": pa.array(np.array(["2020", "2021"], "datetime64[s]")),
}


@pytest.mark.parametrize("kind", WRONG_TYPES)
def test_columns_of_the_wrong_type(kind: str, tmp_path: Path) -> None:
    wrong = pa.table({"text": WRONG_TYPES[kind], "id": pa.array(["x", "y"])})
    right = pa.table({"text": ["one", "two"], "id": WRONG_TYPES[kind]})
    pq.write_table(wrong, tmp_path / "a.parquet")
    pq.write_table(right, tmp_path / "b.parquet")
    report = build(tmp_path / "store", a_source(tmp_path / "*.parquet", max_bad=0.5))
    assert report.dropped == {"text_not_a_string": 2}
    assert report.documents_written == 2
    assert report.ledger_balanced
    assert report.notes == (
        {} if kind == "number" else {"documents_without_id": 2, "unusable_ids": 2}
    )


def good_rows(count: int) -> list[Made]:
    rng = random.Random(5)
    words = [rng.randbytes(30).hex() for _ in range(count)]
    return [Made(f"d{i}".encode(), f"{w}\n{w} {i}".encode(), None, {}) for i, w in enumerate(words)]


CUT_REASONS = {
    "a.jsonl": "bad_json",
    "a.jsonl.zst": "truncated_zst",
    "a.jsonl.gz": "truncated_gz",
    "a.csv": "unclosed_quote",
    "a.csv.zst": "truncated_zst",
    "a.tsv": "unclosed_quote",
    "a.tsv.gz": "truncated_gz",
    "a.parquet": "damaged_parquet",
    "stream.arrow": "damaged_arrow",
    "file.arrow": "damaged_arrow",
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CUT_REASONS)
def test_cut_files_lose_what_is_cut_and_store_no_part_of_a_document(
    name: str, seed: int, tmp_path: Path
) -> None:
    rows = good_rows(300)
    data = WRITERS[name](rows)
    keep = random.Random(seed).randrange(len(data) // 3, len(data) - 20)
    while name.endswith(("csv", "tsv")) and data[:keep].count(b'"') % 2 == 0:
        keep += 1  # between rows nobody can see that something is missing
    while name == "a.jsonl" and data[keep - 1 : keep + 1].count(b"\n"):
        keep += 1
    (tmp_path / name).write_bytes(data[:keep])
    # beside it, so that something is left where all of a file is lost
    (tmp_path / "whole.jsonl").write_bytes(as_jsonl([Made(b"x", b"whole", None, {})]))
    source = a_source(tmp_path / "*.*", max_bad=1.0)
    report = build(tmp_path / "store", source)
    assert report.dropped == {CUT_REASONS[name]: 1}
    assert report.ledger_balanced
    found = stored(tmp_path / "store", report.key)
    assert not found - texts_of(rows) - Counter(["whole"])
    if name not in ("a.parquet", "file.arrow"):
        assert len(found) > 50
    if name != "a.jsonl":
        with pytest.raises(
            UserError, match=r"1 of 2 (files cannot be read to their end|rows are bad)"
        ):
            build(tmp_path / "store", a_source(tmp_path / "*.*", max_bad=0.49))


@pytest.mark.parametrize("seed", range(5))
def test_a_packed_csv_without_quotes_stores_no_half_line(seed: int, tmp_path: Path) -> None:
    rows = good_rows(300)
    lines = [f"{i},word {row.text.hex()}" for i, row in enumerate(rows) if row.text]
    data = gzip.compress("\n".join(["id,text", *lines]).encode())
    (tmp_path / "a.csv.gz").write_bytes(data[: random.Random(seed).randrange(3000, len(data) - 9)])
    report = build(tmp_path / "store", a_source(tmp_path / "a.csv.gz", max_bad=1.0))
    assert report.dropped == {"truncated_gz": 1}
    found = stored(tmp_path / "store", report.key)
    assert len(found) > 20
    assert not set(found) - {line.partition(",")[2] for line in lines}


def test_an_arrow_stream_without_its_end_is_cut(tmp_path: Path) -> None:
    data = as_arrow(good_rows(100), pa.ipc.new_stream)
    (tmp_path / "a.arrow").write_bytes(data[:-8])
    report = build(tmp_path / "store", a_source(tmp_path / "a.arrow", max_bad=1.0))
    assert (report.documents_written, report.dropped) == (100, {"truncated_arrow": 1})


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"this is something else\n" * 9])
def test_files_that_are_something_else(content: bytes, tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl.zst", "c.jsonl.gz", "d.csv", "e.tsv.gz", "f.parquet",
                 "g.arrow", "h.csv.zst"):  # fmt: skip
        (tmp_path / name).write_bytes(content)
    (tmp_path / "whole.jsonl").write_bytes(as_jsonl(good_rows(3)))
    report = build(tmp_path / "store", a_source(tmp_path / "*.*", max_bad=1.0))
    assert report.documents_written == 3
    assert report.ledger_balanced
    if content:
        assert report.dropped["damaged_parquet"] == report.dropped["damaged_arrow"] == 1
        assert report.dropped["damaged_zst"] == report.dropped["damaged_gz"] == 2
    else:
        assert report.notes["empty_files"] == 8


def test_defects_of_csv_alone(tmp_path: Path) -> None:
    lines = [
        b"id,text,more",
        b"1,good,x",
        b"2,too,many,fields",
        b"3,few",
        b"",
        b'4,"closed" early,x',
        b'5,a "quote" inside,x',
        b'6,"two',
        b'lines",x',
        b'7,"doubled ""quotes""",x',
        b"8,last,x",
    ]
    (tmp_path / "a.csv").write_bytes(b"\r\n".join(lines))
    report = build(tmp_path / "store", a_source(tmp_path / "a.csv", max_bad=0.5))
    assert report.dropped == {"bad_csv": 1, "wrong_number_of_fields": 2}
    reader = open_source(tmp_path / "store", report.key)
    places = [reader.provenance(i) for i in range(reader.documents)]
    assert [(p.id, p.line) for p in places] == [("1", 2), ("5", 7), ("6", 8), ("7", 10), ("8", 11)]
    assert set(stored(tmp_path / "store", report.key)) == {
        "good", 'a "quote" inside', "two\r\nlines", 'doubled "quotes"', "last"
    }  # fmt: skip
    (tmp_path / "b.csv").write_bytes(b"id,text,text\n1,a,b\n")
    with pytest.raises(UserError, match="column_named_twice 1"):
        build(tmp_path / "store", a_source(tmp_path / "b.csv", max_bad=1.0))


def test_a_csv_row_over_any_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixing.documents.documents.RowOptions.max_line_bytes", 5_000)
    for number, huge in enumerate([b'"' + b"w\n" * 9_000 + b'"', b"w" * 9_000]):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(b"id,text\n1,good\n2," + huge + b"\n3,behind\n")
        with pytest.raises(UserError, match="1 of 1 files cannot be read to their end"):
            build(tmp_path / "store", a_source(path, max_bad=0.9))
        report = build(tmp_path / "store", a_source(path, max_bad=1.0))
        assert (report.documents_written, report.dropped) == (1, {"over_max_line_bytes": 1})
