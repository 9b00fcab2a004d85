"""Packed rows from disk are those of packing; anything else is packed anew."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_corpus import whole_documents

from mixing import packed_store
from mixing.pack import PackedRows, pack
from mixing.packed_store import FOLDER, stored_rows

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


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    from memory_corpus import whole_documents
    from mixing import packed_store

    calls, at = 0, int(sys.argv[2])
    def dying(real):
        def step(*arguments):
            global calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)
        return step
    for name in ("fsync", "replace"):
        setattr(os, name, dying(getattr(os, name)))
    packed_store._content = dying(packed_store._content)
    spans = whole_documents(np.random.default_rng(0).integers(1, 200, 500))
    packed_store.stored_rows(Path(sys.argv[1]), "k", spans, 64, "best_fit")
"""


@pytest.mark.parametrize("step", range(1, 6))
def test_killed_while_writing(step: int, tmp_path: Path, packings: list[int]) -> None:
    """Before the content, the file's fsync, the rename, the folder's fsync, and not at all."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(step)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])},
        check=False,
    )
    assert done.returncode == (0 if step == 5 else -signal.SIGKILL)
    assert same(stored_rows(tmp_path, "k", SPANS, 64, "best_fit"), pack(SPANS, 64, "best_fit"))
    assert packings == ([64] if step < 4 else [])
