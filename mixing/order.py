"""The order of rows: which source has slot n, and which of its rows comes n-th.

    counts ─▶ slot_sequence ─▶ source of each slot of a period
    (rows of a source, key, epoch) ─▶ Permutation ─▶ its rows, each once

Both are part of the contract of a plan: changing a result here changes the order of every run.
"""

import heapq
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import xxhash

_ROUNDS = 6
"""Feistel rounds: with 3 or 4 an order still shows correlations at lags near sqrt(n)."""
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def slot_sequence(counts: Sequence[int], slots: int | None = None) -> np.ndarray:
    """The source of each slot of one period of Q = sum(counts) slots, uint16 (slots,).

    Integer windows, earliest deadline first: occurrence j of a source with count c lies in slots
    floor(jQ/c) .. ceil((j+1)Q/c) - 1, ties go to the lowest source. A schedule always exists
    (Tijdeman 1980, "The chairman assignment problem"), so before every slot n each source has
    come within one of n c / Q times. ``slots`` asks for the first ones only.
    """
    period = sum(counts)
    if min(counts) <= 0 or len(counts) > 1 << 16:
        raise ValueError(f"slot_sequence: 1..65536 counts, each at least 1; got {len(counts)}")
    return _slot_sequence(tuple(counts), period if slots is None else min(slots, period))


@lru_cache(maxsize=8)
def _slot_sequence(counts: tuple[int, ...], slots: int) -> np.ndarray:
    priorities, released = _windows(counts, slots)
    ready: list[int] = []
    taken = []
    begin = 0
    for new in released:
        if new == 1:
            taken.append(heapq.heappushpop(ready, priorities[begin]))
        else:
            for priority in priorities[begin : begin + new]:
                heapq.heappush(ready, priority)
            taken.append(heapq.heappop(ready))
        begin += new
    sequence = (np.array(taken, np.int64) % len(counts)).astype(np.uint16)
    sequence.flags.writeable = False  # the cache hands the same array to every caller
    return sequence


def _windows(counts: tuple[int, ...], slots: int) -> tuple[list[int], list[int]]:
    """Occurrences released in the first ``slots``: their priorities (deadline x sources + source,
    smaller is sooner) in the order of release, and how many are released in each slot."""
    period = sum(counts)
    count = np.array(counts, np.int64)
    jobs = -(-count * slots // period)  # occurrences j with floor(j Q / c) < slots
    source = np.repeat(np.arange(len(counts)), jobs)
    job = np.arange(len(source)) - np.repeat(np.cumsum(jobs) - jobs, jobs)
    release = job * period // count[source]
    deadline = -(-(job + 1) * period // count[source]) - 1
    by_release = np.argsort(release, kind="stable")
    priorities = (deadline * len(counts) + source)[by_release]
    return priorities.tolist(), np.bincount(release, minlength=slots).tolist()


def permutation_key(*parts: object) -> int:
    """A 64-bit key from values with a plain ``str``, such as a seed and a source's name."""
    return xxhash.xxh3_64_intdigest("\x1f".join(str(part) for part in parts).encode())


class Permutation:
    """A keyed bijection of ``range(n)`` for each epoch, with nothing stored.

    A Feistel network on a square of side ceil(sqrt n), so at most 2 sqrt(n) + 1 values fall
    outside and are walked on (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """

    def __init__(self, n: int, key: int) -> None:
        if n < 1:
            raise ValueError(f"a permutation of {n} values")
        self.n = n
        self._side = math.isqrt(n - 1) + 1
        self._key = key

    def at(self, index: int, epoch: int) -> int:
        """The value at ``index`` of this epoch's permutation."""
        keys = self._round_keys(epoch)
        value = self._once(index, keys)
        while value >= self.n:
            value = self._once(value, keys)
        return value

    def index_of(self, value: int, epoch: int) -> int:
        """Where ``value`` stands in this epoch's permutation: the inverse of ``at``."""
        keys = self._round_keys(epoch)
        index = self._back(value, keys)
        while index >= self.n:
            index = self._back(index, keys)
        return index

    def _round_keys(self, epoch: int) -> list[int]:
        base = _mixed(self._key ^ _mixed(epoch + 1))
        return [_mixed((base + r * _GOLDEN) & _MASK) for r in range(_ROUNDS)]

    def _once(self, value: int, keys: list[int]) -> int:
        left, right = divmod(value, self._side)
        for key in keys:
            noise = (_mixed(right ^ key) >> 32) * self._side >> 32
            left, right = right, (left + noise) % self._side
        return left * self._side + right

    def _back(self, value: int, keys: list[int]) -> int:
        left, right = divmod(value, self._side)
        for key in reversed(keys):
            noise = (_mixed(left ^ key) >> 32) * self._side >> 32
            left, right = (right - noise) % self._side, left
        return left * self._side + right


def permute(index: np.ndarray, epoch: np.ndarray, n: np.ndarray, key: np.ndarray) -> np.ndarray:
    """``Permutation(n, key).at(index, epoch)`` for arrays: int64 index, epoch and n, uint64 key,
    all of one length; each element may belong to a permutation of its own."""
    side = np.ceil(np.sqrt(n)).astype(np.uint64)
    base = _mixed_array(key ^ _mixed_array(epoch.astype(np.uint64) + np.uint64(1)))
    steps = np.arange(_ROUNDS, dtype=np.uint64) * np.uint64(_GOLDEN)
    keys = _mixed_array(base + steps[:, None])  # (rounds, elements)
    value = _once_array(index.astype(np.uint64), side, keys)
    outside = np.flatnonzero(value >= n.astype(np.uint64))
    while len(outside):
        value[outside] = _once_array(value[outside], side[outside], keys[:, outside])
        outside = outside[value[outside] >= n[outside].astype(np.uint64)]
    return value.astype(np.int64)


def _once_array(value: np.ndarray, side: np.ndarray, keys: np.ndarray) -> np.ndarray:
    left, right = value // side, value % side
    for key in keys:
        noise = (_mixed_array(right ^ key) >> np.uint64(32)) * side >> np.uint64(32)
        total = left + noise
        left, right = right, np.where(total >= side, total - side, total)
    return left * side + right


def _mixed(value: int) -> int:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31


def _mixed_array(value: np.ndarray) -> np.ndarray:
    value = (value ^ value >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ value >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return value ^ value >> np.uint64(31)
