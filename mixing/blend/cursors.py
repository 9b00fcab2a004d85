"""How far each source was read, for a later plan that goes on there without repeats.

Plan, position ─▶ cursors_at ─▶ JSON in a checkpoint ─▶ carried_on ─▶ PlanSource.first_use
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from configs import Data, UserError
from mixing.blend.planned import Plan, PlanSource
from mixing.blend.seek import Order

Cursors = dict[str, Any]
"""{seed, seq_len, sources: {name: {key, pack_hash, rows, rows_read}}}; rows_read counts repeats."""


def cursors_at(plan: Plan, order: Order, position: int, before: Cursors | None) -> Cursors:
    """The cursors after rows 0 .. position - 1 of a plan.

    ``before``: those that the plan carried on, if any; sources that it does not train keep theirs.
    """
    read = order.rows_by_source(0, position).tolist()
    sources = dict(before["sources"]) if before else {}
    for source, rows in zip(plan.sources, read, strict=True):
        sources[source.name] = {
            "key": source.key,
            "pack_hash": source.pack_hash,
            "rows": source.rows,
            "rows_read": source.first_use + rows,
        }
    return {"seed": plan.seed, "seq_len": plan.seq_len, "sources": sources}


def carried_on(sources: Sequence[PlanSource], cursors: Cursors, data: Data) -> list[PlanSource]:
    """The sources of a branch, each beginning where its parent stopped reading it.

    A source that the parent did not read begins at its first row. Raises UserError where the
    parent's order cannot be carried on: another seed or row length, other content under the same
    name, or the same content under another name.
    """
    for key, mine in (("seed", data.seed), ("seq_len", data.seq_len)):
        if cursors[key] != mine:
            raise UserError(
                f"base.data continued: data.{key} is {mine}, the parent was read with "
                f"{cursors[key]}",
                f"set data.{key}: {cursors[key]}, or base.data: fresh",
            )
    return [replace(source, first_use=_first_use(source, cursors)) for source in sources]


def _first_use(source: PlanSource, cursors: Cursors) -> int:
    content = (source.key, source.pack_hash)
    read = cursors["sources"]
    if source.name in read:
        known = read[source.name]
        if (known["key"], known["pack_hash"]) != content:
            raise UserError(
                f"base.data continued: source '{source.name}' is not what the parent read under "
                f"that name ({source.rows:,} rows, {known['rows']:,} then)",
                "give it another name, set its files and options back, or set base.data: fresh",
            )
        return int(known["rows_read"])
    for name, known in read.items():
        if (known["key"], known["pack_hash"]) == content:
            raise UserError(
                f"base.data continued: source '{source.name}' is what the parent read as '{name}'",
                f"call it '{name}', or its order begins anew",
            )
    return 0
