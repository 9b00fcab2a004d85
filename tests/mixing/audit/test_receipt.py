"""The receipt says what rows say, holds on unequal sources, and finds what is wrong; traces."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from memory_corpus import PAD, MemoryCorpus, corpus, plan_of

from mixing.audit.receipts import receipt
from mixing.audit.trace import pieces_of_document, pieces_of_step
from mixing.blend.plan import Plan
from mixing.blend.planned import with_hashes
from mixing.blend.rows import RowReader

SEQ = 128


def unequal(seed: int = 0, scale: int = 1) -> MemoryCorpus:
    """Short messages, novels, and sections of every length: rows hold very unequal numbers of
    targets."""
    rng = np.random.default_rng(seed)
    return corpus(
        {
            "messages": ("domain", rng.integers(1, 5, 9000 * scale)),
            "sections": ("domain", (rng.lognormal(3.5, 1.5, 900 * scale)).astype(int) + 1),
            "novels": ("general", rng.integers(3000, 20_000, 12 * scale)),
            "halves": ("general", np.full(500 * scale, SEQ // 2 + 1)),
        },
        SEQ,
    )


def unequal_plan(made: MemoryCorpus, rows: int, unit: str = "supervised_tokens") -> Plan:
    mix = {
        "general": 0.3,
        "unit": unit,
        "weights": {"messages": 1, "sections": 4, "novels": 1, "halves": 2},
    }
    return plan_of(
        made, SEQ, mix, tokens=SEQ * rows, batch_tokens=SEQ * 8, warmup=0.02, anneal=0.2,
        phases={"anneal": {"general": 0.5}},
    )  # fmt: skip


@pytest.mark.parametrize("unit", ["supervised_tokens", "tokens"])
def test_realised_shares_are_the_asked_ones(unit: str) -> None:
    made = unequal(scale=2)
    plan = unequal_plan(made, 40_000, unit)
    account = receipt(plan, made.reader(plan), 5000, read_rows=500)
    assert account["problems"] == []
    assert account["ok"] is True
    means = {s.name: s.supervised_tokens / s.rows for s in plan.sources}
    assert max(means.values()) > 1.8 * min(means.values())  # by rows, shares would be far off
    for phase in account["phases"][1:]:
        for source in phase["sources"]:
            assert abs(source["realised_share"] - source["asked_share"]) < 0.001
            assert source["max_prefix_deviation_rows"] < 1


@pytest.mark.parametrize("rows", [24, 48, 56, 96, 800])
def test_numbers_are_those_of_reading_every_row(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixing.audit.tally._BLOCK_ROWS", 64)
    made = unequal()
    plan = unequal_plan(made, rows)
    reader = made.reader(plan)
    account = receipt(plan, reader, 100)
    for phase in account["phases"]:
        counts = {source.name: np.zeros(3, np.int64) for source in plan.sources}
        worst = dict.fromkeys(counts, 0.0)
        planned = next(p for p in plan.phases if p.name == phase["name"])
        slots = {part.name: part.slot_count for part in planned.sources}
        for n in range(phase["rows"]):
            row = reader.row(phase["first_row"] + n)
            held = [1, int((row.segments >= 0).sum()), int((row.labels >= 0).sum())]
            counts[plan.sources[row.source].name] += held
            for name, slot_count in slots.items():
                target = (n + 1) * slot_count / sum(slots.values())
                worst[name] = max(worst[name], abs(int(counts[name][0]) - target))
        for source in phase["sources"]:
            found = [source["rows"], source["tokens"], source["supervised_tokens"]]
            assert found == counts[source["name"]].tolist()
            assert source["max_prefix_deviation_rows"] == pytest.approx(worst[source["name"]])
    assert account["tokens"] + account["padding"] == plan.rows * SEQ
    assert account["rows_read_back"] == sum(source.rows for source in plan.sources)
    json.dumps(account)


@pytest.mark.parametrize("rows", range(1, 42))
def test_deviation_is_over_every_prefix(rows: int) -> None:
    made = corpus({name: ("domain", [8] * 30) for name in "abc"}, 8)
    mix = {"general": 0, "weights": {"a": 9, "b": 9, "c": 2}}
    plan = plan_of(made, 8, mix, tokens=8 * rows, batch_tokens=8)
    reader = made.reader(plan)
    (phase,) = plan.phases
    source = reader.order.locate_many(np.arange(rows)).source
    come = np.cumsum(source[:, None] == np.arange(3), axis=0)  # (rows, sources)
    target = np.arange(1, rows + 1)[:, None] * [part.slot_count for part in phase.sources]
    worst = np.abs(come - target / phase.denominator).max(axis=0)
    (account,) = receipt(plan, reader, 10, read_rows=0)["phases"]
    found = [part["max_prefix_deviation_rows"] for part in account["sources"]]
    assert found == pytest.approx(worst.tolist())


def test_windows_make_up_their_phase() -> None:
    made = unequal()
    plan = unequal_plan(made, 800)
    account = receipt(plan, made.reader(plan), 100, read_rows=0)
    for phase in account["phases"]:
        windows = phase["windows"]
        assert sum(w["rows"] for w in windows) == phase["rows"]
        assert [w["first_row"] for w in windows] == list(
            range(phase["first_row"], phase["first_row"] + phase["rows"], 100)
        )
        for window in windows:
            assert sum(window["realised_shares"].values()) == pytest.approx(1)


def test_epochs_are_counted_by_row() -> None:
    made = unequal()
    plan = unequal_plan(made, 2000)
    account = receipt(plan, made.reader(plan), 1000, read_rows=0)
    for source in account["sources"]:
        assert source["least_reads_of_a_row"] == int(source["epochs"])
        assert source["most_reads_of_a_row"] == int(np.ceil(source["epochs"]))
        assert source["epochs"] == pytest.approx(plan.epochs[source["name"]])


# What a receipt has to find -------------------------------------------------------------------


def problems_of(plan: Plan, reader: RowReader, **options: Any) -> str:
    account = receipt(plan, reader, 1000, **options)
    assert account["ok"] is False
    return "\n".join(account["problems"])


def test_finds_a_plan_weighted_by_rows() -> None:
    made = unequal(scale=2)
    plan = unequal_plan(made, 30_000)
    naive = [replace(s, supervised_tokens=s.rows * 100) for s in made.sources]
    by_rows = unequal_plan(replace(made, sources=naive), 30_000)
    assert by_rows.hash != plan.hash
    assert "has a share of" in problems_of(by_rows, made.reader(by_rows), read_rows=0)


def test_finds_a_greedy_order(monkeypatch: pytest.MonkeyPatch) -> None:
    made = unequal()
    plan = unequal_plan(made, 1000)

    def blocks(order: Any, slots: np.ndarray) -> None:
        order._slots[:] = np.repeat(np.arange(len(order._counts)), order._counts)[: slots.max() + 1]
        order._occurrence[:] = 0

    monkeypatch.setattr("mixing.blend.seek._PhaseOrder._find", blocks)
    found = problems_of(plan, made.reader(plan), read_rows=0)
    assert "rows from its target" in found
    assert "rows, the plan says" in found


def test_finds_rows_that_are_drawn_with_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    made = unequal()
    plan = unequal_plan(made, 1000)

    def drawn(*arrays: np.ndarray) -> np.ndarray:
        _, _, n, _ = arrays
        return np.random.default_rng(0).integers(0, n)

    monkeypatch.setattr("mixing.blend.seek.permute", drawn)
    assert "rows are read 0 to" in problems_of(plan, made.reader(plan), read_rows=0)


def test_finds_a_cap_that_is_not_kept() -> None:
    made = unequal()
    plan = unequal_plan(made, 2000)
    capped = tuple(replace(s, max_epochs=1.0) for s in plan.sources)
    plan = with_hashes(replace(plan, sources=capped))
    assert "its max_epochs allows" in problems_of(plan, made.reader(plan), read_rows=0)


def test_finds_an_index_that_is_not_what_rows_hold() -> None:
    made = unequal()
    plan = unequal_plan(made, 400)
    reader = made.reader(plan)
    reader.packed[1].tokens_per_row[7] += 1
    assert "row 7: " in problems_of(plan, reader, read_rows=None)


# Traces ---------------------------------------------------------------------------------------


def test_a_step_is_traced_to_what_its_rows_hold() -> None:
    made = unequal()
    plan = unequal_plan(made, 400)
    reader = made.reader(plan)
    for step in (0, 3, plan.steps - 1):
        pieces = pieces_of_step(reader, step)
        assert {p.step for p in pieces} == {step}
        for position in range(step * plan.batch_rows, (step + 1) * plan.batch_rows):
            row = reader.row(position)
            here = [p for p in pieces if p.position == position]
            ids = [made.readers[p.source].tokens(p.document, p.start, p.length) for p in here]
            assert np.concatenate(ids).tolist() == row.input_ids[row.segments >= 0].tolist()
            assert {p.source for p in here} == {plan.sources[row.source].name}


def test_a_document_is_traced_to_every_step_that_reads_it() -> None:
    made = unequal()
    plan = unequal_plan(made, 1200)
    reader = made.reader(plan)
    all_pieces = [piece for step in range(plan.steps) for piece in pieces_of_step(reader, step)]
    for source, document in (("novels", 3), ("messages", 17), ("sections", 500), ("halves", 0)):
        expected = [p for p in all_pieces if (p.source, p.document) == (source, document)]
        assert pieces_of_document(reader, source, document) == expected
        assert source == "sections" or expected
    assert pieces_of_document(reader, "novels", 10_000) == []


def test_an_erased_document_is_in_no_trace() -> None:
    made = unequal()
    plan = unequal_plan(made, 1200)
    packed = made.packed | {"novels": made.packed["novels"].without(np.array([3]))}
    reader = RowReader(plan, made.readers, packed, PAD)
    assert pieces_of_document(made.reader(plan), "novels", 3)
    assert pieces_of_document(reader, "novels", 3) == []
