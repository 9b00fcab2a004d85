"""A folder with every defect that rows and files of JSON can have, in one build."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from ingest_helpers import a_source, build, stored_texts, write_jsonl
from small_tokenizer import EOS

from mixing.store.store import open_source, verify_source

MOST_BYTES = 30_000
GOOD = ["plain", "crlf\r\nlines\r\n", "nul \0 inside", f"a {EOS} b {EOS}", "\u00e9\U0001f600"]
MANY = [f"packed {i}" for i in range(400)]
ROWS: list[tuple[Any, str | None]] = [
    (b"\xef\xbb\xbf" + json.dumps({"text": GOOD[0], "id": "same"}).encode(), None),
    ({"text": GOOD[1], "id": "same"}, None),
    ({"text": "\ufeff" + GOOD[2], "id": 7}, None),
    (b"", None),
    (b"   \r", None),
    ({"text": GOOD[3], "id": [1]}, None),
    ({"text": GOOD[4]}, None),
    (b'{"text": "bad \xff utf8"}', "bad_utf8"),
    (b"\x00\x01\x02", "bad_json"),
    (b"{'text': 1}", "bad_json"),
    ([1], "not_an_object"),
    ({"body": "none"}, "no_text"),
    ({"text": None}, "no_text"),
    ({"text": 3.5}, "text_not_a_string"),
    ({"text": ""}, "empty_text"),
    ({"text": " \n "}, "empty_text"),
    (b'{"text": "\\ud800"}', "lone_surrogate"),
    ({"text": "w" * (MOST_BYTES + 1)}, "over_max_doc_bytes"),
]
"""Each with the reason for which it is dropped; blank lines are no rows."""
ROW_DEFECTS = {line: reason for line, (_, reason) in enumerate(ROWS, 1) if reason}
FILES = {
    "empty.jsonl": b"",
    "empty.jsonl.gz": gzip.compress(b""),
    "last.jsonl.zst": zstandard.compress(
        b"\n".join(json.dumps({"text": text}).encode() for text in MANY)
    ),
    "cut.jsonl.zst": zstandard.compress(json.dumps({"text": "a"}).encode())[:-4],
    "cut.jsonl.gz": gzip.compress(json.dumps({"text": "b"}).encode())[:-9],
    "rubbish.jsonl.zst": b"this is not zstandard",
    "notes.txt": b"not a corpus",
}
FILE_DEFECTS = ["truncated_zst", "truncated_gz", "damaged_zst"]
NOTES = {
    "bom_stripped": 1,
    "file_bom_stripped": 1,
    "crlf_documents": 1,
    "nul_documents": 1,
    "special_like_strings": 2,
    "unusable_ids": 1,
    "documents_without_id": 402,
    "duplicate_ids": 1,
    "empty_files": 1,
    "other_files_in_folders": 1,
}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_defect_is_counted_and_the_rest_is_stored(tmp_path: Path, workers: int) -> None:
    write_jsonl(tmp_path / "in/rows.jsonl", [row for row, _ in ROWS])
    for name, content in FILES.items():
        (tmp_path / "in" / name).write_bytes(content)
    source = a_source(tmp_path / "in", max_bad=0.5, max_doc_bytes=MOST_BYTES)
    report = build(tmp_path / "store", source, workers=workers)
    reasons = [*ROW_DEFECTS.values(), *FILE_DEFECTS]
    assert report.dropped == {reason: reasons.count(reason) for reason in reasons}
    assert report.notes == NOTES
    assert report.documents_written == len(GOOD) + len(MANY)
    assert report.documents_in == report.documents_written + len(reasons)
    assert report.ledger_balanced
    reader = open_source(tmp_path / "store", report.key)
    assert sorted(stored_texts(reader)) == sorted([*GOOD, *MANY])
    assert {1, 2, 3, 6, 7} <= {reader.provenance(i).line for i in range(reader.documents)}
    quarantine = [json.loads(row) for row in Path(report.quarantine).read_text().splitlines()]
    assert len(quarantine) == len(reasons)
    assert {row["source"] for row in quarantine} == {"s"}
    assert all(Path(row["file"]).exists() for row in quarantine)
    by_line = {row["line"]: row["reason"] for row in quarantine if "rows" in row["file"]}
    assert by_line == ROW_DEFECTS
    assert verify_source(tmp_path / "store", report.key) == []
