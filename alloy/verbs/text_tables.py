"""Columns of text, and the lines that several results share."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alloy.reports.text import aligned
from mixing.audit import PackingLedger
from mixing.corpus import Removed


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns aligned by width, the first to the left and the others to the right."""
    return "\n".join(aligned([header, *rows], left={0}))


def phase_table(phases: Iterable[Any], columns: Sequence[tuple[str, str, str]]) -> str:
    """A row for each source of each phase; ``columns`` are (header, attribute, format)."""
    rows = [
        [f"{phase.name} / {source.name}"]
        + [format(getattr(source, name), form) for _, name, form in columns]
        for phase in phases
        for source in phase.sources
    ]
    return table(["phase / source", *(header for header, _, _ in columns)], rows)


def packing_lines(packing: Mapping[str, PackingLedger]) -> list[str]:
    """What the rows of each source leave out, besides what has lines of its own."""
    return [
        f"{name}: {ledger.documents[reason]:,} documents ({ledger.tokens[reason]:,} tokens) "
        f"not packed: {reason}"
        for name, ledger in packing.items()
        for reason in ledger.documents
        if reason not in ("packed", "erased", "contaminated") and ledger.documents[reason]
    ]


def removal_line(removed: Removed) -> str:
    """What the items of an eval took from a source."""
    unjudged = removed.unjudged_items
    skipped = f"; {unjudged:,} items are too short or too common to look for" if unjudged else ""
    return (
        f"{removed.source}: {removed.passages_removed:,} passages "
        f"({removed.tokens_removed:,} tokens) in {removed.documents_removed:,} documents "
        f"left out, they repeat {removed.eval}{skipped}; see {removed.matches}"
    )
