"""Rows against a naive reading, seeking both ways, and what is known without reading."""

import numpy as np
import pytest
from memory_corpus import PAD, MemoryCorpus, corpus, plan_of

from configs import CheckFailed, UserError
from mixing.blend.plan import PhaseAsk, Plan, PlanSource, compile_phases
from mixing.blend.rows import Row, RowReader
from mixing.blend.seek import Order

SEQ = 48


def made(seed: int = 0, packing: str = "best_fit") -> MemoryCorpus:
    rng = np.random.default_rng(seed)
    return corpus(
        {
            "law": ("domain", rng.integers(1, 200, 60)),
            "tickets": ("domain", rng.integers(1, 9, 200)),
            "web": ("general", rng.integers(20, 150, 90)),
        },
        SEQ,
        packing=packing,
    )


def a_plan(source: MemoryCorpus, seed: int = 0) -> Plan:
    """Three phases of one period each: weights are odd, so periods are long."""
    return plan_of(
        source, SEQ, {"general": 0.4}, seed, tokens=SEQ * 620, batch_tokens=SEQ * 10,
        warmup=0.05, anneal=0.3, phases={"anneal": {"general": 0.7}},
    )  # fmt: skip


def naive_row(reader: RowReader, position: int) -> Row:
    """The same row, a token at a time."""
    where = reader.order.locate(position)
    packed = reader.packed[where.source]
    source = reader._readers[where.source]
    ids, labels, positions, segments, lengths = [], [], [], [], []
    first, end = packed.row_starts[where.row], packed.row_starts[where.row + 1]
    for segment, piece in enumerate(range(first, end)):
        tokens = source.documents[packed.document[piece]]  # type: ignore[attr-defined]
        start, length = int(packed.start[piece]), int(packed.length[piece])
        erased = packed.erased is not None and packed.erased[piece]
        lengths.append(length)
        for i in range(length):
            last = i == length - 1
            ids.append(PAD if erased else int(tokens[start + i]))
            labels.append(-100 if erased or last else int(tokens[start + i + 1]))
            positions.append(i)
            segments.append(-1 if erased else segment)
    padding = packed.seq_len - len(ids)
    return Row(
        np.array(ids + [PAD] * padding),
        np.array(labels + [-100] * padding),
        np.array(positions + list(range(padding))),
        np.array(segments + [-1] * padding),
        np.array(lengths),
        where.source,
    )


def assert_same(row: Row, naive: Row) -> None:
    for name in ("input_ids", "labels", "position_ids", "segments", "document_lengths"):
        assert np.array_equal(getattr(row, name), getattr(naive, name)), name
    assert row.source == naive.source


@pytest.mark.parametrize("packing", ["best_fit", "concat"])
def test_rows_are_what_a_naive_reading_gives(packing: str) -> None:
    source = made(packing=packing)
    plan = a_plan(source)
    reader = source.reader(plan)
    for position in range(plan.rows):
        assert_same(reader.row(position), naive_row(reader, position))


def test_dtypes_and_shapes() -> None:
    source = made()
    row = source.reader(a_plan(source)).row(3)
    arrays = (row.input_ids, row.labels, row.position_ids, row.segments)
    assert [a.dtype for a in arrays] == [np.int64, np.int64, np.int64, np.int32]
    assert {a.shape for a in arrays} == {(SEQ,)}


def test_a_row_by_hand() -> None:
    source = corpus({"a": ("domain", [3, 9, 2])}, 8)  # ids from 1000; 9 is cut into 8 and 1
    reader = source.reader(plan_of(source, 8, {"general": 0}, tokens=16, batch_tokens=8))
    assert reader.packed[0].rows == 2
    row = reader.read(0, 0)  # pieces: document 0, the last token of document 1, document 2
    assert row.input_ids.tolist() == [1000, 1001, 1002, 1011, 1012, 1013, PAD, PAD]
    assert row.labels.tolist() == [1001, 1002, -100, -100, 1013, -100, -100, -100]
    assert row.position_ids.tolist() == [0, 1, 2, 0, 0, 1, 0, 1]
    assert row.segments.tolist() == [0, 0, 0, 1, 2, 2, -1, -1]
    assert row.document_lengths.tolist() == [3, 1, 2]


def test_erased_documents_leave_masked_positions_and_the_order() -> None:
    source = made()
    plan = a_plan(source)
    erased = {"law": source.packed["law"].without(np.arange(0, 60, 7))}
    before, after = (
        source.reader(plan),
        RowReader(plan, source.readers, source.packed | erased, PAD),
    )
    changed = 0
    for position in range(plan.rows):
        row = after.row(position)
        assert_same(row, naive_row(after, position))
        assert before.locate(position) == after.locate(position)
        kept = row.segments >= 0
        assert np.array_equal(row.input_ids[kept], before.row(position).input_ids[kept])
        assert after.supervised(position, 1) == (row.labels >= 0).sum()
        changed += int(kept.sum() != (before.row(position).segments >= 0).sum())
    assert changed > 50


@pytest.mark.parametrize("packing", ["best_fit", "concat"])
def test_supervised_is_what_reading_would_count(packing: str) -> None:
    source = made(packing=packing)
    plan = a_plan(source)
    reader = source.reader(plan)
    counted = [int((reader.row(p).labels >= 0).sum()) for p in range(plan.rows)]
    assert reader.supervised(0, plan.rows) == sum(counted)
    for first, count in ((0, 1), (25, 17), (180, 260), (619, 1), (5, 0)):
        assert reader.supervised(first, count) == sum(counted[first : first + count])


