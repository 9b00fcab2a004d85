"""A build that is killed at any instant leaves a store that opens right, and ends the same.

Run as a script this file is the victim: it forks a child for each kill, so that one start of
Python pays for many of them.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
from ingest_helpers import a_data, a_source, build, file_bytes, random_texts, write_texts
from places import python_path
from small_tokenizer import small_tokenizer

from configs import Source
from mixing import publish
from mixing.building import build as build_module
from mixing.building import ingest
from mixing.building.build import find_source
from mixing.store import shards
from mixing.store.store import verify_source
from mixing.tokens import encode

SHARD_TOKENS = 1500
Wrapped = Callable[..., object]
NEVER = 10**9


class Dying:
    """A function that ends the process at its n-th call: before it, or amid a write."""

    def __init__(self, function: Wrapped, at_call: int) -> None:
        self.function = function
        self.at_call = at_call
        self.calls = 0

    def __call__(self, *arguments):
        self.calls += 1
        if self.calls == self.at_call:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.function(*arguments)


class DyingWrite(Dying):
    def __call__(self, file, data):
        if self.calls + 1 == self.at_call:
            file._file.write(bytes(data)[: len(data) // 2])
            file._file.flush()
        return super().__call__(file, data)


def arm(stage: str, at_call: int) -> Dying:
    match stage:
        case "tokenize":
            encode.encode_block = armed = Dying(encode.encode_block, at_call)
        case "shard write":
            armed = DyingWrite(shards.HashedFile.write, at_call)
            shards.HashedFile.write = lambda file, data: armed(file, data)
        case "fsync":
            os.fsync = armed = Dying(os.fsync, at_call)
        case "manifest":
            build_module.write_manifest = armed = Dying(build_module.write_manifest, at_call)
        case "rename":
            os.rename = armed = Dying(os.rename, at_call)
        case "after rename":
            publish.sync_folder = armed = Dying(publish.sync_folder, at_call)
        case _:
            raise ValueError(stage)
    return armed


def without_rename() -> None:
    """Sabotage: build in the final folder, as if no rename were needed."""
    real = build_module.building

    @contextmanager
    def in_place(store, key, progress):
        with real(store, key, progress):
            (store / key).mkdir(exist_ok=True)
            yield store / key

    build_module.building = in_place
    build_module.publish = lambda *_: None


def victim(folder: Path, stage: str, kills: int, sabotage: bool) -> dict[str, int]:
    """Kill a build in ``kills`` calls spread over those of the stage, checking after each."""
    ingest.BLOCK_BYTES = 4096
    source = a_source(write_texts(folder / "a.jsonl", random_texts(8, 300)))
    reference = build(folder / "reference", source, shard_tokens=SHARD_TOKENS)
    expected = file_bytes(folder / "reference" / reference.key)
    calls = os.waitstatus_to_exitcode(in_child(folder / "count", source, stage, NEVER, sabotage))
    confirmed = 0
    for kill in range(kills):
        store = folder / f"store-{kill}"
        status = in_child(store, source, stage, 1 + kill * calls // kills, sabotage)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        confirmed += 1
        data = a_data(store, source, shard_tokens=SHARD_TOKENS)
        key = find_source(source, data, small_tokenizer())
        assert key in (None, reference.key)
        assert key is None or verify_source(store, key) == []
        visible = [p.name for p in store.iterdir() if not p.name.startswith(".")]
        assert visible == ([] if key is None else [key]), visible
        again = build(store, source, shard_tokens=SHARD_TOKENS)
        assert again.reused == (key is not None)
        assert file_bytes(store / again.key) == expected
        assert verify_source(store, again.key) == []
        assert not list(store.glob(".building-*"))
    return {"confirmed": confirmed, "calls": calls}


def in_child(store: Path, source: Source, stage: str, at_call: int, sabotage: bool) -> int:
    """Wait status of a build in a child; where it lives on, its exit code counts the calls."""
    child = os.fork()
    if child == 0:
        if sabotage:
            without_rename()
        armed = arm(stage, at_call)
        build(store, source, shard_tokens=SHARD_TOKENS)
        os._exit(min(armed.calls, 255))
    return os.waitpid(child, 0)[1]


STAGES = ["tokenize", "shard write", "fsync", "manifest", "rename", "after rename"]


def run_victim(tmp_path: Path, stage: str, kills: int, sabotage: bool = False):
    command = [sys.executable, __file__, str(tmp_path), stage, str(kills), str(int(sabotage))]
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_build_leaves_nothing_wrong(tmp_path, stage):
    done = run_victim(tmp_path, stage, kills=4)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["confirmed"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_two_hundred_kills(tmp_path, stage):
    done = run_victim(tmp_path, stage, kills=34)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["confirmed"] == 34


@pytest.mark.parametrize("stage", ["shard write", "manifest"])
def test_without_the_rename_these_tests_fail(tmp_path, stage):
    done = run_victim(tmp_path, stage, kills=4, sabotage=True)
    assert done.returncode != 0
    assert "UserError" in done.stderr or "AssertionError" in done.stderr


if __name__ == "__main__":
    arguments = sys.argv[1:]
    result = victim(Path(arguments[0]), arguments[1], int(arguments[2]), arguments[3] == "1")
    print(json.dumps(result))
