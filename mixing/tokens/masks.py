"""Which tokens of a document are supervised, as run lengths.

Runs go by turns, not supervised first: 3 prompt tokens, 5 of an answer and 2 more of a prompt are
[3, 5, 2]; an answer from the first token on begins with a run of 0.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Masks:
    """Masks of some documents: ``runs`` uint32 (runs,) of all of them, ``counts`` int64
    (documents,) how many of each, ``targets`` int64 (documents,): supervised tokens that have a
    token before them, so that something can predict them."""

    runs: np.ndarray
    counts: np.ndarray
    targets: np.ndarray


def masks_of(supervised: np.ndarray, offsets: np.ndarray) -> Masks:
    """Masks of documents from a flag for each token, bool (tokens,), and int64 (documents + 1,)
    offsets; a document has at least one token."""
    found = [supervised[begin:end] for begin, end in pairwise(offsets.tolist())]
    runs = [runs_of_flags(flags) for flags in found]
    return Masks(
        np.concatenate([np.empty(0, np.uint32), *runs]),
        np.array([r.size for r in runs], np.int64),
        np.array([int(flags[1:].sum()) for flags in found], np.int64),
    )


def runs_of_flags(supervised: np.ndarray) -> np.ndarray:
    """uint32 (runs,) of bool (tokens,)."""
    changes = np.flatnonzero(np.diff(supervised, prepend=False, append=not supervised[-1]))
    return np.diff(changes, prepend=0).astype(np.uint32)


def flags_of_runs(runs: np.ndarray) -> np.ndarray:
    """bool (tokens,) of uint32 (runs,)."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)
