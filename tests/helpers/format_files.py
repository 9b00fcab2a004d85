"""The same rows as files of every format, and what a build makes of them."""

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from ingest_helpers import a_source, build, random_texts

from mixing.store.store import SourceReader, open_source

Rows = Sequence[dict[str, Any]]


def table(rows: Rows) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def jsonl(path: Path, rows: Rows) -> None:
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def separated(delimiter: str, line_end: str = "\n") -> Callable[[Path, Rows], None]:
    def write(path: Path, rows: Rows) -> None:
        names = list(dict.fromkeys(name for row in rows for name in row))
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end)
            writer.writerow(names)
            writer.writerows([row.get(name) for name in names] for row in rows)

    return write


def parquet(**options: Any) -> Callable[[Path, Rows], None]:
    def write(path: Path, rows: Rows) -> None:
        pq.write_table(table(rows), path, **options)

    return write


def arrow(open_writer: Callable[..., Any], batch_rows: int) -> Callable[[Path, Rows], None]:
    def write(path: Path, rows: Rows) -> None:
        whole = table(rows)
        with pa.OSFile(str(path), "wb") as sink, open_writer(sink, whole.schema) as writer:
            writer.write_table(whole, max_chunksize=batch_rows)

    return write


def packed(
    write: Callable[[Path, Rows], None], pack: Callable[[bytes], bytes]
) -> Callable[[Path, Rows], None]:
    def write_packed(path: Path, rows: Rows) -> None:
        write(path, rows)
        path.write_bytes(pack(path.read_bytes()))

    return write_packed


def saved_dataset(path: Path, rows: Rows) -> None:
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(list(rows)).save_to_disk(path, num_shards=2)


FORMATS: dict[str, tuple[str, Callable[[Path, Rows], None]]] = {
    "jsonl": ("a.jsonl", jsonl),
    "parquet": ("a.parquet", parquet()),
    "small row groups": ("a.parquet", parquet(row_group_size=7, compression="zstd")),
    "arrow stream": ("a.arrow", arrow(pa.ipc.new_stream, 1000)),
    "small batches": ("a.arrow", arrow(pa.ipc.new_stream, 11)),
    "arrow file": ("a.arrow", arrow(pa.ipc.new_file, 13)),
    "csv": ("a.csv", separated(",")),
    "csv crlf": ("a.csv", separated(",", "\r\n")),
    "csv.gz": ("a.csv.gz", packed(separated(","), gzip.compress)),
    "tsv": ("a.tsv", separated("\t")),
    "tsv.zst": ("a.tsv.zst", packed(separated("\t"), zstandard.compress)),
    "dataset": ("saved", saved_dataset),
}

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
