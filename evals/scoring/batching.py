"""Which rows share a forward pass, when every row of a pass is padded to its longest."""

from collections.abc import Sequence

import numpy as np

_PASS_SHARE = 1 / 32
"""What a pass costs beside its tokens, as a share of the tokens that a full one holds: 32 tokens
on a CPU, where reading the weights costs about as much (measured on 6 to 30 layers)."""


def cheapest_batches(
    lengths: Sequence[int], shared: int, batch_tokens: int, cache_tokens: int
) -> list[list[int]]:
    """Indices of rows, longest first, cut into the batches that cost least in all.

    ``lengths`` are whole rows, of which the first ``shared`` tokens are computed already. A pass
    costs its rows times its longest row after ``shared``, and a little more for every pass; it
    holds at most ``batch_tokens`` of them, and ``cache_tokens`` of whole rows, or else one row.
    Passes filled up to their limit instead hold a sixth of padding where questions are few (the
    first forty of MMLU's anatomy; 3% over the whole exam, 1% here).
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    per_pass = batch_tokens * _PASS_SHARE
    count = len(order)
    cost = np.zeros(count + 1)  # of the rows from here to the end
    ends = [count] * count
    for start in reversed(range(count)):
        longest = lengths[order[start]]
        own = max(1, longest - shared)
        most = max(1, min(batch_tokens // own, cache_tokens // longest))
        sizes = np.arange(1, min(most, count - start) + 1)
        costs = per_pass + own * sizes + cost[start + sizes]
        best = int(costs.argmin())
        cost[start], ends[start] = costs[best], start + 1 + best
    batches, start = [], 0
    while start < count:
        batches.append(order[start : ends[start]])
        start = ends[start]
    return batches
