"""Which rank computes which rows of a step; pure.

A step is ``batch_rows`` consecutive positions. They are cut into one run of positions for each
rank, and those into micro batches; every rank has the same number of micro batches, of the same
size, because ranks meet in each. Places beyond the batch hold None: an empty row, no target.
"""

import math


def micro_batches(
    first: int, batch_rows: int, rank: int, ranks: int, micro_batch_rows: int
) -> list[list[int | None]]:
    """Positions of one rank's micro batches, (accumulation, rows)."""
    per_rank, rows, count = _shape(batch_rows, ranks, micro_batch_rows)
    mine = range(rank * per_rank, (rank + 1) * per_rank)
    places = [first + i if i < batch_rows else None for i in mine]
    places += [None] * (rows * count - per_rank)
    return [places[i * rows : (i + 1) * rows] for i in range(count)]


def accumulation(batch_rows: int, ranks: int, micro_batch_rows: int) -> int:
    """Micro batches of one rank in a step."""
    return _shape(batch_rows, ranks, micro_batch_rows)[2]


def _shape(batch_rows: int, ranks: int, micro_batch_rows: int) -> tuple[int, int, int]:
    per_rank = math.ceil(batch_rows / ranks)
    count = math.ceil(per_rank / micro_batch_rows)
    return per_rank, math.ceil(per_rank / count), count
