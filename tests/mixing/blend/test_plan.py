"""Plans: exact row counts, phases, caps with advice that works, and a past that stays."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from memory_corpus import MemoryCorpus, corpus, data, plan_of, schedule

from configs import CheckFailed, Mix, UserError
from mixing.blend.length import run_steps
from mixing.blend.phases import phase_bounds, rows_per_step
from mixing.blend.plan import PhaseAsk, Plan, PlanSource, compile_phases, compile_plan
from mixing.blend.seek import Order
from mixing.blend.slots import marks_of

SEQ = 64


def three_sources(seed: int = 0, max_epochs: float = 1e9) -> MemoryCorpus:
    rng = np.random.default_rng(seed)
    return corpus(
        {
            "law": ("domain", rng.integers(1, 300, 200)),
            "tickets": ("domain", rng.integers(1, 9, 900)),
            "web": ("general", rng.integers(20, 500, 300)),
            "wiki": ("retention", rng.integers(20, 500, 50)),
        },
        SEQ,
        max_epochs,
    )


def sources_of(plan: Plan, first: int = 0, count: int | None = None) -> list[tuple[str, int]]:
    """(source, row) at each position."""
    end = plan.rows if count is None else first + count
    where = Order(plan).locate_many(np.arange(first, end))
    names = [source.name for source in plan.sources]
    return [(names[s], r) for s, r in zip(where.source.tolist(), where.row.tolist(), strict=True)]


def test_phases_are_whole_steps_without_gaps() -> None:
    fields = {"tokens": 1_000_000, "batch_tokens": 1000, "warmup": 0.013, "anneal": 0.2}
    assert phase_bounds(schedule(**fields), 1000) == [
        ("warmup", 0, 13),
        ("stable", 13, 787),
        ("anneal", 800, 200),
    ]


def test_steps_are_made_of_whole_rows() -> None:
    # 1000 positions hold 3 rows of 300; 10_000 positions hold 11 such steps, not 10.
    fields = schedule(tokens=10_000, batch_tokens=1000)
    assert run_steps(fields, rows_per_step(fields, 300), 300, {}, "tokens") == 11


@pytest.mark.parametrize("seed", range(100))
def test_phase_bounds_cover_the_run(seed: int) -> None:
    rng = np.random.default_rng(seed)
    warmup = round(float(rng.uniform(0, 1)), 3)
    anneal = round(float(rng.choice([0, 1 - warmup, rng.uniform(0, 1 - warmup)])), 6)
    steps = int(rng.integers(1, 500))
    fields = {"tokens": steps * 8, "batch_tokens": 8, "warmup": warmup, "anneal": anneal}
    bounds = phase_bounds(schedule(**fields), steps)
    assert sum(n for _, _, n in bounds) == steps
    at = 0
    for name, first, count in bounds:
        assert first == at
        assert count > 0
        asked = {"warmup": warmup, "anneal": anneal, "stable": 1 - warmup - anneal}[name]
        assert abs(count - asked * steps) <= 1
        at += count


def test_a_phase_with_a_mix_but_no_step_is_refused() -> None:
    fields = {"tokens": 80, "batch_tokens": 8, "anneal": 0.01, "phases": {"anneal": {"general": 1}}}
    with pytest.raises(UserError, match="'anneal' lasts none of the 10 steps"):
        phase_bounds(schedule(**fields), 10)


def test_row_counts_are_those_of_the_order() -> None:
    plan = plan_of(
        three_sources(), SEQ, {"general": 0.3}, tokens=SEQ * 1400, batch_tokens=SEQ * 10,
        warmup=0.03, anneal=0.25, phases={"anneal": {"general": 0.6}},
    )  # fmt: skip
    assert [(p.name, p.first_row, p.rows) for p in plan.phases] == [
        ("warmup", 0, 40), ("stable", 40, 1010), ("anneal", 1050, 350),
    ]  # fmt: skip
    assert plan.rows == 1400
    assert [p.general for p in plan.phases] == pytest.approx([0.3, 0.3, 0.6])
    for phase in plan.phases:
        names = [name for name, _ in sources_of(plan, phase.first_row, phase.rows)]
        assert {part.name: part.rows for part in phase.sources} == {
            part.name: names.count(part.name) for part in phase.sources
        }
        for part in phase.sources:
            target = phase.rows * part.slot_count / phase.denominator
            assert abs(part.rows - target) < 1


def test_retention_never_takes_part() -> None:
    plan = plan_of(three_sources(), SEQ, {"general": 1}, tokens=SEQ * 100, batch_tokens=SEQ)
    assert [s.name for s in plan.sources] == ["web"]
    assert {name for name, _ in sources_of(plan)} == {"web"}


def test_json_round_trip_and_tampering() -> None:
    plan = plan_of(
        three_sources(), SEQ, {"general": 0.3}, tokens=SEQ * 400, batch_tokens=SEQ, anneal=0.5
    )
    tree = json.loads(json.dumps(plan.to_json()))
    assert Plan.from_json(tree) == plan
    tree["phases"][0]["sources"][0]["slot_count"] += 1
    with pytest.raises(ValueError, match="does not match its own hash"):
        Plan.from_json(tree)
    with pytest.raises(UserError, match="has format 1, this version reads 2"):
        Plan.from_json({**tree, "format": 1})


def test_any_slot_is_found_without_those_before_it() -> None:
    """Six periods of 20,000 slots, and one that its phase cuts off; each look is the first."""
    shares = {"law": 0.123457, "web": 0.876543}
    plan = phases_of([LAW, WEB], (30_000, shares), (1500, shares))
    whole = Order(plan).locate_many(np.arange(plan.rows))
    rng = np.random.default_rng(0)
    assert [phase.slots for phase in plan.phases] == [20_000, 6000]
    edges = [0, 255, 256, 19_999, 20_000, 119_999, 120_000, plan.rows - 1]
    for position in [*edges, *rng.integers(0, plan.rows, 30).tolist()]:
        found = (whole.source[position], whole.row[position], whole.epoch[position])
        assert Order(plan).locate(position)[:3] == found
        source = int(whole.source[position])
        assert position in Order(plan).positions_of(source, int(whole.row[position]))
        before = Order(plan).rows_by_source(0, position)
        assert before.tolist() == np.bincount(whole.source[:position], minlength=2).tolist()


def test_marks_that_lead_elsewhere_are_refused() -> None:
    plan = phases_of([LAW, WEB], (300, {"law": 0.123457, "web": 0.876543}))
    (phase,) = plan.phases
    marks = marks_of(np.zeros(phase.slots, np.uint16), [part.slot_count for part in phase.sources])
    mixed = replace(plan, phases=(replace(phase, marks=marks),))
    with pytest.raises(CheckFailed, match="do not lead to the next mark"):
        Order(mixed).locate(0)


def test_expected_units_are_rows_times_the_mean() -> None:
    made = corpus({"a": ("domain", [32, 32, 64])}, 64)  # rows of 62 and 63 targets
    plan = plan_of(made, 64, {"general": 0}, tokens=64 * 4, batch_tokens=64)
    (part,) = plan.phases[0].sources
    assert (part.rows, part.epochs, part.tokens, part.supervised_tokens) == (4, 2.0, 256, 250)
    assert plan.epochs == {"a": 2.0}


# What decides the order ---------------------------------------------------------------------


def fixed(name: str, role: str, rows: int, units: int = 60, **content: str) -> PlanSource:
    total = rows * units
    content = {"key": "k", "pack_hash": "p"} | content
    return PlanSource(name, role, rows, total, total, 1e9, **content)


Ask = tuple[int, dict[str, float]]
"""Steps and shares of a phase."""


def phases_of(sources: list[PlanSource], *asks: Ask, **fields: Any) -> Plan:
    return compile_phases(
        sources,
        [PhaseAsk(f"phase{i}", steps, shares) for i, (steps, shares) in enumerate(asks)],
        **{"seq_len": SEQ, "batch_rows": 4, "seed": 0, "unit": "tokens", **fields},
    )


LAW, WEB = fixed("law", "domain", 37), fixed("web", "general", 301)
MATH = fixed("math", "general", 9)
MIX = {"law": 0.71, "web": 0.29}


def test_batch_size_and_phase_names_leave_the_order() -> None:
    plan = phases_of([LAW, WEB], (30, MIX))
    other = phases_of([LAW, WEB], (15, MIX), batch_rows=8)
    assert sources_of(plan) == sources_of(other)
    assert plan.hash == other.hash


def test_order_of_sources_in_the_recipe_leaves_the_order() -> None:
    plan = phases_of([LAW, WEB, MATH], (30, {"law": 0.5, "web": 0.3, "math": 0.2}))
    other = phases_of([MATH, WEB, LAW], (30, {"math": 0.2, "web": 0.3, "law": 0.5}))
    assert sources_of(plan) == sources_of(other)
    assert plan.hash == other.hash


@pytest.mark.parametrize(
    "changed",
    [
        phases_of([LAW, WEB], (20, MIX), (30, MIX), seed=1),
        phases_of([LAW, WEB], (20, MIX), (30, MIX), seq_len=SEQ * 2),
        phases_of([LAW, WEB], (20, {"law": 0.7, "web": 0.3}), (30, MIX)),
        phases_of([fixed("law", "domain", 37, key="other"), WEB], (20, MIX), (30, MIX)),
        phases_of([fixed("law", "domain", 37, pack_hash="other"), WEB], (20, MIX), (30, MIX)),
        phases_of([fixed("law", "domain", 38), WEB], (20, MIX), (30, MIX)),
        phases_of([LAW, WEB], (21, MIX), (29, MIX)),
    ],
    ids=["seed", "seq_len", "mix", "content", "packing", "rows", "bounds"],
)
def test_what_decides_the_order_changes_the_hash(changed: Plan) -> None:
    plan = phases_of([LAW, WEB], (20, MIX), (30, MIX))
    assert changed.hash != plan.hash
    assert changed.phases[0].hash != plan.phases[0].hash


@pytest.mark.parametrize(
    ("later", "common_rows"),
    [
        (phases_of([LAW, WEB], (20, MIX), (300, MIX)), 200),
        (phases_of([LAW, WEB], (20, MIX), (30, {"law": 0.2, "web": 0.8})), 80),
        (phases_of([LAW, MATH, WEB], (20, MIX), (30, {**MIX, "math": 0.1, "law": 0.61})), 80),
        (phases_of([LAW, WEB], (20, MIX), (30, MIX), (30, {"law": 1.0})), 200),
    ],
    ids=["extended", "re-weighted", "source added", "phase added"],
)
def test_the_future_leaves_the_past(later: Plan, common_rows: int) -> None:
    plan = phases_of([LAW, WEB], (20, MIX), (30, MIX))
    assert plan.common_rows(later) == later.common_rows(plan) == common_rows
    assert sources_of(plan, 0, common_rows) == sources_of(later, 0, common_rows)
    assert plan.phases[0].hash == later.phases[0].hash
    for position in (0, 1, 79, 80, common_rows):
        assert plan.past_hash(position) == later.past_hash(position)
    if common_rows < plan.rows:
        assert plan.past_hash(common_rows + 1) != later.past_hash(common_rows + 1)
        assert sources_of(plan) != sources_of(later)[: plan.rows]


def test_cursors_carry_on_across_phases() -> None:
    plan = phases_of([LAW, WEB], (20, MIX), (17, {"law": 0.1, "web": 0.9}), (25, MIX))
    read = sources_of(plan)
    for source in plan.sources:
        rows = [row for name, row in read if name == source.name]
        for epoch in range(0, len(rows), source.rows):
            this = rows[epoch : epoch + source.rows]
            assert len(set(this)) == len(this)  # nothing twice before all was read once
    assert len([row for name, row in read if name == "law"]) > 3 * LAW.rows


def test_epochs_are_in_different_orders() -> None:
    plan = phases_of([LAW], (4 * 37, {"law": 1.0}), batch_rows=1)
    rows = np.array([row for _, row in sources_of(plan)]).reshape(4, 37)
    assert all((a != b).sum() > 25 for i, a in enumerate(rows) for b in rows[:i])


def test_a_phase_with_the_same_mix_begins_its_period_anew() -> None:
    plan = phases_of([LAW, WEB], (3, MIX), (3, MIX))
    names = [name for name, _ in sources_of(plan)]
    assert names[:12] == names[12:]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000))
def test_random_mixes_keep_every_prefix_within_one_row(seed: int) -> None:
    """2 to 200 sources, shares down to 1e-6, one to four phases, periods that repeat and not."""
    rng = np.random.default_rng(seed)
    count = int(rng.choice([2, 3, 8, 30, 100, 200]))
    sources = [
        fixed(f"s{i:03}", "domain", int(rng.integers(1, 5000)), int(rng.integers(40, 64)))
        for i in range(count)
    ]
    asks = []
    for _ in range(int(rng.integers(1, 5))):
        raw = rng.dirichlet(np.full(count, rng.choice([0.1, 1.0]))) + 4e-6 * rng.random()
        raw = np.round(raw, 2) + 1e-2 if rng.random() < 0.3 else raw + 2e-6
        shares = {s.name: float(w) for s, w in zip(sources, raw / raw.sum(), strict=True)}
        asks.append((int(rng.integers(1, 1500)), shares))
    plan = phases_of(sources, *asks)
    source = Order(plan).locate_many(np.arange(plan.rows)).source
    assert sum(p.rows for p in plan.phases) == plan.rows
    for phase in plan.phases:
        here = source[phase.first_row : phase.first_row + phase.rows]
        slots = np.array([part.slot_count for part in phase.sources])
        come = np.cumsum(here[:, None] == np.arange(count), axis=0, dtype=np.int64)
        off = come * phase.denominator - np.arange(1, phase.rows + 1)[:, None] * slots
        assert np.abs(off).max() < phase.denominator
        assert come[-1].tolist() == [part.rows for part in phase.sources]


def test_500_sources_with_weights_down_to_a_millionth() -> None:
    """Through a recipe's mix, over more than a period, every prefix in exact integers."""
    rng = np.random.default_rng(0)
    weights = {f"s{i:03}": float(w) for i, w in enumerate(10.0 ** rng.uniform(-6, -1, 500))}
    weights["s000"] = 1e-6 * sum(weights.values())  # the smallest share that a row can have
    weights = {name: max(w, weights["s000"]) for name, w in weights.items()}
    sources = [fixed(name, "domain", int(rng.integers(1, 9000))) for name in weights]
    mix = Mix(general=0, weights=weights)
    plan = compile_plan(sources, data(SEQ), mix, schedule(tokens=SEQ * 1_200_000, batch_tokens=SEQ))
    (phase,) = plan.phases
    assert len(phase.sources) == 500
    assert min(part.asked_share for part in phase.sources) == pytest.approx(1e-6, rel=1e-3)
    total = sum(weights.values())
    assert all(
        abs(part.slot_count / phase.denominator - weights[part.name] / total) <= 1e-6
        for part in phase.sources
    )
    source = Order(plan).locate_many(np.arange(plan.rows)).source
    for i, part in enumerate(phase.sources):
        assert part.name == plan.sources[i].name
        at = np.flatnonzero(source == i)
        before = at * part.slot_count - np.arange(len(at)) * phase.denominator
        after = np.arange(1, len(at) + 1) * phase.denominator - (at + 1) * part.slot_count
        assert max(before.max(), after.max()) < phase.denominator


