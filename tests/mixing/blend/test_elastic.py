"""What a run reads does not depend on ranks, micro batches, kills, or on what comes later.

Loaders of three kinds take the same two examinations: Alloy's passes both, one that draws at
random fails the first, and one with Megatron's global index fails the second.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pytest
from memory_corpus import MemoryCorpus, corpus

from mixing.blend.plan import PhaseAsk, Plan, compile_phases
from mixing.blend.seek import Order
from pretrain.training.steps import micro_batches

SEQ = 64
BATCH_ROWS = 12
Span = tuple[str, int, int, int]
"""Source, document, first token, tokens."""
Asks = Sequence[tuple[str, int, dict[str, float]]]
"""Name, steps and shares of each phase."""

MIX = {"law": 0.71, "tickets": 0.09, "web": 0.2}
RUN: Asks = [("stable", 14, MIX), ("anneal", 9, {"law": 0.4, "tickets": 0.3, "web": 0.3})]


def made() -> MemoryCorpus:
    rng = np.random.default_rng(5)
    return corpus(
        {
            "law": ("domain", rng.integers(1, 300, 60)),
            "tickets": ("domain", rng.integers(1, 9, 300)),
            "web": ("general", rng.integers(20, 500, 80)),
            "math": ("general", rng.integers(20, 90, 40)),
        },
        SEQ,
    )


SOURCES = made()


def plan_of(asks: Asks) -> Plan:
    return compile_phases(
        SOURCES.sources,
        [PhaseAsk(name, steps, shares) for name, steps, shares in asks],
        seq_len=SEQ,
        batch_rows=BATCH_ROWS,
        seed=3,
        unit="supervised_tokens",
    )


def spans(source: str, row: int) -> list[Span]:
    packed = SOURCES.packed[source]
    pieces = range(packed.row_starts[row], packed.row_starts[row + 1])
    columns = (packed.document, packed.start, packed.length)
    return [(source, *(int(c[i]) for c in columns)) for i in pieces]


class Loader(Protocol):
    """One rank's loader. It is made anew at every start, knowing the steps that are done."""

    def rows(self, positions: list[int | None]) -> list[list[Span]]:
        """Of one micro batch; None is an empty row."""
        ...


MakeLoader = Callable[[Asks, int, int, int], Loader]
"""From phases, steps that are done, rank and ranks."""


class Planned:
    """Alloy's: the position decides. A start takes the plan from JSON, as a rank does."""

    def __init__(self, asks: Asks, done: int, rank: int, ranks: int) -> None:
        del done, rank, ranks
        plan = Plan.from_json(plan_of(asks).to_json())
        self._order, self._names = Order(plan), [source.name for source in plan.sources]

    def rows(self, positions: list[int | None]) -> list[list[Span]]:
        found = [None if p is None else self._order.locate(p) for p in positions]
        return [[] if w is None else spans(self._names[w.source], w.row) for w in found]


