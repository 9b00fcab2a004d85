"""Every format gives the same documents with their places, and says what it cannot read."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from format_files import FORMATS, jsonl, parquet
from ingest_helpers import a_data, a_source, build, random_texts
from small_tokenizer import small_tokenizer

from configs import Source, UserError
from mixing import readers
from mixing.build import find_source
from mixing.store import SourceReader, open_source, verify_source

NASTY = [
    'a "quoted" word, and a comma',
    "two\nlines",
    "dos\r\nlines\r\n",
    "tab\tbetween",
    "nul \0 inside",
    "\u00e9\U0001f600",
    '"',
    " , ",
    "\ufeffmarked",
]


def rows(seed: int = 1, count: int = 120) -> list[dict[str, Any]]:
    texts = [*random_texts(seed, count), *NASTY]
    return [{"id": f"d{i}", "other": i, "text": text} for i, text in enumerate(texts)]


def documents(reader: SourceReader) -> dict[str, list[int]]:
    """Ids of the tokens of every document, by its own id."""
    return {reader.provenance(i).id: reader.tokens(i).tolist() for i in range(reader.documents)}


def built_from(path: Path, store: Path, **options: Any) -> tuple[SourceReader, Any]:
    report = build(store, a_source(path, **options))
    return open_source(store, report.key), report


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_documents(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl(tmp_path / "first.jsonl", rows())
    expected, first = built_from(tmp_path / "first.jsonl", tmp_path / "store")
    file, write = FORMATS[name]
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / file, rows())
    monkeypatch.setattr("mixing.ingest.BLOCK_BYTES", 2000)
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
    monkeypatch.setattr("mixing.ingest.BLOCK_BYTES", 5_000)
    monkeypatch.setattr("mixing.ingest.SAMPLE_BYTES", 5_000)
    sizes: list[int] = []
    whole = readers.read_file
    monkeypatch.setattr(
        "mixing.ingest.read_file", lambda *a: (sizes.append(len(b.data)) or b for b in whole(*a))
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


@pytest.mark.parametrize("workers", [1, 2])
def test_take_of_the_hub_reads_no_more_than_it_needs(workers: int, hub: Path) -> None:
    report = hub_build(hub, workers, take=500)
    assert 500 <= report["tokens"] < 2500
    assert report["notes"]["files_not_read_to_their_end"] >= 2
    assert report["key"] == hub_build(hub, 1, take=500)["key"]


HUB_BUILD = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from ingest_helpers import build
from configs import AlloyError, Source
try:
    source = Source(name="s", role="domain", hub="org/words", **json.loads(sys.argv[2]))
    report = build(Path(sys.argv[1]), source, workers=int(sys.argv[3]))
    print(json.dumps(asdict(report)))
except AlloyError as error:
    print(json.dumps({"error": error.message}))
"""


