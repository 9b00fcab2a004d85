"""Named phases with mixes of their own, and runs whose length follows from the domain's tokens."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from memory_corpus import data, schedule
from tiny import tiny_recipe

from configs import Mix, UserError
from configs.load import parse_recipe
from mixing.blend.phases import phase_bounds, phase_fractions
from mixing.blend.plan import Plan, PlanSource, compile_plan
from mixing.blend.seek import Order

SEQ = 64


def source(name: str, role: str, rows: int, tokens: int, targets: int) -> PlanSource:
    """``tokens`` and ``targets`` are those of a mean row."""
    return PlanSource(name, role, rows, rows * tokens, rows * targets, 1e9, f"k{name}", f"p{name}")


SOURCES = [
    source("law", "domain", 4000, 64, 60),
    source("chat", "domain", 900, 50, 20),
    source("web", "general", 9000, 64, 63),
    source("code", "general", 3000, 62, 58),
]


def compiled(mix: dict[str, Any], sources: list[PlanSource] = SOURCES, **fields: Any) -> Plan:
    fields = {"batch_tokens": SEQ * 8, **fields}
    return compile_plan(sources, data(SEQ), Mix.model_validate(mix), schedule(**fields))


def refused(tiny: Any, tmp_path: Any, **schedule_keys: Any) -> str:
    tree = tiny_recipe(tiny, tmp_path)
    tree["schedule"] |= schedule_keys
    with pytest.raises(UserError) as error:
        parse_recipe(tree)
    return error.value.message


# Named phases --------------------------------------------------------------------------------


def test_named_phases_are_parts_of_the_stable_stretch_in_order() -> None:
    phases = {
        "law_first": {"token_fraction": 0.3},
        "stable": {"general": 0.5},
        "anneal": {"general": 0.1},
        "code_last": {"token_fraction": 0.15},
    }
    asked = schedule(tokens=1, warmup=0.05, anneal=0.2, phases=phases)
    assert phase_bounds(asked, 1000) == [
        ("warmup", 0, 50), ("law_first", 50, 300), ("stable", 350, 300), ("code_last", 650, 150),
        ("anneal", 800, 200),
    ]  # fmt: skip
    del phases["stable"]
    asked = schedule(tokens=1, warmup=0.05, anneal=0.2, phases=phases)
    names = [name for name, _, _ in phase_bounds(asked, 1000)]
    assert names == ["warmup", "stable", "law_first", "code_last", "anneal"]


@pytest.mark.parametrize("seed", range(200))
def test_bounds_cover_the_run_whatever_the_fractions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = rng.dirichlet(np.ones(int(rng.integers(2, 12)))).round(int(rng.integers(1, 8)))
    warmup, anneal, *named = (parts * min(1.0, 1.0 / parts.sum())).tolist()
    phases = {f"p{i}": {"token_fraction": f} for i, f in enumerate(named) if f > 0}
    asked = schedule(tokens=1, warmup=warmup, anneal=anneal, phases=phases)
    steps = int(rng.integers(1, 3000))
    try:
        bounds = phase_bounds(asked, steps)
    except UserError as error:
        assert "lasts none" in error.message  # noqa: PT017 - which phases are long enough varies
        return
    assert [first for _, first, _ in bounds] == np.cumsum([0] + [n for *_, n in bounds]).tolist()[
        :-1
    ]
    assert sum(n for *_, n in bounds) == steps
    fractions = dict(phase_fractions(asked))
    assert all(abs(n - fractions[name] * steps) <= 1 for name, _, n in bounds)


def test_each_phase_has_its_own_shares() -> None:
    plan = compiled(
        {"general": 0.25, "unit": "tokens", "weights": {"law": 3, "chat": 1}},
        tokens=SEQ * 8 * 1000,
        warmup=0.1,
        anneal=0.2,
        phases={
            "stable": {"weights": {"web": 1, "code": 4}},
            "code": {"token_fraction": 0.3, "general": 0.6, "weights": {"web": 1, "code": 9}},
            "anneal": {"weights": {"law": 1, "chat": 1}, "general": 0.1},
        },
    )
    size = {s.name: s.tokens for s in SOURCES}
    web = size["web"] / (size["web"] + size["code"])
    law, code = {"law": 0.5625, "chat": 0.1875}, 1 - web
    asked = {p.name: {s.name: s.asked_share for s in p.sources} for p in plan.phases}
    assert asked == {
        "warmup": pytest.approx({**law, "web": 0.25 * web, "code": 0.25 * code}),
        "stable": pytest.approx({**law, "web": 0.05, "code": 0.2}),
        "code": pytest.approx({"law": 0.3, "chat": 0.1, "web": 0.06, "code": 0.54}),
        "anneal": pytest.approx({"law": 0.45, "chat": 0.45, "web": 0.1 * web, "code": 0.1 * code}),
    }
    source_of = Order(plan).locate_many(np.arange(plan.rows)).source
    for phase in plan.phases:
        here = np.bincount(source_of[phase.first_row : phase.first_row + phase.rows], minlength=4)
        assert {s.name: here[i] for i, s in enumerate(plan.sources)} == {
            part.name: part.rows for part in phase.sources
        }
        units = {part.name: part.tokens / sum(s.tokens for s in phase.sources) for part in
                 phase.sources}  # fmt: skip
        assert units == pytest.approx(asked[phase.name], abs=2e-3)


def test_phase_lengths_are_refused_where_they_say_nothing_or_too_much(
    tiny: Any, tmp_path: Any
) -> None:
    late = {"late": {"general": 0.5}}
    assert "late needs a token_fraction" in refused(tiny, tmp_path, phases=late)
    anneal = {"anneal": {"token_fraction": 0.5}}
    assert "anneal takes no token_fraction" in refused(tiny, tmp_path, phases=anneal)
    long = {"a": {"token_fraction": "30%"}, "b": {"token_fraction": "20.5%"}}
    found = refused(tiny, tmp_path, phases=long)
    assert "take 50.5000% of the tokens, and 50.0000% are left" in found
    stranger = {"late": {"token_fraction": 0.1, "weights": {"wiki": 1}}}
    found = refused(tiny, tmp_path, phases=stranger)
    assert "schedule.phases.late.weights names 'wiki', which no trained source is" in found


def test_a_half_weighted_side_of_a_phase_is_refused() -> None:
    with pytest.raises(UserError, match="weights name 'law' but not 'chat'"):
        compiled({}, tokens=SEQ * 800, anneal=0.5, phases={"anneal": {"weights": {"law": 1}}})
    mix = {"weights": {"law": 1, "chat": 1}}  # which a phase's own weights of that side replace
    with pytest.raises(UserError, match="weights name 'law' but not 'chat'"):
        compiled(mix, tokens=SEQ * 800, anneal=0.5, phases={"anneal": {"weights": {"law": 1}}})


# The domain's tokens fixed -------------------------------------------------------------------


def domain_units(plan: Plan) -> int:
    role = {s.name: s.role for s in plan.sources}
    parts = [p for phase in plan.phases for p in phase.sources if role[p.name] == "domain"]
    unit = plan.unit
    return sum(p.tokens if unit == "tokens" else p.supervised_tokens for p in parts)


@pytest.mark.parametrize("unit", ["tokens", "supervised_tokens"])
@pytest.mark.parametrize("general", [0.0, 0.01, 0.25, 0.9])
def test_the_domain_gives_what_is_asked_and_the_run_follows(unit: str, general: float) -> None:
    plan = compiled({"general": general, "unit": unit}, tokens=200_000, tokens_of="domain")
    given = domain_units(plan)
    per_step = given / plan.steps
    assert 200_000 - 1.01 * per_step - 70 < given <= 200_000 + 70  # 70: rounding of rows
    phase = plan.phases[0]
    whole = sum(p.tokens if unit == "tokens" else p.supervised_tokens for p in phase.sources)
    assert given / whole == pytest.approx(1 - general, abs=2e-3)


@pytest.mark.parametrize("seed", range(40))
def test_over_phases_with_mixes_of_their_own(seed: int) -> None:
    rng = np.random.default_rng(seed)
    phases = {
        "one": {"token_fraction": 0.2, "general": float(rng.random())},
        "two": {"token_fraction": 0.3, "general": float(rng.random())},
        "anneal": {"general": float(rng.random())},
    }
    asked = int(rng.integers(20_000, 500_000))
    plan = compiled(
        {"general": float(rng.uniform(0, 0.9))}, tokens=asked, tokens_of="domain", anneal=0.2,
        phases=phases,
    )  # fmt: skip
    most_a_step = 8 * SEQ
    assert asked - most_a_step - 300 < domain_units(plan) <= asked + 300


def test_domain_tokens_that_no_phase_reads_are_refused() -> None:
    with pytest.raises(UserError, match="no phase reads any domain text"):
        compiled({"general": 1.0}, tokens=1000, tokens_of="domain")
    with pytest.raises(UserError, match="one step already gives about"):
        compiled({"general": 0.5}, tokens=5, tokens_of="domain")


def test_a_cap_is_refused_with_domain_tokens_that_fit() -> None:
    capped = [replace(s, max_epochs=2) if s.role == "domain" else s for s in SOURCES]
    fields = {"tokens_of": "domain", "anneal": 0.25, "phases": {"anneal": {"general": 0.7}}}
    mix = {"general": 0.2, "weights": {"law": 1, "chat": 1}}
    with pytest.raises(UserError) as error:
        compiled(mix, capped, tokens=900_000, **fields)
    assert "source 'chat' would be read" in error.value.message
    fits = int(error.value.hint.split("schedule.tokens ")[1].split(" ")[0])
    assert fits < 900_000
    plan = compiled(mix, capped, tokens=fits, **fields)
    assert 1.9 < plan.epochs["chat"] <= 2
    with pytest.raises(UserError):
        compiled(mix, capped, tokens=fits + 2 * 8 * SEQ, **fields)


def test_a_capped_general_source_is_refused_with_a_share_that_fits() -> None:
    capped = [
        replace(s, max_epochs=1) if s.name == "web" else s for s in SOURCES if s.name != "code"
    ]
    fields = {"tokens": 400_000, "tokens_of": "domain", "anneal": 0.25}
    with pytest.raises(UserError, match="source 'web' would be read") as error:
        compiled({"general": 0.7}, capped, **fields)
    shares = [
        float(part.split(" in ")[0]) for part in error.value.hint.split("at most ")[1].split(", ")
    ]
    assert compiled({"general": min(shares)}, capped, **fields).epochs["web"] <= 1


def test_a_general_share_is_no_way_out_for_a_domain_of_fixed_tokens() -> None:
    capped = [replace(s, max_epochs=2) for s in SOURCES if s.name != "chat"]
    with pytest.raises(UserError, match="source 'law' would be read") as error:
        compiled({"general": 0.2}, capped, tokens=900_000, tokens_of="domain")
    assert "general" not in error.value.hint
