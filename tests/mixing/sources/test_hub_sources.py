"""Datasets of the hub, streamed from a server that stands for it, and datasets in folders."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from format_files import NASTY, built_from, documents, jsonl, parquet, rows
from ingest_helpers import a_data, a_source, build
from places import python_path
from small_tokenizer import small_tokenizer

from configs import Source, UserError
from mixing.building.build import find_source
from mixing.store.store import open_source

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
        "PYTHONPATH": python_path(),
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


@pytest.mark.parametrize("workers", [1, 2])
def test_take_of_the_hub_reads_no_more_than_it_needs(workers: int, hub: Path) -> None:
    report = hub_build(hub, workers, take=500)
    assert 500 <= report["tokens"] < 2500
    assert report["notes"]["files_not_read_to_their_end"] >= 2
    assert report["key"] == hub_build(hub, 1, take=500)["key"]


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
