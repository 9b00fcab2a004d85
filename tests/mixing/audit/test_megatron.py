"""Megatron's indexed datasets, read back from the description of the format alone."""

import json
import os
import struct
import subprocess
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingest_helpers import a_source, built, random_texts, write_texts
from places import ROOT
from tiny import tiny_recipe, write_recipe
from tokenizers import Tokenizer

from mixing.audit.megatron import export_source
from mixing.selection.exclude import Spans

TYPES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}
"""Megatron's codes of types."""


def read_documents(prefix: str) -> list[list[int]]:
    """The documents of <prefix>.bin by <prefix>.idx; nothing may be left over in either."""
    index = Path(f"{prefix}.idx").read_bytes()
    assert index[:9] == b"MMIDIDX\0\0"
    (version,) = struct.unpack_from("<Q", index, 9)
    (code,) = struct.unpack_from("<B", index, 17)
    sequences, documents = struct.unpack_from("<QQ", index, 18)
    assert version == 1
    at = 34
    lengths = struct.unpack_from(f"<{sequences}i", index, at)
    at += 4 * sequences
    pointers = struct.unpack_from(f"<{sequences}q", index, at)
    at += 8 * sequences
    firsts = struct.unpack_from(f"<{documents}q", index, at)
    assert at + 8 * documents == len(index)
    data, size = Path(f"{prefix}.bin").read_bytes(), np.dtype(TYPES[code]).itemsize
    assert sum(lengths) * size == len(data)
    parts = [
        np.frombuffer(data, TYPES[code], count, pointer).tolist()
        for count, pointer in zip(lengths, pointers, strict=True)
    ]
    assert firsts[0] == 0
    assert firsts[-1] == sequences
    return [list(chain(*parts[a:b])) for a, b in pairwise(firsts)]


@pytest.fixture
def tree(tiny: Path, tmp_path: Path) -> dict[str, Any]:
    """The tiny recipe with a duplicate, held-out documents and an eval item in its sources."""
    made = tiny_recipe(tiny, tmp_path)
    rows = [json.loads(line) for line in (tiny / "domain.jsonl").read_text().splitlines()]
    rows += [{"id": "copy", "text": rows[5]["text"]}, {"id": "leak", "text": leaking()}]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made["data"]["sources"][0] |= {"path": str(path), "heldout": "10%"}
    (tmp_path / "test.jsonl").write_text(json.dumps({"prompt": ITEM, "label": "x"}) + "\n")
    made["evals"] = {"domain": [{"name": "quote", "path": str(tmp_path / "test.jsonl")}]}
    made["data"] |= {"decontaminate": ["quote"], "max_contaminated": "5%"}
    return made


ITEM = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda"


def leaking() -> str:
    return f"stone river cloud {ITEM} x amber window paper"


def test_kept_documents_and_no_others(
    tree: dict[str, Any], tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tree)
    folder = tmp_path / "out/megatron"
    assert alloy("build", recipe).returncode == 0
    assert alloy("corpus", "erase", recipe, "--doc", "domain-9").returncode == 0
    done = alloy("corpus", "export", recipe, "--megatron", folder, "--json")
    assert done.returncode == 0, done.stderr
    told = {entry["source"]: entry for entry in json.loads(done.stdout)["sources"]}
    assert sorted(p.name for p in folder.iterdir()) == ["own.bin", "own.idx", "web.bin", "web.idx"]
    tokenizer = Tokenizer.from_file(tree["data"]["tokenizer"])
    rows = [json.loads(line) for line in (tmp_path / "own.jsonl").read_text().splitlines()]
    by_ids = {(*tokenizer.encode(row["text"]).ids, 0): row["id"] for row in reversed(rows)}
    found = read_documents(told["own"]["prefix"])
    assert len(found) == told["own"]["documents"]
    assert sum(map(len, found)) == told["own"]["tokens"]
    names = [by_ids.get(tuple(ids)) for ids in found]
    parts = [tokenizer.decode(found[i]) for i, name in enumerate(names) if name is None]
    assert [p.replace("<|endoftext|>", "").split() for p in parts] == [
        ["stone", "river", "cloud"],
        ["amber", "window", "paper"],
    ]
    whole = [name for name in names if name is not None]
    assert len(whole) == len(set(whole))
    assert not {"copy", "domain-9", "leak"} & set(whole)
    assert whole == sorted(whole, key=lambda name: int(name.split("-")[1]))
    assert 120 - 30 < len(whole) < 120
    receipt = json.loads(alloy("corpus", "verify", recipe, "--json").stdout)
    assert receipt["erased_documents"]["own"] == 1


def read_by_megatron_core(prefix: str) -> list[list[int]]:
    """The documents as Megatron-core's own IndexedDataset has them; a skip without it."""
    python, script = ROOT / ".venv-peers/bin/python", ROOT / "benchmarks/peers/read_megatron.py"
    if not python.exists():
        pytest.skip("no megatron-core: benchmarks/peers.sh installs it")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-P", script, prefix], capture_output=True, env=environment, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(map(len, found["documents"])) == found["sequence_lengths"]
    return found["documents"]


def test_megatron_core_reads_the_same(tmp_path: Path) -> None:
    source = a_source(write_texts(tmp_path / "a.jsonl", random_texts(3, 50)))
    reader = built(tmp_path / "store", source)
    whole = Spans(np.arange(reader.documents), np.zeros(reader.documents, np.int64), reader.lengths)
    prefix = export_source(reader, whole, tmp_path / "two").prefix
    expected = [reader.tokens(document).tolist() for document in range(reader.documents)]
    assert read_by_megatron_core(prefix) == read_documents(prefix) == expected
    reader.token_dtype = np.dtype("<u4")
    reader.tokens = lambda d, s=0, n=None: np.arange(s, s + n, dtype="<u4") + 70_000 * (d + 1)
    prefix = export_source(reader, whole, tmp_path / "four").prefix
    found = read_by_megatron_core(prefix)
    assert found == read_documents(prefix)
    assert found[2][0] == 210_000


def test_two_and_four_bytes_an_id(tmp_path: Path) -> None:
    reader = built(
        tmp_path / "store", a_source(write_texts(tmp_path / "a.jsonl", random_texts(3, 50)))
    )
    spans = Spans(np.array([0, 3, 3, 49]), np.array([0, 0, 2, 1]), np.array([2, 1, 1, 1]))
    expected = [
        reader.tokens(d, s, n).tolist()
        for d, s, n in zip(spans.document, spans.start, spans.length, strict=True)
    ]
    assert read_documents(export_source(reader, spans, tmp_path / "two").prefix) == expected
    reader.token_dtype = np.dtype("<u4")
    reader.tokens = lambda d, s=0, n=None: np.arange(s, s + n, dtype="<u4") + 70_000 * (d + 1)
    expected = [
        (np.arange(s, s + n) + 70_000 * (d + 1)).tolist()
        for d, s, n in zip(spans.document, spans.start, spans.length, strict=True)
    ]
    assert read_documents(export_source(reader, spans, tmp_path / "four").prefix) == expected
    none = Spans(*np.zeros((3, 0), np.int64))
    assert read_documents(export_source(reader, none, tmp_path / "four").prefix) == []
