"""Small sources on disk, and what a build of them must be."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from small_tokenizer import WORDS, reference, small_tokenizer

from configs import Data, Source
from mixing.building.build import SourceReport, build_source
from mixing.store.shards import MANIFEST
from mixing.store.store import SourceReader, open_source


def random_texts(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    words = WORDS.split()
    return [" ".join(rng.choices(words, k=rng.choice([1, 3, 20, 200]))) for _ in range(count)]


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    """Rows that are bytes are written as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def write_texts(path: Path, texts: Iterable[str], prefix: str = "d") -> Path:
    return write_jsonl(path, ({"id": f"{prefix}{i}", "text": t} for i, t in enumerate(texts)))


def a_source(path: Path | str, name: str = "s", **options: Any) -> Source:
    return Source(name=name, role=options.pop("role", "domain"), path=str(path), **options)


def a_data(store: Path, *sources: Source, **options: Any) -> Data:
    return Data(store=str(store), sources=sources, **options)


def build(
    store: Path, source: Source, workers: int = 1, progress: Any = lambda _: None, **options: Any
) -> SourceReport:
    data = a_data(store, source, **options)
    return build_source(source, data, small_tokenizer(), workers, progress)


def built(store: Path, source: Source, **options: Any) -> SourceReader:
    return open_source(store, build(store, source, **options).key, source.name)


def file_bytes(folder: Path) -> dict[str, bytes]:
    """Everything in a built source except what names files and paths."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name not in (MANIFEST, "quarantine.jsonl")
    }


def stored_texts(reader: SourceReader) -> list[str]:
    backend = reference(small_tokenizer())
    rows = [reader.tokens(i).tolist() for i in range(reader.documents)]
    assert all(row[-1] == small_tokenizer().eos_id for row in rows)
    return [backend.decode(row[:-1], skip_special_tokens=False) for row in rows]
