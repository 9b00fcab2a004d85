"""A built source is complete or absent, and any damage to it is found and named."""

import multiprocessing
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ingest_helpers import (
    a_data,
    a_source,
    build,
    built,
    file_bytes,
    random_texts,
    write_texts,
)
from small_tokenizer import small_tokenizer

from configs import UserError
from mixing.building.build import find_source
from mixing.publish import building, locked, publish
from mixing.store.erasures import Erasure, add_erasures, load_erasures
from mixing.store.shards import MANIFEST
from mixing.store.store import open_source, verify_source


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("pristine")
    # Numbers of three digits: documents, and so shards, of equal size and other content.
    texts = [f"the court may {i} " * 10 for i in range(100, 160)] + random_texts(2, 60)
    path = write_texts(folder / "a.jsonl", texts)
    return folder / "store", build(folder / "store", a_source(path), shard_tokens=500).key


@pytest.fixture
def copy(pristine, tmp_path) -> tuple[Path, str]:
    store, key = pristine
    shutil.copytree(store, tmp_path / "store")
    return tmp_path / "store", key


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << (at % 8)
    path.write_bytes(data)


def test_an_intact_source_verifies_and_lists_all_its_files(pristine):
    store, key = pristine
    assert verify_source(store, key) == []
    reader = open_source(store, key)
    on_disk = {p.name for p in reader.folder.iterdir()} - {MANIFEST}
    assert on_disk == set(reader.manifest["files"])
    assert sum(name.startswith("tokens-") for name in on_disk) > 5


def test_one_flipped_bit_anywhere_is_found_with_its_file(copy):
    store, key = copy
    rng = random.Random(5)
    for path in sorted((store / key).iterdir()):
        whole = path.read_bytes()
        for at in [] if not whole else {0, len(whole) - 1, rng.randrange(len(whole))}:
            flip(path, at)
            problems = verify_source(store, key)
            assert len(problems) == 1, (path.name, at)
            assert str(path) in problems[0]
            path.write_bytes(whole)
    assert verify_source(store, key) == []


def test_a_cut_or_longer_or_missing_file_is_found_at_opening(copy):
    store, key = copy
    for path in sorted((store / key).iterdir()):
        whole = path.read_bytes()
        for content in (whole[:-1], whole + b"\0", None):
            if content == whole:
                continue
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            with pytest.raises(UserError) as error:
                open_source(store, key)
            assert str(path) in error.value.message
            assert any(str(path) in problem for problem in verify_source(store, key))
            path.write_bytes(whole)
    assert open_source(store, key).documents == 120


def test_two_swapped_shards_are_found(copy):
    store, key = copy
    shards = sorted((store / key).glob("tokens-*"))
    pairs = [(a, b) for a in shards for b in shards if a < b and a.read_bytes() != b.read_bytes()]
    unequal = next((a, b) for a, b in pairs if a.stat().st_size != b.stat().st_size)
    equal = next((a, b) for a, b in pairs if a.stat().st_size == b.stat().st_size)
    swap(*unequal)
    with pytest.raises(UserError, match="tokens-"):
        open_source(store, key)
    swap(*unequal)
    swap(*equal)  # only hashes can tell
    open_source(store, key)
    assert {p.split(": ")[0] for p in verify_source(store, key)} == set(map(str, equal))
    swap(*equal)
    assert verify_source(store, key) == []


def swap(a: Path, b: Path) -> None:
    a.rename(a.with_suffix(".swap"))
    b.rename(a)
    a.with_suffix(".swap").rename(b)


def test_a_folder_under_a_wrong_key_or_with_strangers_is_found(copy):
    store, key = copy
    shutil.copytree(store / key, store / "other")
    with pytest.raises(UserError, match="belongs to"):
        open_source(store, "other")
    (store / key / "extra.bin").write_bytes(b"x")
    assert "extra.bin: not part" in verify_source(store, key)[0]
    with pytest.raises(UserError, match="missing"):
        open_source(store, "0" * 32)


def test_a_damaged_source_is_said_and_built_again(tmp_path):
    path = write_texts(tmp_path / "a.jsonl", random_texts(1, 60))
    source, store = a_source(path), tmp_path / "store"
    key = build(store, source).key
    before = file_bytes(store / key)
    (store / key / "tokens-00000.bin").write_bytes(b"short")
    with pytest.raises(UserError, match="5 bytes"):
        find_source(source, a_data(store, source), small_tokenizer())
    said: list[str] = []
    report = build(store, source, progress=said.append)
    assert not report.reused
    assert any("damaged" in line for line in said)
    assert file_bytes(store / key) == before
    assert not list(store.glob(".building-*"))


