"""Which checkpoints a policy keeps; pure."""

from collections.abc import Collection, Sequence


def to_delete(
    steps: Sequence[int],
    pinned: Collection[int],
    keep_last: int,
    abandoned: Collection[int] = (),
) -> list[int]:
    """Steps that may go: neither pinned (stage ends) nor among the ``keep_last`` newest others.

    ``abandoned`` are steps of damaged checkpoints that the run went back behind: they count for
    nothing, whatever their number, and go.
    """
    loose = sorted(s for s in steps if s not in pinned)
    kept = [s for s in loose if s not in abandoned]
    return [*(s for s in loose if s in abandoned), *kept[: max(0, len(kept) - keep_last)]]
