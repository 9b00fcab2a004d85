"""Which source has slot n of a period: the sequence, and marks from which any part of it is found.

    counts ─▶ slot_sequence ─▶ source of each slot ─▶ marks_of ─▶ text in the plan
    counts, how often each source came before slot n ─▶ slots_from ─▶ source of slots n, n + 1, ...

The sequence is part of the contract of a plan: changing it changes the order of every run. The
marks only save laying out what comes before a slot, some 0.2 s for a period of a million slots.
"""

import base64
import heapq
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import xxhash

from configs import CheckFailed

MARK_SLOTS = 256
"""Slots from one mark to the next. A source costs a plan one bit a mark."""
SLOTS_AT_ONCE = 1 << 14
"""Slots that are laid out in one go: what is in memory meanwhile is some hundred bytes a slot."""
_DIGEST_CHARACTERS = 16
PLAN_HINT = "the plan is damaged; make it again"


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
    count, come = np.array(counts, np.int64), np.zeros(len(counts), np.int64)
    sequence = np.empty(slots, np.uint16)
    for first in range(0, slots, SLOTS_AT_ONCE):
        part = slots_from(count, first, come, min(SLOTS_AT_ONCE, slots - first))
        sequence[first : first + len(part)] = part
        come += np.bincount(part, minlength=len(counts))
    sequence.flags.writeable = False  # the cache hands the same array to every caller
    return sequence


def slots_from(counts: np.ndarray, first: int, come: np.ndarray, slots: int) -> np.ndarray:
    """The source of slots first .. first + slots - 1 of a period, uint16 (slots,); ``come`` int64
    (sources,): how often each source has a slot before ``first``."""
    priorities, released = _windows(counts, first, come, slots)
    push, pop, push_pop = heapq.heappush, heapq.heappop, heapq.heappushpop
    ready: list[int] = []
    taken = []
    begin = 0
    for new in released:
        if new == 1:
            taken.append(push_pop(ready, priorities[begin]))
        else:
            for priority in priorities[begin : begin + new] if new else ():
                push(ready, priority)
            taken.append(pop(ready))
        begin += new
    return (np.array(taken, np.int64) % len(counts)).astype(np.uint16)


def _windows(
    count: np.ndarray, first: int, come: np.ndarray, slots: int
) -> tuple[list[int], list[int]]:
    """Occurrences that are open before or released in these slots: their priorities (deadline x
    sources + source, smaller is sooner) in the order of release, and how many each slot gets."""
    period = int(count.sum())
    jobs = -(-count * (first + slots) // period) - come  # j with floor(j Q / c) < first + slots
    source = np.repeat(np.arange(len(count)), jobs)
    job = np.arange(len(source)) - np.repeat(np.cumsum(jobs) - jobs - come, jobs)
    release = np.maximum(job * period // count[source] - first, 0)
    deadline = -(-(job + 1) * period // count[source]) - 1
    by_release = np.argsort(release, kind="stable")
    priorities = (deadline * len(count) + source)[by_release]
    return priorities.tolist(), np.bincount(release, minlength=slots).tolist()


def marks_of(sequence: np.ndarray, counts: Sequence[int]) -> str:
    """The state of a slot sequence at slots MARK_SLOTS, 2 MARK_SLOTS, ...: a hash and base64.

    Before slot n a source has come floor(n c / Q) times or once more, so a bit each is enough.
    """
    marks = max(0, len(sequence) - 1) // MARK_SLOTS
    stretch = np.arange(marks).repeat(MARK_SLOTS)
    places = stretch * len(counts) + sequence[: len(stretch)]
    here = np.bincount(places, minlength=marks * len(counts)).reshape(marks, len(counts))
    count = np.array(counts, np.int64)
    floors = np.arange(1, marks + 1)[:, None] * MARK_SLOTS * count // count.sum()
    more = np.cumsum(here, axis=0) - floors
    packed = np.packbits(more.astype(bool), axis=1).tobytes()
    return xxhash.xxh3_64_hexdigest(packed) + base64.b64encode(packed).decode()


class Marks:
    """The marks of the first ``slots`` slots of a period, read: where each stretch of MARK_SLOTS
    begins. Raises CheckFailed where they are not what ``marks_of`` wrote."""

    def __init__(self, text: str, counts: np.ndarray, slots: int) -> None:
        self._counts = counts
        self._period = int(counts.sum())
        self.stretches = -(-slots // MARK_SLOTS)
        width = -(-len(counts) // 8)
        try:
            packed = base64.b64decode(text[_DIGEST_CHARACTERS:], validate=True)
        except ValueError:
            packed = b""
        whole = len(packed) == width * (self.stretches - 1)
        if not whole or xxhash.xxh3_64_hexdigest(packed) != text[:_DIGEST_CHARACTERS]:
            raise CheckFailed("the marks of a plan are not what was written", PLAN_HINT)
        first = np.zeros((1, width), np.uint8)
        self._bits = np.concatenate((first, np.frombuffer(packed, np.uint8).reshape(-1, width)))

    def before(self, stretch: int) -> np.ndarray:
        """How often each source has a slot before a stretch, int64 (sources,)."""
        more = np.unpackbits(self._bits[stretch], count=len(self._counts))
        return stretch * MARK_SLOTS * self._counts // self._period + more

    def stretch_of(self, source: int, occurrence: int) -> int:
        """The stretch in which a source has a slot for the ``occurrence``-th time, from 0."""
        more = self._bits[:, source // 8] >> (7 - source % 8) & 1
        floors = np.arange(self.stretches) * MARK_SLOTS * self._counts[source] // self._period
        return int(np.searchsorted(floors + more, occurrence, side="right")) - 1