def test_views_are_read_only_and_in_the_smallest_type(pristine):
    reader = open_source(*pristine)
    tokens = reader.tokens(3)
    assert tokens.dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 1
    for document, start, length in ((-1, 0, 1), (120, 0, 1), (0, -1, 1), (0, 0, 10**6)):
        with pytest.raises(IndexError):
            reader.tokens(document, start, length)


def test_all_documents_in_a_row_are_all_tokens(pristine):
    store, key = pristine
    reader = open_source(store, key)
    joined = np.concatenate([reader.tokens(i) for i in range(reader.documents)])
    raw = b"".join(p.read_bytes() for p in sorted((store / key).glob("tokens-*")))
    assert joined.tobytes() == raw
    assert joined.size == reader.total_tokens == int(reader.lengths.sum())


def test_default_ids_name_file_and_line(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.jsonl").write_text(
        '{"text": "one"}\n\n{"text": "two", "id": "x.jsonl:1"}\n'
    )
    (tmp_path / "in" / "y.jsonl").write_text('{"text": "three"}\n{"text": "four"}\n')
    reader = built(tmp_path / "store", a_source(tmp_path / "in"))
    ids = [reader.provenance(i).id for i in range(4)]
    assert sorted(ids) == ["x.jsonl:1", "x.jsonl:1", "y.jsonl:1", "y.jsonl:2"]
    for wanted in ("x.jsonl:1", "y.jsonl:2"):
        assert reader.find_id(wanted) == [i for i, found in enumerate(ids) if found == wanted]
    assert reader.find_id("y.jsonl:3") == reader.find_id("z.jsonl:1") == []


def build_in_process(store: Path, path: Path, results) -> None:
    said: list[str] = []
    report = build(store, a_source(path), progress=said.append, shard_tokens=2000)
    results.put((report.key, report.reused, any("waiting" in line for line in said)))


def test_builds_at_once_on_one_store_do_not_clash(tmp_path):
    same = write_texts(tmp_path / "same.jsonl", random_texts(1, 4000))
    other = write_texts(tmp_path / "other.jsonl", random_texts(2, 4000))
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    arguments = [same, same, same, other]
    processes = [
        context.Process(target=build_in_process, args=(tmp_path / "store", path, results))
        for path in arguments
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    by_key: dict[str, list[bool]] = {}
    for key, reused, _ in found:
        by_key.setdefault(key, []).append(reused)
    assert sorted(sorted(reused) for reused in by_key.values()) == [[False], [False, True, True]]
    for key in by_key:
        assert verify_source(tmp_path / "store", key) == []
    assert not list((tmp_path / "store").glob(".building-*"))


def test_what_killed_builds_left_is_removed_but_living_builds_are_not(tmp_path):
    store = tmp_path
    (store / ".building-dead").mkdir()
    with building(store, "alive", print) as alive:
        assert not (store / ".building-dead").exists()
        (alive / "x").write_bytes(b"1")
        with building(store, "next", print):
            assert (alive / "x").exists()
    assert not list(store.glob(".building-*"))


def test_a_lock_is_waited_for_and_who_waits_is_told(tmp_path):
    told = []
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path, "key"):
            waiting = pool.submit(_hold, tmp_path, "key", told.append)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            assert told == ["waiting for another build of key"]
        waiting.result(timeout=10)


def test_erasures_added_at_once_are_all_kept(tmp_path):
    entry = Erasure("id", 1, 2, "file", 3)
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path, "erased"):
            waiting = pool.submit(add_erasures, tmp_path, [entry])
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            assert not load_erasures(tmp_path)
        assert waiting.result(timeout=10).entries == (entry,)
    assert load_erasures(tmp_path).entries == (entry,)


def _hold(store, key, progress):
    with locked(store, key, progress):
        pass


def test_publishing_is_one_rename(tmp_path):
    with building(tmp_path, "key", print) as folder:
        (folder / "x").write_bytes(b"1")
        assert not (tmp_path / "key").exists()
        publish(folder, tmp_path, "key")
    assert [p.name for p in (tmp_path / "key").iterdir()] == ["x"]