# Caps -----------------------------------------------------------------------------------------


def compiled(sources: list[PlanSource], general: float, **fields: Any) -> Plan:
    return compile_plan(sources, data(SEQ), Mix(general=general), schedule(**fields))


def test_a_capped_source_is_refused_with_numbers_that_fit() -> None:
    sources = [
        replace(fixed("law", "domain", 100, 50), max_epochs=2),
        fixed("web", "general", 9000),
    ]
    fields = {"batch_tokens": SEQ * 4, "anneal": 0.3, "phases": {"anneal": {"general": 0.5}}}
    with pytest.raises(UserError) as refused:
        compiled(sources, 0.2, tokens=SEQ * 4 * 100, **fields)
    assert "source 'law' would be read 2.98 times (298 rows of 100)" in refused.value.message
    assert "over its max_epochs 2" in refused.value.message
    tokens = int(refused.value.hint.split("schedule.tokens ")[1].split(" ")[0])
    assert 0.5 * SEQ * 400 < tokens < 0.7 * SEQ * 400
    plan = compiled(sources, 0.2, tokens=tokens, **fields)
    assert plan.epochs["law"] <= 2
    with pytest.raises(UserError):
        compiled(sources, 0.2, tokens=tokens + 3 * SEQ * 4, **fields)
    assert "; or general at least" in refused.value.hint
    generals = [float(part.split(" ")[-1]) for part in refused.value.hint.split(" in ")[:-1]]
    fields["phases"] = {"anneal": {"general": generals[1]}}
    plan = compiled(sources, generals[0], tokens=SEQ * 400, **fields)
    assert 1.9 < plan.epochs["law"] <= 2