def test_rows_by_source_by_name() -> None:
    source = made()
    plan = a_plan(source)
    reader = source.reader(plan)
    names = [plan.sources[reader.locate(p).source].name for p in range(plan.rows)]
    part = names[29:100]
    assert reader.rows_by_source(29, 71) == {s.name: part.count(s.name) for s in plan.sources}


def periodic_plan() -> Plan:
    """Two phases that repeat periods of 10 and 20 slots, and end inside one."""
    rows = {"a": 7, "b": 40, "c": 11}
    sources = [
        PlanSource(name, "domain", n, n * 9, n * 9, 1e9, name, name) for name, n in rows.items()
    ]
    asks = [
        PhaseAsk("first", 33, {"c": 0.2, "a": 0.5, "b": 0.3}),
        PhaseAsk("second", 41, {"a": 0.05, "b": 0.95}),
    ]
    return compile_phases(sources, asks, seq_len=9, batch_rows=5, seed=3, unit="tokens")


PLANS = [a_plan(made()), periodic_plan()]


def test_periods_repeat() -> None:
    plan = periodic_plan()
    assert [phase.denominator for phase in plan.phases] == [10, 20]
    sources = [Order(plan).locate(position).source for position in range(plan.rows)]
    assert sources[:160] == sources[:10] * 16
    assert sources[165:365] == sources[165:185] * 10


@pytest.mark.parametrize("plan", PLANS)
def test_locating_many_is_locating_one_by_one(plan: Plan) -> None:
    order = Order(plan)
    positions = np.random.default_rng(0).permutation(plan.rows)
    where = order.locate_many(positions)
    alone = [order.locate(int(p)) for p in positions]
    assert [tuple(x) for x in alone] == list(
        zip(*(a.tolist() for a in (where.source, where.row, where.epoch, where.phase)), strict=True)
    )


@pytest.mark.parametrize("plan", PLANS)
def test_rows_by_source_is_what_locating_would_count(plan: Plan) -> None:
    order = Order(plan)
    source = np.array([order.locate(position).source for position in range(plan.rows)])
    cuts = [0, 1, 7, 10, 29, 31, 160, 165, 166, 185, 300, plan.rows - 1, plan.rows]
    for first in cuts:
        for end in (cut for cut in cuts if cut >= first):
            counted = np.bincount(source[first:end], minlength=len(plan.sources))
            assert np.array_equal(order.rows_by_source(first, end - first), counted)


@pytest.mark.parametrize("plan", PLANS)
def test_positions_of_a_row_are_where_it_is_read(plan: Plan) -> None:
    order = Order(plan)
    read: dict[tuple[int, int], list[int]] = {}
    for position in range(plan.rows):
        where = order.locate(position)
        read.setdefault((where.source, where.row), []).append(position)
    for source, size in enumerate(plan.sources):
        for row in range(size.rows):
            assert order.positions_of(source, row) == read.get((source, row), [])


def test_positions_outside_of_the_run_are_refused() -> None:
    source = made()
    reader = source.reader(a_plan(source))
    for position in (-1, 620):
        with pytest.raises(IndexError):
            reader.row(position)
        with pytest.raises(IndexError):
            reader.supervised(position, 1)


def test_every_seed_has_its_order_and_keeps_it() -> None:
    source = made()
    orders = {
        seed: tuple(Order(a_plan(source, seed)).locate_many(np.arange(620)).row.tolist())
        for seed in (0, 1, 2, 0)
    }
    assert len(set(orders.values())) == 3
    reloaded = Plan.from_json(a_plan(source, 1).to_json())
    assert tuple(Order(reloaded).locate_many(np.arange(620)).row.tolist()) == orders[1]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks_together_read_what_one_reads(ranks: int) -> None:
    source = made()
    plan = a_plan(source)
    whole = [source.reader(plan).row(p).input_ids.tolist() for p in range(60)]
    readers = [source.reader(Plan.from_json(plan.to_json())) for _ in range(ranks)]
    parts = {p: readers[p % ranks].row(p).input_ids.tolist() for p in reversed(range(60))}
    assert [parts[p] for p in range(60)] == whole


def test_another_corpus_than_the_plans_is_refused() -> None:
    source, other = made(), made(seed=1)
    plan = a_plan(source)
    with pytest.raises(UserError, match="'law' is not what the plan was made of"):
        other.reader(plan)
    with pytest.raises(UserError, match="'web' of the plan is not built"):
        RowReader(plan, {k: v for k, v in source.readers.items() if k != "web"}, source.packed, PAD)


def test_a_source_that_lost_tokens_is_an_error_and_not_other_tokens() -> None:
    source = made()
    reader = source.reader(a_plan(source))
    documents = source.readers["law"].documents
    documents[:] = [d[:-1] for d in documents]
    packed, lengths = reader.packed[0], source.readers["law"].lengths
    at_end = np.flatnonzero(packed.start + packed.length == lengths[packed.document])
    for row in np.unique(np.searchsorted(packed.row_starts, at_end, "right") - 1):
        with pytest.raises(CheckFailed, match="source 'law': document"):
            reader.read(0, int(row))