def hub_build(hub: Path, workers: int = 1, store: str = "store", **options: Any) -> dict[str, Any]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": (hub / "endpoint").read_text(),
        "HF_HOME": str(hub / "home"),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]),
    }
    arguments = [str(hub / f"{store}{workers}"), json.dumps(options), str(workers)]
    done = subprocess.run(
        [sys.executable, "-c", HUB_BUILD, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def hub(tmp_path: Path, serve_hub: Callable[[Path], str]) -> Path:
    """A hub with one dataset: three files to train on, one to test."""
    data = tmp_path / "root/org/words/data"
    data.mkdir(parents=True)
    for part in range(3):
        name = f"train-{part:05d}-of-00003.parquet"
        parquet(row_group_size=20)(data / name, rows(part, 60))
    parquet()(data / "test-00000-of-00001.parquet", rows(9, 5))
    (tmp_path / "endpoint").write_text(serve_hub(tmp_path / "root"))
    return tmp_path


def test_a_dataset_of_the_hub_is_streamed(hub: Path) -> None:
    report = hub_build(hub)
    reader = open_source(hub / "store1", report["key"])
    assert report["documents_written"] == 3 * len(rows(0, 60))
    files = {Path(f["path"]).name: f for f in reader.manifest["inputs"]}
    assert set(files) == {f"train-{part:05d}-of-00003.parquet" for part in range(3)}
    expected = {}
    for part in range(3):
        jsonl(hub / f"{part}.jsonl", rows(part, 60))
        same, _ = built_from(hub / f"{part}.jsonl", hub / "local")
        for i in range(same.documents):
            expected[(part, same.provenance(i).line)] = same.tokens(i).tolist()
    for i in range(reader.documents):
        place = reader.provenance(i)
        part = int(Path(place.file).name.split("-")[1])
        assert place.file.startswith("hf://datasets/org/words@aaaa")
        assert reader.tokens(i).tolist() == expected[(part, place.line)]
    assert hub_build(hub, split="test")["documents_written"] == len(rows(9, 5))


def test_the_listing_is_remembered_and_only_a_build_asks(hub: Path) -> None:
    source = Source(name="s", role="domain", hub="org/words")
    data = a_data(hub / "store1", source)
    assert find_source(source, data, small_tokenizer()) is None
    key = hub_build(hub)["key"]
    assert find_source(source, data, small_tokenizer()) == key  # this process knows no such hub
    for path in (hub / "root/org/words/data").glob("train*"):
        path.unlink()
    assert hub_build(hub)["reused"]


def test_a_hub_that_fails_is_one_line_and_no_damaged_file(hub: Path) -> None:
    (hub / "root/org/fails").touch()
    found = hub_build(hub)
    assert "hf://datasets/org/words@" in found["error"]
    assert "403" in found["error"]
    assert not list((hub / "store1").glob("[!.]*"))
    assert "no split 'dev'" in hub_build(hub, split="dev")["error"]


def test_a_local_dataset_folder(tmp_path: Path) -> None:
    datasets.disable_progress_bars()
    (tmp_path / "repo/data").mkdir(parents=True)
    parquet()(tmp_path / "repo/data/train-0.parquet", rows())
    parquet()(tmp_path / "repo/data/test-0.parquet", rows(2, 3))
    whole = datasets.Dataset.from_list(rows())
    halves = datasets.DatasetDict({"train": whole, "test": whole.select(range(7))})
    halves.save_to_disk(tmp_path / "halves")
    whole.save_to_disk(tmp_path / "saved")
    whole.map(lambda _: {"text": "x"}, cache_file_name=str(tmp_path / "saved/cache-1.arrow"))
    jsonl(tmp_path / "a.jsonl", rows())
    expected, _ = built_from(tmp_path / "a.jsonl", tmp_path / "store")
    for name in ("repo", "halves", "saved"):
        source = Source(name="s", role="domain", hub=str(tmp_path / name))
        reader = open_source(tmp_path / "store", build(tmp_path / "store", source).key)
        assert documents(reader) == documents(expected), name
    for name, count in (("repo", 3 + len(NASTY)), ("halves", 7)):
        source = Source(name="s", role="domain", hub=str(tmp_path / name), split="test")
        assert build(tmp_path / "store", source).documents_written == count
    with pytest.raises(UserError, match="holds the splits train, test"):
        build(tmp_path / "store", a_source(tmp_path / "halves"))
    with pytest.raises(UserError, match="no split 'dev'"):
        build(
            tmp_path / "store",
            Source(name="s", role="domain", hub=str(tmp_path / "repo"), split="dev"),
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of path and hub"),
        ({"path": "x", "hub": "a/b"}, "exactly one of path and hub"),
        ({"path": "x", "revision": "v1"}, "revision goes with hub"),
        ({"path": "x", "split": "test"}, "split goes with hub"),
    ],
)
def test_a_source_has_one_origin(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Source(name="s", role="domain", **options)
    whole = Source(name="s", role="domain", path="x")
    assert Source.model_validate(whole.model_dump(mode="json")) == whole


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


MEMORY = """
import random, resource, sys
from pathlib import Path
from format_files import FORMATS
from ingest_helpers import a_source, build
name, megabytes, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
file, write = FORMATS[name]
if len(sys.argv) == 5:
    rng, words = random.Random(0), ["court", "may", "the", "of", "and", "1999", "section", "act"]
    many = [" ".join(rng.choices(words, k=900)) for _ in range(megabytes * 250)]
    write(folder / file, [{"id": i, "text": text} for i, text in enumerate(many)])
else:
    report = build(folder / "store", a_source(folder / file))
    assert report.documents_written == megabytes * 250
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parquet", "arrow stream", "csv", "tsv.zst"])
def test_memory_does_not_grow_with_the_file(name: str, tmp_path: Path) -> None:
    """One row group as large as the file; peak resident memory of a build in one process."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    peaks = []
    for megabytes in (40, 160):
        folder = tmp_path / str(megabytes)
        folder.mkdir()
        for extra in (["write"], []):
            done = subprocess.run(
                [sys.executable, "-c", MEMORY, name, str(megabytes), str(folder), *extra],
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                check=True,
            )
        peaks.append(float(done.stdout))
    print(name, peaks)
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 600
