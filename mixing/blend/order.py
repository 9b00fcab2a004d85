"""The order of rows inside a source: which of its rows comes n-th.

    (rows of a source, key, epoch) ─▶ Permutation ─▶ its rows, each once

Part of the contract of a plan: changing a result here changes the order of every run.
"""

import math

import numpy as np
import xxhash

_ROUNDS = 6
"""Feistel rounds: with 3 or 4 an order still shows correlations at lags near sqrt(n)."""
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


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
