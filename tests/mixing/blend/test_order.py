"""The slot sequence keeps every prefix within one row; the permutation is one."""

import numpy as np
import pytest

from configs import CheckFailed
from mixing.blend.order import Permutation, permutation_key, permute
from mixing.blend.slots import MARK_SLOTS, Marks, marks_of, slot_sequence, slots_from


def prefix_deviation(sequence: np.ndarray, counts: list[int]) -> float:
    """Largest |count - n c / Q| over every prefix n and source, in exact integers."""
    period, worst = sum(counts), 0
    for source, count in enumerate(counts):
        come = np.concatenate(([0], np.cumsum(sequence == source)))
        target = np.arange(len(sequence) + 1) * count
        worst = max(worst, int(np.abs(come * period - target).max()))
    return worst / period


def greedy_sequence(counts: list[int]) -> np.ndarray:
    """Megatron's rule: the source that is furthest behind n w, with n at least 1."""
    weights = np.array(counts) / sum(counts)
    come = np.zeros(len(counts))
    sequence = np.empty(sum(counts), np.int64)
    for slot in range(len(sequence)):
        sequence[slot] = np.argmax(max(slot, 1) * weights - come)
        come[sequence[slot]] += 1
    return sequence


def scanned_sequence(counts: list[int]) -> list[int]:
    """Earliest deadline first by looking at every source in every slot."""
    period, come, sequence = sum(counts), [0] * len(counts), []
    for slot in range(period):
        ready = [s for s, c in enumerate(counts) if come[s] < c and come[s] * period // c <= slot]
        pick = min(ready, key=lambda s: (-(-(come[s] + 1) * period // counts[s]), s))
        sequence.append(pick)
        come[pick] += 1
    return sequence


def random_counts(seed: int, most_slots: int) -> list[int]:
    """2 to 200 sources with even, skewed, Zipf and one-heavy weights, down to one slot."""
    rng = np.random.default_rng(seed)
    sources = int(rng.choice([2, 3, 5, 10, 40, 200], p=[0.2, 0.2, 0.2, 0.2, 0.15, 0.05]))
    shape = seed % 4
    if shape == 0:
        weights = rng.dirichlet(np.full(sources, 1.0))
    elif shape == 1:
        weights = rng.dirichlet(np.full(sources, 0.1))
    elif shape == 2:
        weights = 1.0 / np.arange(1, sources + 1) ** 2
    else:
        weights = np.concatenate(([1.0], rng.uniform(1e-6, 1e-4, sources - 1)))
    slots = int(rng.integers(sources, most_slots))
    return np.maximum(1, np.floor(weights / weights.sum() * slots)).astype(int).tolist()


@pytest.mark.parametrize("seed", range(240))
def test_every_prefix_is_within_one_row(seed: int) -> None:
    counts = random_counts(seed, 4000)
    sequence = slot_sequence(counts)
    assert np.bincount(sequence, minlength=len(counts)).tolist() == counts
    assert prefix_deviation(sequence, counts) < 1


def test_megatrons_rule_fails_the_same_check() -> None:
    mixes = [random_counts(seed, 1500) for seed in range(40)]
    worst = [prefix_deviation(greedy_sequence(counts), counts) for counts in mixes]
    assert sum(w >= 1 for w in worst) > 5
    assert max(worst) > 1.2


@pytest.mark.parametrize("seed", range(60))
def test_is_earliest_deadline_first(seed: int) -> None:
    counts = random_counts(seed, 300)
    assert slot_sequence(counts).tolist() == scanned_sequence(counts)


def test_first_slots_are_those_of_the_whole_period() -> None:
    counts = random_counts(6, 4000)
    whole = slot_sequence(counts)
    for slots in (1, 2, 77, len(whole) - 1, len(whole), len(whole) + 5):
        assert np.array_equal(slot_sequence(counts, slots), whole[:slots])


@pytest.mark.parametrize("seed", range(12))
def test_marks_lead_to_every_part_of_the_sequence(seed: int) -> None:
    counts = random_counts(seed, 6000)
    count, whole = np.array(counts), slot_sequence(counts)
    for slots in {1, MARK_SLOTS, MARK_SLOTS + 1, len(whole) // 2 + 1, len(whole)}:
        sequence = slot_sequence(counts, slots)
        marks = Marks(marks_of(sequence, counts), count, len(sequence))
        assert marks.stretches == -(-len(sequence) // MARK_SLOTS)
        for stretch in range(marks.stretches):
            first = stretch * MARK_SLOTS
            come = np.bincount(sequence[:first], minlength=len(counts))
            assert marks.before(stretch).tolist() == come.tolist()
            until = min(first + 2 * MARK_SLOTS, len(sequence))
            part = slots_from(count, first, come, until - first)
            assert part.tolist() == sequence[first:until].tolist()
        seen = np.zeros(len(counts), np.int64)
        for slot, source in enumerate(sequence.tolist()):
            if slot % 13 == 0 or slot % MARK_SLOTS in (0, MARK_SLOTS - 1):
                assert marks.stretch_of(source, int(seen[source])) == slot // MARK_SLOTS
            seen[source] += 1


def test_marks_that_were_changed_are_refused() -> None:
    counts = random_counts(1, 6000)
    text, slots = marks_of(slot_sequence(counts), counts), sum(counts)
    count = np.array(counts)
    other = "A" if text[40] != "A" else "B"
    for wrong in ("", text[:16], text[:-4], text[:40] + other + text[41:], "0" + text[1:]):
        assert wrong != text
        with pytest.raises(CheckFailed, match="marks of a plan"):
            Marks(wrong, count, slots)
    with pytest.raises(CheckFailed, match="marks of a plan"):
        Marks(text, count, slots + MARK_SLOTS)


def test_repeated_periods_keep_the_bound() -> None:
    counts = [7, 1, 90, 2, 33]
    assert prefix_deviation(np.tile(slot_sequence(counts), 5), counts) < 1


def test_the_order_is_part_of_the_contract() -> None:
    assert slot_sequence([3, 1, 6]).tolist() == [2, 0, 2, 2, 0, 2, 2, 0, 1, 2]  # by hand
    assert permutation_key(0, "law") == 1091644880970600725
    assert [Permutation(10, 42).at(i, 0) for i in range(10)] == [8, 5, 0, 6, 4, 7, 3, 2, 1, 9]


def test_a_million_to_one() -> None:
    counts = [999_998, 1, 1]
    sequence = slot_sequence(counts)
    assert prefix_deviation(sequence, counts) < 1


def test_counts_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        slot_sequence([3, 0])


@pytest.mark.parametrize("n", [*range(1, 130), 255, 256, 257, 1000, 10_007, 65_536])
def test_permutation_is_a_bijection_with_an_inverse(n: int) -> None:
    permutation = Permutation(n, permutation_key(3, "source"))
    index = np.arange(n)
    values = permute(index, np.full(n, 5), np.full(n, n), np.full(n, permutation._key, np.uint64))
    assert np.array_equal(np.sort(values), index)
    for i in range(0, n, max(1, n // 50)):
        assert permutation.at(i, 5) == values[i]
        assert permutation.index_of(int(values[i]), 5) == i


def test_permutations_of_several_sources_at_once() -> None:
    rng = np.random.default_rng(0)
    n = rng.choice([1, 2, 10, 999, 123_457, 10**9, 10**12], 500)
    epoch, key = rng.integers(0, 9, 500), rng.integers(0, 2**63, 500).astype(np.uint64)
    index = (rng.random(500) * n).astype(np.int64)
    alone = [
        Permutation(*map(int, pair)).at(int(i), int(e))
        for pair, i, e in zip(zip(n, key, strict=True), index, epoch, strict=True)
    ]
    assert permute(index, epoch, n, key).tolist() == alone


def test_epochs_and_keys_differ() -> None:
    n, index = 1000, np.arange(1000)
    orders = [
        permute(index, np.full(n, epoch), np.full(n, n), np.full(n, key, np.uint64))
        for epoch in range(4)
        for key in (1, 2, permutation_key(0, "a"), permutation_key(0, "b"))
    ]
    for i, first in enumerate(orders):
        for second in orders[:i]:
            assert (first == second).mean() < 0.02  # 1 fixed point in 1000 is expected


def test_permutation_mixes_like_a_random_one() -> None:
    """Neighbours and points sqrt(n) apart end up unrelated; 2 or 3 rounds fail this."""
    n = 100_003
    index = np.arange(n)
    for epoch in range(3):
        values = permute(index, np.full(n, epoch), np.full(n, n), np.full(n, 77, np.uint64))
        for lag in (1, 2, 316, 317, 1000):
            pairs = values[:-lag].astype(float), values[lag:].astype(float)
            grid, _, _ = np.histogram2d(*pairs, bins=16, range=[[0, n], [0, n]])
            expected = (n - lag) / 256
            chi2 = float(((grid - expected) ** 2 / expected).sum())
            assert abs(chi2 - 255) < 6 * np.sqrt(2 * 255), (epoch, lag, chi2)
        steps = np.diff(values)
        assert abs((steps > 0).mean() - 0.5) < 6 * 0.29 / np.sqrt(n)


def test_all_orders_of_four_are_about_as_frequent() -> None:
    index = np.arange(4)
    key = np.full(4, 9, np.uint64)
    seen = [
        tuple(permute(index, np.full(4, epoch), np.full(4, 4), key).tolist())
        for epoch in range(4800)
    ]
    frequency = np.unique(np.array(seen), axis=0, return_counts=True)[1]
    assert len(frequency) == 24
    assert frequency.min() > 120
    assert frequency.max() < 280
