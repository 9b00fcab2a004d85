"""Reading: every line arrives once with its number, whatever the file is cut or packed like."""

import gzip
import io
import json
import os
import random
import time
from pathlib import Path

import pytest
import zstandard

from configs import Source, UserError
from mixing.documents.documents import Row, RowOptions, parse_row
from mixing.ledger import BadRow
from mixing.sources.blocks import Block, HashingReader, read_blocks
from mixing.sources.inputs import find_files, fingerprint, hash_file

OPTIONS = RowOptions("text", "id", 1000)
SKIPPABLE = (0x184D2A50).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"hello"


def blocks_of(data: bytes, name: str, max_line_bytes: int = 1 << 20, block_bytes: int = 1000):
    stream = HashingReader(io.BytesIO(data))
    return list(read_blocks(stream, Path(name), max_line_bytes, block_bytes))


def lines_of(items) -> list[tuple[int, bytes]]:
    found = []
    for item in items:
        if isinstance(item, Block):
            lines = item.data.removesuffix(b"\n").split(b"\n")
            assert len(lines) == item.lines
            found += list(enumerate(lines, item.first_line))
    return found


def random_lines(rng: random.Random, count: int) -> list[bytes]:
    return [bytes(rng.choices(b"abc{}\\\"\r \xe2", k=rng.choice([0, 1, 9, 80, 3000])))
            for _ in range(count)]  # fmt: skip


def packings(data: bytes) -> dict[str, bytes]:
    half = len(data) // 2
    zst = zstandard.ZstdCompressor(write_checksum=True).compress
    stream = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(stream, closefd=False) as writer:
        writer.write(data)
    return {
        "plain.jsonl": data,
        "one.jsonl.zst": zst(data),
        "frames.jsonl.zst": zst(data[:half]) + SKIPPABLE + zst(data[half:]),
        "stream.jsonl.zst": stream.getvalue(),
        "one.jsonl.gz": gzip.compress(data),
        "members.jsonl.gz": gzip.compress(data[:half]) + gzip.compress(data[half:]) + b"\0" * 9,
    }


@pytest.mark.parametrize("seed", range(6))
def test_blocks_hold_every_line_once_in_every_packing(seed):
    rng = random.Random(seed)
    lines = random_lines(rng, 200)
    data = b"\n".join(lines) + (b"\n" if seed % 2 else b"x")
    expected = list(enumerate(data.removesuffix(b"\n").split(b"\n"), 1))
    for name, packed in packings(data).items():
        for block_bytes in (1, 50, 5000, 1 << 22):
            items = blocks_of(packed, name, block_bytes=block_bytes)
            assert lines_of(items) == expected, (name, block_bytes)
            assert not any(isinstance(item, BadRow) for item in items)


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.zst", "x.jsonl.gz"])
def test_empty_files_have_no_lines(name):
    assert blocks_of(b"", name) == []


@pytest.mark.parametrize("name", ["one.jsonl.zst", "stream.jsonl.zst", "one.jsonl.gz"])
def test_a_cut_file_gives_its_whole_lines_and_says_where_it_ends(name):
    rng = random.Random(3)
    whole = [b"%d %s" % (i, rng.randbytes(60).hex().encode()) for i in range(3000)]
    packed = packings(b"\n".join(whole) + b"\n")[name]
    for cut in [3, 5, 9, 40, len(packed) - 1, *rng.sample(range(50, len(packed)), 25)]:
        items = blocks_of(packed[:cut], name)
        got = lines_of(items)
        assert got == list(enumerate(whole[: len(got)], 1))
        (bad,) = [item for item in items if isinstance(item, BadRow)]
        assert items[-1] is bad
        assert bad.line == len(got) + 1
        assert bad.reason == ("truncated_gz" if name.endswith("gz") else "truncated_zst")


@pytest.mark.parametrize("name", ["one.jsonl.zst", "one.jsonl.gz"])
def test_damaged_bytes_are_reported(name):
    rng = random.Random(4)
    packed = packings(rng.randbytes(20_000).hex().encode() + b"\n")[name]
    for at in rng.sample(range(20, len(packed) - 10), 20):
        broken = packed[:at] + bytes([packed[at] ^ 0x55]) + packed[at + 1 :]
        bad = [item for item in blocks_of(broken, name) if isinstance(item, BadRow)]
        assert [row.reason.split("_")[0] for row in bad] in (["damaged"], ["truncated"])


def test_trailing_rubbish_after_a_frame_is_reported():
    data = b'{"text": "a"}\n' * 5
    for name in ("one.jsonl.zst", "one.jsonl.gz"):
        items = blocks_of(packings(data)[name] + b"rubbish rubbish", name)
        assert len(lines_of(items)) == 5
        assert items[-1].reason.startswith("damaged_")


def test_a_line_over_the_limit_is_dropped_in_bounded_memory_and_the_next_one_is_read():
    long = b"L" * 3_500_000
    data = b"one\n" + long + b"\ntwo\n" + long + b"\nthree"
    items = blocks_of(data, "x.jsonl", max_line_bytes=100_000)
    assert lines_of(items) == [(1, b"one"), (3, b"two"), (5, b"three")]
    bad = [item for item in items if isinstance(item, BadRow)]
    assert [(row.line, row.reason) for row in bad] == [
        (2, "over_max_line_bytes"),
        (4, "over_max_line_bytes"),
    ]