@pytest.mark.parametrize("seed", range(60))
def test_what_the_refusal_proposes_compiles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources = [
        replace(
            fixed(f"s{i}", "domain" if i % 2 else "general", int(rng.integers(5, 400)),
                  int(rng.integers(10, 60))),
            max_epochs=float(rng.uniform(0.5, 4)),
        )
        for i in range(int(rng.integers(2, 6)))
    ]  # fmt: skip
    general = float(rng.uniform(0.05, 0.95))
    tokens = SEQ * 4 * int(rng.integers(100, 900))
    for _ in range(20):
        try:
            plan = compiled(sources, general, tokens=tokens, batch_tokens=SEQ * 4, anneal=0.2)
        except UserError as refused:
            if "schedule.tokens" not in refused.hint:
                break
            fits = int(refused.hint.split("schedule.tokens ")[1].split(" ")[0])
            assert fits < tokens
            tokens = fits
        else:
            assert all(plan.epochs[s.name] * s.rows <= s.max_epochs * s.rows + 1 for s in sources)
            break
    else:
        pytest.fail("the advice led nowhere")


def test_caps_hold_over_phases_together() -> None:
    sources = [replace(fixed("law", "domain", 100), max_epochs=1), fixed("web", "general", 9000)]
    fields = {"tokens": SEQ * 160, "batch_tokens": SEQ, "anneal": 0.5}
    with pytest.raises(UserError, match=r"read 1\.20 times"):  # 0.6 in each of two phases
        compiled(sources, 0.25, **fields)
    assert compiled(sources, 0.4, **fields).epochs["law"] == pytest.approx(0.96)


def test_a_source_that_is_all_of_a_phase_is_told_tokens_and_epochs_only() -> None:
    sources = [replace(fixed("law", "domain", 10), max_epochs=1)]
    with pytest.raises(UserError) as refused:
        compiled(sources, 0, tokens=SEQ * 25, batch_tokens=SEQ)
    assert (
        refused.value.hint
        == f"what would fit: schedule.tokens {SEQ * 10} or less; or max_epochs 2.5"
    )
