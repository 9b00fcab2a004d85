"""What may happen while a source is built: other processes, files that change, a full disk."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ingest_helpers import a_source, build, file_bytes, random_texts, write_texts
from places import python_path

from configs import UserError
from mixing.building import ingest as ingest_module
from mixing.store.shards import HashedFile


def test_number_of_processes_does_not_change_a_byte(tmp_path):
    for part in range(3):
        write_texts(tmp_path / "in" / f"{part}.jsonl", random_texts(part, 3000), f"p{part}-")
    source = a_source(tmp_path / "in")
    one = build(tmp_path / "one", source, workers=1, shard_tokens=40_000)
    two = build(tmp_path / "two", source, workers=2, shard_tokens=40_000)
    assert one.key == two.key
    assert one.shards > 3
    one_folder, two_folder = tmp_path / "one" / one.key, tmp_path / "two" / two.key
    assert file_bytes(one_folder) == file_bytes(two_folder)
    assert (one_folder / "manifest.json").read_bytes() == (
        two_folder / "manifest.json"
    ).read_bytes()


def test_a_file_that_changes_meanwhile_is_refused(tmp_path, monkeypatch):
    path = write_texts(tmp_path / "a.jsonl", random_texts(1, 50))
    sample = ingest_module.sample_texts

    def sample_then_change(files, rows):
        texts = sample(files, rows)
        path.write_bytes(path.read_bytes() + b'{"text": "late"}\n')
        return texts

    monkeypatch.setattr("mixing.building.build.sample_texts", sample_then_change)
    with pytest.raises(UserError, match="changed while it was read"):
        build(tmp_path / "store", a_source(path))
    assert not list((tmp_path / "store").glob("[!.]*"))
    assert not list((tmp_path / "store").glob(".building-*"))


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    path = write_texts(tmp_path / "a.jsonl", random_texts(1, 50))
    write = HashedFile.write

    def full(self, data):
        if self.bytes + len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, data)

    monkeypatch.setattr(HashedFile, "write", full)
    with pytest.raises(UserError, match="no space left"):
        build(tmp_path / "store", a_source(path))
    assert not list((tmp_path / "store").glob("[!.]*"))
    assert not list((tmp_path / "store").glob(".building-*"))


def die(_task) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_line(tmp_path, monkeypatch):
    path = write_texts(tmp_path / "a.jsonl", random_texts(1, 50))
    monkeypatch.setattr("mixing.tokens.encode._encode_in_worker", die)
    with pytest.raises(UserError, match="was killed") as error:
        build(tmp_path / "store", a_source(path), workers=2)
    assert "fewer than 2" in error.value.hint
    assert not list((tmp_path / "store").glob("[!.]*"))


def test_workers_end_with_a_killed_parent(tmp_path):
    fifo = tmp_path / "endless.jsonl"
    os.mkfifo(fifo)  # a build that waits for its input for ever
    script = (
        "import sys; from small_tokenizer import small_tokenizer\n"
        "from mixing.tokens.encode import Workers\n"
        "with Workers(small_tokenizer(), 2) as pool:\n"
        "    print(pool.choose(['the court'])[0], flush=True)\n"
        f"    open({str(fifo)!r}).read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"gigatoken\n"
    processes = [p for p in Path("/proc").iterdir() if p.name.isdigit()]
    in_session = [p for p in processes if session_of(p) == parent.pid]
    assert len(in_session) >= 3
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while left := [p for p in in_session if session_of(p) == parent.pid]:
        if time.monotonic() > deadline:
            for process in left:
                os.kill(int(process.name), signal.SIGKILL)
            pytest.fail("workers live on without their parent")
        time.sleep(0.05)


def session_of(process: Path) -> int | None:
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[3])
