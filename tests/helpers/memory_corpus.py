"""Sources that live in memory, for tests of everything behind the store."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from configs import Data, Mix, Schedule
from mixing.blend.plan import Plan, PlanSource, compile_plan, plan_source
from mixing.blend.rows import RowReader
from mixing.packing.pack import PackedRows, pack

PAD = 999


@dataclass(frozen=True)
class Spans:
    document: np.ndarray
    start: np.ndarray
    length: np.ndarray


class MemorySource:
    """A SourceReader over a list of id arrays."""

    def __init__(self, name: str, documents: list[np.ndarray]) -> None:
        self.key = f"key-of-{name}"
        self.name = name
        self.documents = documents
        self.lengths = np.array([len(d) for d in documents], np.int64)

    def tokens(self, document: int, start: int = 0, length: int | None = None) -> np.ndarray:
        end = None if length is None else start + length
        return self.documents[document][start:end]


@dataclass(frozen=True)
class MemoryCorpus:
    readers: dict[str, MemorySource]
    packed: dict[str, PackedRows]
    sources: list[PlanSource]

    def reader(self, plan: Plan) -> RowReader:
        return RowReader(plan, self.readers, self.packed, PAD)


def whole_documents(lengths: Any) -> Spans:
    lengths = np.asarray(lengths, np.int64)
    return Spans(np.arange(len(lengths)), np.zeros(len(lengths), np.int64), lengths)


def corpus(
    documents: dict[str, tuple[str, Any]],
    seq_len: int,
    max_epochs: float = 1e9,
    packing: Any = "best_fit",
) -> MemoryCorpus:
    """``documents``: name to (role, document lengths). Every token of a source is distinct."""
    readers, packed, sources = {}, {}, []
    for name, (role, lengths) in documents.items():
        ends = np.cumsum(lengths) + 1000
        spans = zip(ends, lengths, strict=True)
        ids = [np.arange(end - n, end, dtype=np.uint32) for end, n in spans]
        readers[name] = MemorySource(name, ids)
        packed[name] = pack(whole_documents(lengths), seq_len, packing)
        sources.append(plan_source(name, role, max_epochs, readers[name].key, packed[name]))
    return MemoryCorpus(readers, packed, sources)


def data(seq_len: int, seed: int = 0) -> Data:
    """Settings of the rows; the sources of a plan come from the corpus, not from here."""
    unused = [{"name": "x", "role": "domain", "path": "x"}]
    return Data.model_validate({"seq_len": seq_len, "seed": seed, "sources": unused})


def schedule(**fields: Any) -> Schedule:
    return Schedule.model_validate({"peak_lr": 1e-3, "warmup": 0, "anneal": 0, **fields})


def plan_of(
    made: MemoryCorpus, seq_len: int, mix: dict[str, Any], seed: int = 0, **fields: Any
) -> Plan:
    return compile_plan(
        made.sources, data(seq_len, seed), Mix.model_validate(mix), schedule(**fields)
    )