GOOD = {"text": "ok", "id": "a"}
ROWS = [
    (b'{"text": "ok", "id": "a"}', None),
    (b'  {"text": "ok"}\r', None),
    (b'{"text": "a\\ud83d\\ude00b"}', None),
    (b'{"text": "nul \\u0000"}', None),
    (json.dumps({"text": "deep", "meta": [[[]]]}).encode(), None),
    (b'{"text": "x", "meta": ' + b"[" * 300 + b"]" * 300 + b"}", None),
    (b'{"text": "x", "meta": ' + b"[" * 90_000 + b"]" * 90_000 + b"}", "bad_json"),
    (b'{"text": "x", "n": ' + b"9" * 5000 + b"}", "bad_json"),
    (b'{"text": "a\xffb"}', "bad_utf8"),
    (b'{"text": "\xed\xa0\x80"}', "bad_utf8"),
    (b"{'text': 'a'}", "bad_json"),
    (b'{"text": "a"', "bad_json"),
    (b'{"text": "a"} {"text": "b"}', "bad_json"),
    (b'{"text": "raw \x01"}', "bad_json"),
    (b"[1, 2]", "not_an_object"),
    (b'"text"', "not_an_object"),
    (b"null", "not_an_object"),
    (b'{"body": "a"}', "no_text"),
    (b'{"text": null}', "no_text"),
    (b'{"text": 5}', "text_not_a_string"),
    (b'{"text": ["a"]}', "text_not_a_string"),
    (b'{"text": ""}', "empty_text"),
    (b'{"text": " \\n\\t"}', "empty_text"),
    (b'{"text": "\\ufeff"}', "empty_text"),
    (b'{"text": "a\\ud800b"}', "lone_surrogate"),
    (b'{"text": "\\udc00"}', "lone_surrogate"),
    (json.dumps({"text": "e" * 1000}).encode(), None),
    (json.dumps({"text": "e" * 1001}).encode(), "over_max_doc_bytes"),
    (json.dumps({"text": "é" * 501}).encode(), "over_max_doc_bytes"),
]


@pytest.mark.parametrize(("line", "reason"), ROWS, ids=lambda v: repr(v)[:40])
def test_each_line_is_a_document_or_says_why_not(line, reason):
    row = parse_row(line, 7, OPTIONS)
    if reason is None:
        assert isinstance(row, Row)
        assert row.text == json.loads(line.decode())["text"]
        assert row.utf8 == row.text.encode()
    else:
        assert isinstance(row, BadRow)
        assert (row.line, row.reason) == (7, reason)
        assert json.loads(row.as_json("s", "f"))["reason"] == reason


@pytest.mark.parametrize(
    ("value", "expected", "odd"),
    [("a b", "a b", False), (12, "12", False), (None, None, False), ("", None, False),
     (True, None, True), (1.5, None, True), (["a"], None, True)],
)  # fmt: skip
def test_ids(value, expected, odd):
    row = parse_row(json.dumps({"text": "t", "id": value}).encode(), 1, OPTIONS)
    assert isinstance(row, Row)
    assert (row.id, row.odd_id) == (expected, odd)


def test_a_bom_is_taken_off_and_said():
    row = parse_row('{"text": "\ufefftext \ufeff"}'.encode(), 1, OPTIONS)
    assert isinstance(row, Row)
    assert (row.text, row.had_bom) == ("text \ufeff", True)


def source(*paths: object) -> Source:
    return Source(name="s", role="domain", path=tuple(map(str, paths)))


def test_globs_and_folders_find_each_file_once(tmp_path):
    for name in ("b.jsonl", "a.jsonl.zst", "deep/c.jsonl.gz", "readme.md", ".hidden/d.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    found = find_files(source(tmp_path, tmp_path / "*.jsonl", tmp_path / "b.jsonl"))
    names = [str(p.relative_to(tmp_path)) for p in found.paths]
    assert names == ["a.jsonl.zst", "b.jsonl", "deep/c.jsonl.gz"]
    assert (found.named_twice, found.other_files_in_folders) == (2, 1)


@pytest.mark.parametrize("path", ["nothing.jsonl", "*.jsonl", "empty", "notes.doc"])
def test_a_path_without_usable_files_is_named(tmp_path, path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.doc").write_text("x")
    with pytest.raises(UserError, match="source 's'") as error:
        find_files(source(tmp_path / path))
    assert path in error.value.message


def test_remembered_hashes_follow_the_file(tmp_path, monkeypatch):
    store, path = tmp_path / "store", tmp_path / "a.jsonl"
    path.write_bytes(b"one")
    os.utime(path, (1_000_000, 1_000_000))
    (first,) = fingerprint([path], store, print)
    assert first.xxh3_128 == hash_file(path)
    monkeypatch.setattr("mixing.sources.inputs.hash_file", lambda *_: pytest.fail("was remembered"))
    assert fingerprint([path], store, print) == (first,)
    monkeypatch.undo()
    path.write_bytes(b"two")
    (second,) = fingerprint([path], store, print)
    assert second.xxh3_128 == hash_file(path) != first.xxh3_128
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    fingerprint([path], store, print)
    path.write_bytes(b"six")  # written again within the clock's tick: must not be remembered
    os.utime(path, ns=(now, now))
    (third,) = fingerprint([path], store, print)
    assert third.xxh3_128 == hash_file(path) != second.xxh3_128
