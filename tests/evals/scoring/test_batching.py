"""Rows in passes: the cheapest split of all, by brute force."""

import random
from itertools import combinations, pairwise

import pytest

from evals.scoring.batching import _PASS_SHARE, cheapest_batches


def cost(batches, lengths, shared, batch_tokens):
    per_pass = batch_tokens * _PASS_SHARE
    return sum(
        per_pass + len(batch) * (max(lengths[i] for i in batch) - shared) for batch in batches
    )


def splits(order):
    """Every way to cut a list into runs."""
    for cuts in range(len(order)):
        for places in combinations(range(1, len(order)), cuts):
            edges = [0, *places, len(order)]
            yield [order[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("seed", range(40))
def test_no_split_of_the_sorted_rows_costs_less(seed):
    rng = random.Random(seed)
    shared = rng.choice((0, 10))
    lengths = [shared + rng.randint(1, rng.choice((3, 30))) for _ in range(rng.randint(1, 9))]
    batch_tokens, cache_tokens = rng.choice((8, 64, 256)), rng.choice((40, 400))
    batches = cheapest_batches(lengths, shared, batch_tokens, cache_tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))

    def allowed(batch):
        longest = max(lengths[i] for i in batch)
        return len(batch) == 1 or (
            len(batch) * (longest - shared) <= batch_tokens and len(batch) * longest <= cache_tokens
        )

    assert all(allowed(batch) for batch in batches)
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    least = min(
        cost(split, lengths, shared, batch_tokens)
        for split in splits(order)
        if all(allowed(batch) for batch in split)
    )
    assert cost(batches, lengths, shared, batch_tokens) == pytest.approx(least)


def test_a_long_row_is_not_what_the_short_ones_are_padded_to():
    assert cheapest_batches([100, 10, 10, 10], 0, 1000, 10_000) == [[0], [1, 2, 3]]
    assert cheapest_batches([12, 10, 10, 10], 0, 1000, 10_000) == [[0, 1, 2, 3]]
    assert cheapest_batches([], 0, 1000, 10_000) == []