class Drawn:
    """Independent draws by weight from a generator of each rank's own, as `datasets` and litData
    interleave; a start draws again what was drawn before."""

    def __init__(self, asks: Asks, done: int, rank: int, ranks: int) -> None:
        self._rng = random.Random(f"3-{rank}")
        self._shares = [shares for _, steps, shares in asks for _ in range(steps * BATCH_ROWS)]
        for _ in range(done * -(-BATCH_ROWS // ranks)):
            self._draw(0)

    def _draw(self, position: int) -> list[Span]:
        shares = self._shares[position]
        source = self._rng.choices(list(shares), list(shares.values()))[0]
        return spans(source, self._rng.randrange(SOURCES.packed[source].rows))

    def rows(self, positions: list[int | None]) -> list[list[Span]]:
        return [[] if p is None else self._draw(p) for p in positions]


class Indexed:
    """Megatron's: an index over the whole run, blended greedily and shuffled by source, both of
    which depend on how long the run is."""

    def __init__(self, asks: Asks, done: int, rank: int, ranks: int) -> None:
        del done, rank, ranks
        total = sum(steps for _, steps, _ in asks) * BATCH_ROWS
        share = {
            name: sum(steps * shares.get(name, 0) for _, steps, shares in asks) * BATCH_ROWS / total
            for name in sorted({name for *_, shares in asks for name in shares})
        }
        rng = np.random.RandomState(3)
        shuffled = {}
        for name in share:
            rows = SOURCES.packed[name].rows
            epochs = -(-int(np.ceil(total * share[name]) + 2) // rows)
            shuffled[name] = rng.permutation(np.tile(np.arange(rows), epochs))
        come = dict.fromkeys(share, 0)
        self._rows = []
        for slot in range(total):
            name = max(share, key=lambda n: max(slot, 1) * share[n] - come[n])
            self._rows.append((name, int(shuffled[name][come[name]])))
            come[name] += 1

    def rows(self, positions: list[int | None]) -> list[list[Span]]:
        return [[] if p is None else spans(*self._rows[p]) for p in positions]


@dataclass(frozen=True)
class Start:
    """One start of a run: it goes on until a kill, at so many steps in all."""

    ranks: int
    micro_batch_rows: int
    until: int


def trained(make: MakeLoader, asks: Asks, starts: Sequence[Start]) -> list[list[Span]]:
    """The rows that a run really read, by position, over all its starts.

    A kill loses what came after the last checkpoint, which is read again: the run's order is that
    of the steps that count, each of which is applied once.
    """
    read: dict[int, list[Span]] = {}
    done = 0
    for start in starts:
        loaders = [make(asks, done, rank, start.ranks) for rank in range(start.ranks)]
        for step in range(done, start.until):
            for rank, loader in enumerate(loaders):
                first = step * BATCH_ROWS
                batches = micro_batches(
                    first, BATCH_ROWS, rank, start.ranks, start.micro_batch_rows
                )
                for batch in batches:
                    for position, row in zip(batch, loader.rows(batch), strict=True):
                        if position is not None:
                            read[position] = row
        done = max(done, start.until - start.until % 3)  # a checkpoint every third step
    assert sorted(read) == list(range(len(read)))
    return [read[position] for position in range(len(read))]


STEPS = sum(steps for _, steps, _ in RUN)


def elastic(make: MakeLoader) -> None:
    """Any ranks, any micro batches, any kills: the same rows."""
    whole = trained(make, RUN, [Start(1, 4, STEPS)])
    for ranks in (1, 2, 3, 4):
        for micro in (1, 3, 5, 12):
            assert trained(make, RUN, [Start(ranks, micro, STEPS)]) == whole, (ranks, micro)
    rng = np.random.default_rng(0)
    for _ in range(40):
        kills = np.sort(rng.integers(1, STEPS, int(rng.integers(1, 5)))).tolist()
        starts = [
            Start(int(rng.integers(1, 5)), int(rng.integers(1, 9)), until)
            for until in [*kills, STEPS]
        ]
        assert trained(make, RUN, starts) == whole, starts


LATER: dict[str, tuple[Asks, int]] = {
    # what is changed: (the phases then, steps that must stay)
    "extended": ([RUN[0], ("anneal", 40, RUN[1][2])], STEPS),
    "re-weighted": ([RUN[0], ("anneal", 9, {"law": 0.1, "web": 0.9})], 14),
    "source added": (
        [RUN[0], ("anneal", 9, {"law": 0.4, "tickets": 0.2, "web": 0.3, "math": 0.1})],
        14,
    ),
    "phase added": ([*RUN, ("more", 8, {"math": 1.0})], STEPS),
}


def lasting(make: MakeLoader) -> None:
    """Whatever is decided later leaves what was read; sources go on where they stood."""
    whole = trained(make, RUN, [Start(2, 4, STEPS)])
    for change, (asks, steps) in LATER.items():
        more = sum(n for _, n, _ in asks)
        changed = trained(make, asks, [Start(2, 4, more)])
        assert changed[: steps * BATCH_ROWS] == whole[: steps * BATCH_ROWS], change
        resumed = (
            trained(make, RUN, [Start(3, 2, 12)])
            + trained(make, asks, [Start(1, 1, 12), Start(4, 5, more)])[12 * BATCH_ROWS :]
        )
        assert resumed == changed, change


def test_alloys_order_is_elastic_and_lasting() -> None:
    elastic(Planned)
    lasting(Planned)


def test_independent_draws_fail() -> None:
    with pytest.raises(AssertionError, match=r"\(2, |\(3, |\(4, |Start"):
        elastic(Drawn)


def test_a_global_index_of_the_run_fails() -> None:
    elastic(Indexed)  # ranks and kills it stands, as Megatron does
    with pytest.raises(AssertionError, match="extended"):
        lasting(Indexed)


@pytest.mark.parametrize("change", LATER)
def test_the_hash_of_the_past_says_the_same(change: str) -> None:
    asks, steps = LATER[change]
    before, after = plan_of(RUN), plan_of(asks)
    rows = steps * BATCH_ROWS
    for position in (0, 1, rows // 2, rows):
        assert before.past_hash(position) == after.past_hash(position)
    if rows < before.rows:
        assert before.past_hash(rows + 1) != after.past_hash(rows + 1)
    assert before.common_rows(after) == rows


def test_no_row_is_read_again_before_its_source_was_read_through() -> None:
    read: dict[str, list[Any]] = {}
    for row in trained(Planned, LATER["extended"][0], [Start(3, 2, 10), Start(2, 5, 54)]):
        read.setdefault(row[0][0], []).append(tuple(row))
    assert set(read) == set(MIX)
    for name, rows in read.items():
        size = SOURCES.packed[name].rows
        for epoch in range(0, len(rows), size):
            assert len(set(rows[epoch : epoch + size])) == len(rows[epoch : epoch + size])
