"""Which checkpoints a policy keeps; pure."""

from collections.abc import Collection, Sequence


def to_delete(steps: Sequence[int], pinned: Collection[int], keep_last: int) -> list[int]:
    """Steps that may go: neither pinned (stage ends) nor among the ``keep_last`` newest others."""
    loose = sorted(s for s in steps if s not in pinned)
    return loose[: max(0, len(loose) - keep_last)]
