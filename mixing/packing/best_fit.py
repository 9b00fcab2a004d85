"""Best-fit-decreasing by counting: all pieces of one length are placed at once.

Best fit puts a piece of length L into the row with the least free space >= L. That row keeps the
least free space until it has taken free // L such pieces, so runs of equal pieces and of rows
with equal free space move together, and the work grows with the distinct lengths and not with
the pieces: 10M documents take seconds.
"""

from collections import deque

import numpy as np


def best_fit_rows(length: np.ndarray, seq_len: int) -> np.ndarray:
    """The row of each piece, int64 (pieces,); lengths are 1..seq_len.

    Longest first; pieces of equal length in their given order; among rows with equal free space
    the one that came to it first.
    """
    row_of = np.empty(len(length), np.int64)
    longest_first = np.argsort(-length, kind="stable")
    sizes, counts = np.unique(length, return_counts=True)
    rows = _OpenRows(seq_len)
    begin = 0
    for size, count in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        rows.place(longest_first[begin : begin + count], size, row_of)
        begin += count
    return row_of


class _OpenRows:
    """Rows by free space; ``_occupied`` has bit f set where some row has f tokens free."""

    def __init__(self, seq_len: int) -> None:
        self._seq_len = seq_len
        self._by_free: list[deque[np.ndarray]] = [deque() for _ in range(seq_len)]
        self._occupied = 0
        self._rows = 0

    def place(self, pieces: np.ndarray, size: int, row_of: np.ndarray) -> None:
        """Write the rows of ``pieces``, all of length ``size``, into ``row_of``."""
        while len(pieces):
            free, rows = self._tightest_fit(size, len(pieces))
            each = free // size
            placed = min(len(pieces), len(rows) * each)
            used = -(-placed // each)
            row_of[pieces[:placed]] = np.repeat(rows[:used], each)[:placed]
            self._put(free, rows[used:], front=True)
            full = placed // each
            self._put(free - each * size, rows[:full])
            self._put(free - placed % each * size, rows[full:used])
            pieces = pieces[placed:]

    def _tightest_fit(self, size: int, pieces: int) -> tuple[int, np.ndarray]:
        """Rows of the least free space that holds ``size``; new ones where there is none."""
        fitting = self._occupied >> size
        if not fitting:
            rows = np.arange(self._rows, self._rows - (-pieces // (self._seq_len // size)))
            self._rows += len(rows)
            return self._seq_len, rows
        free = size + (fitting & -fitting).bit_length() - 1
        queue = self._by_free[free]
        rows = queue.popleft()
        if not queue:
            self._occupied &= ~(1 << free)
        return free, rows

    def _put(self, free: int, rows: np.ndarray, front: bool = False) -> None:
        if free == 0 or not len(rows):
            return
        queue = self._by_free[free]
        (queue.appendleft if front else queue.append)(rows)
        self._occupied |= 1 << free
