"""The learning rate against its closed forms, and the split of steps into ranks' rows."""

import math
import random

import pytest
from memory_corpus import corpus, plan_of
from memory_corpus import schedule as memory_schedule

from configs import Schedule
from pretrain.training.schedule import first_steps, lr_at
from pretrain.training.steps import accumulation, micro_batches

PEAK = 4e-4


def schedule(shape: str, final: float) -> Schedule:
    return Schedule(
        tokens=1, batch_tokens=1, peak_lr=PEAK, anneal_shape=shape, final_lr_ratio=final
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", lambda d: 0.1 + 0.9 * (1 - d)),
        ("1-sqrt", lambda d: 0.1 + 0.9 * (1 - math.sqrt(d))),
        ("cosine", lambda d: 0.1 + 0.45 * (1 + math.cos(math.pi * d))),
        ("exponential", lambda d: math.exp(d * math.log(0.1))),
    ],
)
def test_anneal_shapes(shape: str, expected) -> None:
    for step in range(60, 100):
        done = (step + 0.5 - 60) / 40
        found = lr_at(step, 100, (10, 60), schedule(shape, 0.1))
        assert found == pytest.approx(PEAK * expected(done), rel=1e-12)


def test_warmup_and_stable() -> None:
    linear = schedule("linear", 0.0)
    assert [lr_at(s, 10, (4, 8), linear) / PEAK for s in range(8)] == pytest.approx(
        [0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1]
    )


def test_named_phases_leave_the_rate_as_it_is() -> None:
    """One plan with two named parts of the stable stretch, one without: the same curve."""
    made = corpus({"a": ("domain", [8] * 50), "b": ("general", [8] * 50)}, 8)
    fields = {"tokens": 80 * 8, "batch_tokens": 8, "warmup": 0.1, "anneal": 0.25}
    parts = {
        "early": {"token_fraction": 0.2, "general": 0.7},
        "stable": {"general": 0.5},
        "late": {"token_fraction": 0.3, "weights": {"a": 2}},
    }
    curves = []
    for phases in ({}, parts, {k: v for k, v in parts.items() if k != "stable"}):
        own = memory_schedule(**fields, phases=phases)
        plan = plan_of(made, 8, {"general": 0.25}, **fields, phases=phases)
        bounds = first_steps(plan)
        curves.append([lr_at(step, plan.steps, bounds, own) for step in range(plan.steps)])
        assert bounds == (8, 60)
        assert plan.phases[0].name == "warmup"
    assert curves[0] == curves[1] == curves[2]
    assert len(plan.phases) == 5


def test_bounds_where_phases_have_no_steps() -> None:
    made = corpus({"a": ("domain", [8] * 50)}, 8)
    for warmup, anneal, bounds in ((1, 0, (20, 20)), (0, 1, (0, 0)), (0, 0, (0, 20))):
        fields = {"tokens": 160, "batch_tokens": 8, "warmup": warmup, "anneal": anneal}
        assert first_steps(plan_of(made, 8, {"general": 0}, **fields)) == bounds


def test_no_step_has_rate_zero_and_a_whole_anneal_starts_near_the_peak() -> None:
    linear = schedule("linear", 0.0)
    rates = [lr_at(s, 50, (0, 0), linear) for s in range(50)]
    assert all(0 < r < PEAK for r in rates)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(PEAK * 0.99)


@pytest.mark.parametrize("seed", range(40))
def test_every_position_goes_to_one_rank(seed: int) -> None:
    rng = random.Random(seed)
    rows, ranks, micro = rng.randint(1, 40), rng.randint(1, 6), rng.randint(1, 9)
    parts = [micro_batches(100, rows, r, ranks, micro) for r in range(ranks)]
    shapes = {tuple(len(batch) for batch in part) for part in parts}
    assert len(shapes) == 1, "ranks meet in every micro batch"
    assert all(size <= micro for size in shapes.pop())
    assert all(len(part) == accumulation(rows, ranks, micro) for part in parts)
    places = [p for part in parts for batch in part for p in batch if p is not None]
    assert sorted(places) == list(range(100, 100 + rows))
