"""Packed rows from disk are those of packing; anything else is packed anew."""

import fcntl
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_corpus import whole_documents

from mixing.packing import packed_store
from mixing.packing.pack import PackedRows, pack
from mixing.packing.packed_store import FOLDER, stored_rows

SPANS = whole_documents(np.random.default_rng(0).integers(1, 200, 500))


def same(a: PackedRows, b: PackedRows) -> bool:
    arrays = ("row_starts", "document", "start", "length")
    equal = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)
    return equal and a.seq_len == b.seq_len and a.hash == b.hash


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seq_len of every packing that was computed."""
    computed: list[int] = []

    def counted(spans: Any, seq_len: int, packing: Any) -> PackedRows:
        computed.append(seq_len)
        return pack(spans, seq_len, packing)

    monkeypatch.setattr(packed_store, "pack", counted)
    return computed


@pytest.mark.parametrize("packing", ["best_fit", "concat"])
def test_packed_once(packing: Any, tmp_path: Path, packings: list[int]) -> None:
    for _ in range(3):
        assert same(stored_rows(tmp_path, "k", SPANS, 64, packing), pack(SPANS, 64, packing))
    assert packings == [64]
    none = whole_documents([])
    for _ in range(2):
        assert stored_rows(tmp_path, "k", none, 64, packing).rows == 0
    assert packings == [64, 64]


def test_anything_that_decides_the_rows_packs_anew(tmp_path: Path, packings: list[int]) -> None:
    shifted = whole_documents(SPANS.length)
    shifted.start[7] = 1
    asks = [
        ("k", SPANS, 64, "best_fit"), ("other", SPANS, 64, "best_fit"),
        ("k", SPANS, 65, "best_fit"), ("k", SPANS, 64, "concat"), ("k", shifted, 64, "best_fit"),
    ]  # fmt: skip
    for key, spans, seq_len, packing in asks * 2:
        found = stored_rows(tmp_path, key, spans, seq_len, packing)  # pyright: ignore
        assert same(found, pack(spans, seq_len, packing))  # pyright: ignore
    assert len(packings) == 5


def test_a_damaged_file_is_packed_anew_and_replaced(tmp_path: Path, packings: list[int]) -> None:
    expected = stored_rows(tmp_path, "k", SPANS, 64, "best_fit")
    (path,) = (tmp_path / FOLDER).iterdir()
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    damaged = [whole[:-1], whole + b"\0", whole[:100], b"", whole[:256]]
    for place in [*range(0, 200, 7), *rng.integers(256, len(whole), 40).tolist()]:
        damaged.append(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    other = stored_rows(tmp_path / "other", "k", whole_documents([3, 4]), 64, "best_fit")
    damaged += [p.read_bytes() for p in (tmp_path / "other" / FOLDER).iterdir()]  # a swapped file
    packings.clear()
    for content in damaged:
        path.write_bytes(content)
        assert same(stored_rows(tmp_path, "k", SPANS, 64, "best_fit"), expected)
        assert path.read_bytes() == whole
    assert len(packings) == len(damaged)
    assert not same(other, expected)


def test_a_store_that_cannot_be_written(
    tmp_path: Path, packings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(packed_store.errno.EROFS, "read-only")

    monkeypatch.setattr(packed_store, "replace_file", refuse)
    for _ in range(2):
        found = stored_rows(tmp_path, "k", SPANS, 64, "best_fit")
        assert same(found, pack(SPANS, 64, "best_fit"))
    assert packings == [64, 64]

    def fail(*_: Any) -> None:
        raise OSError(packed_store.errno.EIO, "bad disk")

    monkeypatch.setattr(packed_store, "replace_file", fail)
    with pytest.raises(OSError, match="bad disk"):
        stored_rows(tmp_path, "k", SPANS, 64, "best_fit")


def test_what_a_killed_process_left_is_removed_and_what_is_being_written_is_not(
    tmp_path: Path,
) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "k-1.rows.123.tmp").write_bytes(b"left")
    with open(folder / "k-2.rows.124.tmp", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        stored_rows(tmp_path, "k", SPANS, 64, "best_fit")
        assert [path.name for path in folder.glob("*.tmp")] == ["k-2.rows.124.tmp"]
    stored_rows(tmp_path, "other", SPANS, 64, "best_fit")
    assert not list(folder.glob("*.tmp"))
