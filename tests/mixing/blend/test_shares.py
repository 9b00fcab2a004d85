"""Shares: two levels, adding up, and never rounded away."""

from fractions import Fraction

import numpy as np
import pytest

from configs import Mix, UserError
from mixing.blend.shares import (
    MAX_DENOMINATOR,
    WEIGHT_TOLERANCE,
    SourceSize,
    largest_remainder,
    slot_counts,
    slot_weights,
    source_shares,
    weight_error,
)


def size(name: str, role: str, tokens: int, supervised: int | None = None) -> SourceSize:
    supervised = tokens if supervised is None else supervised
    return SourceSize(name, role, 10, tokens, supervised, 4.0)


SIZES = [
    size("law", "domain", 100),
    size("web", "general", 300),
    size("tickets", "domain", 300),
    size("books", "general", 100),
    size("wiki", "retention", 5000),
]


def test_by_size_inside_a_side() -> None:
    shares = source_shares(SIZES, Mix(general=0.2))
    assert shares == pytest.approx({"law": 0.2, "tickets": 0.6, "books": 0.05, "web": 0.15})


def test_by_weights_inside_a_side() -> None:
    shares = source_shares(SIZES, Mix(general=0.2, weights={"law": 3, "tickets": 1}))
    assert shares == pytest.approx({"law": 0.6, "tickets": 0.2, "books": 0.05, "web": 0.15})


def test_size_is_in_the_unit_of_the_mix() -> None:
    sizes = [size("a", "domain", 200, 100), size("b", "domain", 200, 50), size("g", "general", 9)]
    assert source_shares(sizes, Mix(general=0)) == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert source_shares(sizes, Mix(unit="tokens", general=0)) == pytest.approx(
        {"a": 0.5, "b": 0.5}
    )


def test_one_sided_mixes_drop_the_other_side() -> None:
    assert set(source_shares(SIZES, Mix(general=0))) == {"law", "tickets"}
    assert set(source_shares(SIZES, Mix(general=1))) == {"web", "books"}


def test_does_not_depend_on_the_order_of_sources() -> None:
    mix = Mix(general=0.3, weights={"web": 0.1, "books": 0.7})
    assert source_shares(SIZES[::-1], mix) == source_shares(SIZES, mix)


@pytest.mark.parametrize(("general", "role"), [(0.5, "domain"), (0.01, "general")])
def test_a_side_without_sources_is_refused(general: float, role: str) -> None:
    sizes = [s for s in SIZES if s.role != role]
    with pytest.raises(UserError, match=f"no source is '{role}'"):
        source_shares(sizes, Mix(general=general))


def test_a_half_weighted_side_is_refused() -> None:
    with pytest.raises(UserError, match="name 'law' but not 'tickets'"):
        source_shares(SIZES, Mix(general=0.2, weights={"law": 1}))


def test_a_source_with_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(UserError, match="'void' has no supervised_tokens"):
        source_shares([*SIZES, size("void", "domain", 3, 0)], Mix(general=0.2))


def test_slot_weights_account_for_the_filling_of_rows() -> None:
    # Rows of a hold three times what rows of b hold, so equal shares need three times b's rows.
    assert slot_weights({"a": 0.5, "b": 0.5}, {"a": 3000.0, "b": 1000.0}) == pytest.approx(
        {"a": 0.25, "b": 0.75}
    )


@pytest.mark.parametrize("seed", range(100))
def test_counts_add_up_and_are_the_nearest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(int(rng.integers(1, 50)), 0.5))
    named = {f"s{i:02}": float(w) for i, w in enumerate(weights)}
    total = int(rng.integers(1, 2000))
    counts = largest_remainder(named, total)
    assert sum(counts.values()) == total
    assert all(abs(counts[n] - Fraction(named[n]) * total) < 1 for n in named)
    rounded_up = [named[n] * total % 1 for n in named if counts[n] > named[n] * total]
    rounded_down = [named[n] * total % 1 for n in named if counts[n] < named[n] * total]
    assert max(rounded_down, default=0) <= min(rounded_up, default=1)
    backwards = largest_remainder(dict(reversed(named.items())), total)
    assert backwards == counts


def test_remainders_tie_by_name() -> None:
    assert largest_remainder({"b": 0.5, "a": 0.5}, 3) == {"a": 2, "b": 1}


@pytest.mark.parametrize("seed", range(100))
def test_grid_is_fine_enough_or_the_finest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.dirichlet(np.full(int(rng.integers(1, 40)), 0.4)) + 1e-5
    shares = {f"s{i}": float(w) for i, w in enumerate(raw / raw.sum())}
    units = {name: float(rng.uniform(1000, 4096)) for name in shares}
    counts = slot_counts(shares, units)
    grid = sum(counts.values())
    assert grid == MAX_DENOMINATOR or (
        weight_error(counts, slot_weights(shares, units)) <= WEIGHT_TOLERANCE
    )


def test_grid_is_small_where_weights_are_round() -> None:
    assert slot_counts({"a": 0.75, "b": 0.25}, {"a": 8.0, "b": 8.0}) == {"a": 15, "b": 5}
    assert slot_counts({"a": 1.0}, {"a": 8.0}) == {"a": 1}


def test_a_share_of_a_millionth_gets_a_slot_and_a_smaller_one_is_refused() -> None:
    units = {"big": 100.0, "tiny": 100.0}
    assert slot_counts({"big": 1 - 1e-6, "tiny": 1e-6}, units)["tiny"] == 1
    with pytest.raises(UserError, match=r"'tiny' has a share of 1e-07, less than one row in"):
        slot_counts({"big": 1 - 1e-7, "tiny": 1e-7}, units)
    with pytest.raises(UserError, match="less than one row in 10"):
        slot_counts({"big": 0.99, "tiny": 0.01}, units, denominator=10)
