"""Every format gives the same documents with their places, and says what it cannot read."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from format_files import FORMATS, NASTY, built_from, documents, jsonl, parquet, rows
from ingest_helpers import a_source, build

from configs import UserError
from mixing.documents import readers
from mixing.store.store import verify_source


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_documents(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl(tmp_path / "first.jsonl", rows())
    expected, first = built_from(tmp_path / "first.jsonl", tmp_path / "store")
    file, write = FORMATS[name]
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / file, rows())
    monkeypatch.setattr("mixing.building.ingest.BLOCK_BYTES", 2000)
    found, report = built_from(tmp_path / "in" / file, tmp_path / "other")
    assert documents(found) == documents(expected)
    assert report.ledger_balanced
    assert (report.documents_in, report.dropped) == (len(rows()), {})
    saved = {"other_files_in_folders": 2} if name == "dataset" else {}
    assert report.notes == {**first.notes, **saved}
    assert verify_source(tmp_path / "other", report.key) == []


@pytest.mark.parametrize("name", FORMATS)
def test_provenance_is_file_and_row(name: str, tmp_path: Path) -> None:
    file, write = FORMATS[name]
    plain = [{"id": f"d{i}", "text": f"word {i}"} for i in range(40)]
    write(tmp_path / file, plain)
    reader, _ = built_from(tmp_path / file, tmp_path / "store")
    for document in range(reader.documents):
        place = reader.provenance(document)
        number = int(place.id[1:])
        if name == "dataset":  # two files of 20 rows
            assert place.line == number % 20 + 1
        else:
            header = "sv" in name
            assert place.line == number + 1 + header
        assert Path(place.file).exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_do_not_change_a_byte(workers: int, tmp_path: Path) -> None:
    for name in ("small row groups", "csv"):
        file, write = FORMATS[name]
        write(tmp_path / file, rows())
        report = build(tmp_path / f"store{workers}", a_source(tmp_path / file), workers=workers)
        assert report.documents_written == len(rows())


def test_layout_inside_a_file_is_content_and_names_are_not(tmp_path: Path) -> None:
    parquet()(tmp_path / "a.parquet", rows())
    key = build(tmp_path / "store", a_source(tmp_path / "a.parquet")).key
    (tmp_path / "a.parquet").rename(tmp_path / "b.parquet")
    assert build(tmp_path / "store", a_source(tmp_path / "b.parquet")).key == key


def test_the_same_bytes_are_other_documents_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,one\n2,two\n")
    (tmp_path / "a.tsv").write_text("id,text\n1,one\n2,two\n")
    (tmp_path / "a.txt").write_text("id,text\n1,one\n2,two\n")
    assert build(tmp_path / "s", a_source(tmp_path / "a.csv")).documents_written == 2
    assert build(tmp_path / "s", a_source(tmp_path / "a.txt")).documents_written == 1
    with pytest.raises(UserError, match="no_text 2"):
        build(tmp_path / "s", a_source(tmp_path / "a.tsv"))


def test_texts_are_one_document_each(tmp_path: Path) -> None:
    for i, text in enumerate(NASTY):
        (tmp_path / "in" / str(i)).mkdir(parents=True)
        (tmp_path / "in" / str(i) / "one.txt").write_bytes(text.encode())
    reader, report = built_from(tmp_path / "in", tmp_path / "store")
    jsonl(tmp_path / "same.jsonl", [{"text": t} for t in NASTY])
    same, _ = built_from(tmp_path / "same.jsonl", tmp_path / "store")
    assert sorted(documents(reader).values()) == sorted(documents(same).values())
    assert set(documents(reader)) == {f"{i}/one.txt:1" for i in range(len(NASTY))}
    assert report.notes["bom_stripped"] == 1
    assert report.notes["crlf_documents"] == 1
    with pytest.raises(UserError, match="no columns for format messages"):
        build(tmp_path / "store", a_source(tmp_path / "in", format="messages"))


def test_a_folder_gives_its_rows_and_texts_only_where_it_has_none(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/README.md").write_text("about it")
    assert build(tmp_path / "store", a_source(tmp_path / "in")).documents_written == 1
    jsonl(tmp_path / "in/a.jsonl", rows())
    parquet()(tmp_path / "in/b.parquet", rows())
    report = build(tmp_path / "store", a_source(tmp_path / "in"))
    assert report.documents_written == 2 * len(rows())
    assert report.notes["other_files_in_folders"] == 1


def test_columns_are_mapped(tmp_path: Path) -> None:
    renamed = [{"key": r["id"], "body": r["text"], "text": "not this"} for r in rows()]
    for name in ("csv", "parquet", "arrow file"):
        file, write = FORMATS[name]
        write(tmp_path / file, renamed)
        source = {"text_column": "body", "id_column": "key"}
        found, _ = built_from(tmp_path / file, tmp_path / "store", **source)
        jsonl(tmp_path / "a.jsonl", rows())
        expected, _ = built_from(tmp_path / "a.jsonl", tmp_path / "store")
        assert documents(found) == documents(expected)


@pytest.mark.parametrize("name", ["parquet", "arrow stream"])
def test_conversations_in_nested_columns(name: str, tmp_path: Path) -> None:
    talks = [
        {
            "id": f"c{i}",
            "messages": [
                {"role": "user", "content": f"the {i}"},
                {"role": "assistant", "content": "court", **({"weight": 0} if i % 2 else {})},
                {"role": "assistant", "content": "may"},
            ],
        }
        for i in range(20)
    ]
    file, write = FORMATS[name]
    write(tmp_path / file, talks)
    jsonl(tmp_path / "a.jsonl", talks)
    found, _ = built_from(tmp_path / file, tmp_path / "store", format="messages")
    expected, _ = built_from(tmp_path / "a.jsonl", tmp_path / "store", format="messages")
    assert documents(found) == documents(expected)
    assert found.targets.tolist() == expected.targets.tolist()


def test_a_large_batch_comes_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixing.building.ingest.BLOCK_BYTES", 5_000)
    monkeypatch.setattr("mixing.building.ingest.SAMPLE_BYTES", 5_000)
    sizes: list[int] = []
    whole = readers.read_file
    monkeypatch.setattr(
        "mixing.building.ingest.read_file",
        lambda *a: (sizes.append(len(b.data)) or b for b in whole(*a)),
    )
    for name in ("parquet", "arrow stream", "csv"):
        file, write = FORMATS[name]
        write(tmp_path / file, [{"id": i, "text": "word " * 100} for i in range(400)])
        sizes.clear()
        report = build(tmp_path / name, a_source(tmp_path / file))
        assert report.documents_written == 400
        assert max(sizes) < 15_000, name
        assert len(sizes) > 10


def damaged(path: Path, group: int) -> None:
    """Bytes in the middle of the text of a row group are turned."""
    metadata = pq.ParquetFile(path).metadata
    names = [metadata.row_group(group).column(i).path_in_schema for i in range(3)]
    column = metadata.row_group(group).column(names.index("text"))
    data = bytearray(path.read_bytes())
    begin = column.dictionary_page_offset or column.data_page_offset
    for offset in range(begin + 60, begin + 100):
        data[offset] ^= 0x5A
    path.write_bytes(data)


def test_a_row_group_that_cannot_be_decoded_is_counted_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    good = [{"id": f"d{i}", "other": i, "text": f"word {i} " * 20} for i in range(100)]
    parquet(row_group_size=30, write_page_checksum=True)(path, good)
    damaged(path, 1)
    with pytest.raises(UserError, match="30 of 100 rows are bad"):
        build(tmp_path / "store", a_source(path))
    reader, report = built_from(path, tmp_path / "store", max_bad=0.3)
    assert report.dropped == {"damaged_row_group": 30}
    assert (report.documents_in, report.documents_written) == (100, 70)
    assert report.ledger_balanced
    (row,) = map(json.loads, Path(report.quarantine).read_text().splitlines())
    assert (row["line"], row["rows"], row["file"]) == (31, 30, str(path))
    assert "row group 1, rows 31 to 60" in row["excerpt"]
    assert {reader.provenance(i).line for i in range(70)} == {*range(1, 31), *range(61, 101)}


@pytest.mark.parametrize("seed", range(20))
def test_broken_arrow_files_never_end_the_process(seed: int, tmp_path: Path) -> None:
    """Random damage gives fewer documents or none, and a ledger that balances."""
    rng = random.Random(seed)
    name = rng.choice(["arrow stream", "arrow file", "parquet", "small row groups"])
    file, write = FORMATS[name]
    path = tmp_path / file
    write(path, rows())
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 10, 300])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
    try:
        report = build(tmp_path / "store", a_source(path, max_bad=1.0))
    except UserError:
        return  # nothing of it can be used
    assert report.ledger_balanced
    assert report.documents_written <= len(rows())
