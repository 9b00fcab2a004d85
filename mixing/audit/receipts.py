"""The receipt: what every position of a plan reads, counted, beside what was asked.

    RowReader ─▶ tally of each phase ─▶ asked, realised and deviation by phase, source and window

Only rows that a position really leads to are counted; nothing is copied over from the plan.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mixing.audit.packing_ledgers import PackingLedger
from mixing.audit.tally import PhaseTally, share_tolerances, tally_phase
from mixing.blend import Plan, PlanPhase, RowReader, row_cap
from mixing.packing import PackedRows
from mixing.store import release_maps

_ROWS_BETWEEN_RELEASES = 16


def receipt(
    plan: Plan,
    reader: RowReader,
    window_rows: int,
    read_rows: int | None = 20_000,
    ledgers: Mapping[str, PackingLedger] | None = None,
) -> dict[str, Any]:
    """A JSON-able account of the whole run.

    ``window_rows`` is the length of the windows inside a phase for which realised shares are
    given. ``read_rows`` rows of the sources, spread evenly, are read from the shards and held
    against the index (None: all of them). ``ok`` is true where ``problems`` is empty: every
    prefix within one row of its target, row counts as planned, no row read again before all
    others of its source were read, caps kept, shares as asked within ``share_tolerance`` (what
    unequal rows explain), and index and shards in agreement. ``ledgers`` are the packing ledgers
    by source, which are given along and must balance.
    """
    reads = [reader.order.read_before(source) for source in range(len(plan.sources))]
    tallies = [tally_phase(reader, phase, window_rows, reads) for phase in plan.phases]
    phases = [
        _phase_account(reader, phase, tally, window_rows)
        for phase, tally in zip(plan.phases, tallies, strict=True)
    ]
    checked, problems = _read_back(reader, read_rows)
    problems += [p for phase in phases for p in _phase_problems(phase, plan)]
    problems += _repeat_problems(plan, reads)
    ledgers = ledgers or {}
    problems += [
        f"source '{n}': its packing ledger is off" for n in ledgers if not ledgers[n].balanced
    ]
    tokens = sum(int(tally.tokens.sum()) for tally in tallies)
    return {
        "ok": not problems,
        "problems": problems,
        "plan_hash": plan.hash,
        "unit": plan.unit,
        "rows": plan.rows,
        "tokens": tokens,
        "padding": plan.rows * plan.seq_len - tokens,
        "supervised_tokens": sum(int(tally.supervised.sum()) for tally in tallies),
        "max_prefix_deviation_rows": max(float(t.deviation_rows.max()) for t in tallies),
        "rows_read_back": checked,
        "sources": _source_accounts(plan, reads),
        "packing": {name: ledger.to_json() for name, ledger in ledgers.items()},
        "phases": phases,
    }


def _phase_account(
    reader: RowReader, phase: PlanPhase, tally: PhaseTally, window_rows: int
) -> dict[str, Any]:
    by_name = {s.name: (s, p) for s, p in zip(reader.plan.sources, reader.packed, strict=True)}
    sources = [by_name[part.name][0] for part in phase.sources]
    packed = [by_name[part.name][1] for part in phase.sources]
    supervised = reader.plan.unit == "supervised_tokens"
    per_row = [p.supervised_per_row if supervised else p.tokens_per_row for p in packed]
    tolerances = share_tolerances(per_row, tally.rows, phase.weight_error)
    total = max(1, int(tally.units().sum()))
    tolerances += _erased_units(packed, per_row, tally.rows, supervised) / total
    shares = tally.units() / total
    return {
        "name": phase.name,
        "first_row": phase.first_row,
        "rows": phase.rows,
        "first_step": phase.first_step,
        "steps": phase.steps,
        "asked_general": phase.general,
        "realised_general": float(shares[[s.role == "general" for s in sources]].sum()),
        "weight_error": phase.weight_error,
        "sources": [
            {
                "name": part.name,
                "asked_share": part.asked_share,
                "realised_share": float(shares[i]),
                "share_tolerance": float(tolerances[i]),
                "rows": int(tally.rows[i]),
                "tokens": int(tally.tokens[i]),
                "supervised_tokens": int(tally.supervised[i]),
                "epochs": int(tally.rows[i]) / sources[i].rows,
                "max_prefix_deviation_rows": float(tally.deviation_rows[i]),
            }
            for i, part in enumerate(phase.sources)
        ],
        "windows": _windows(phase, tally, window_rows),
    }


def _erased_units(
    packed: list[PackedRows], per_row: list[np.ndarray], rows: np.ndarray, supervised: bool
) -> float:
    """About how much of what a phase was to hold is erased: shares may be off by so much."""
    total = 0.0
    for source, units, count in zip(packed, per_row, rows.tolist(), strict=True):
        if source.erased is not None:
            whole = replace(source, erased=None)
            before = whole.supervised_tokens if supervised else whole.tokens
            total += (before - int(units.sum())) * math.ceil(count / source.rows)
    return total


def _windows(phase: PlanPhase, tally: PhaseTally, window_rows: int) -> list[dict[str, Any]]:
    names = [part.name for part in phase.sources]
    firsts = range(0, phase.rows, window_rows)
    shares = tally.window_units / np.maximum(1, tally.window_units.sum(axis=1, keepdims=True))
    return [
        {
            "first_row": phase.first_row + first,
            "rows": min(window_rows, phase.rows - first),
            "realised_shares": dict(zip(names, of_window, strict=True)),
        }
        for first, of_window in zip(firsts, shares.tolist(), strict=True)
    ]


def _phase_problems(account: dict[str, Any], plan: Plan) -> list[str]:
    phase = next(p for p in plan.phases if p.name == account["name"])
    planned = {part.name: part.rows for part in phase.sources}
    problems = []
    for source in account["sources"]:
        where = f"{phase.name}: source '{source['name']}'"
        if source["rows"] != planned[source["name"]]:
            problems.append(
                f"{where} has {source['rows']} rows, the plan says {planned[source['name']]}"
            )
        if source["max_prefix_deviation_rows"] >= 1:
            problems.append(
                f"{where} strays {source['max_prefix_deviation_rows']:.3f} rows from its target"
            )
        if abs(source["realised_share"] - source["asked_share"]) > source["share_tolerance"]:
            problems.append(
                f"{where} has a share of {source['realised_share']:.6f}, asked "
                f"{source['asked_share']:.6f} within {source['share_tolerance']:.6f}"
            )
    return problems


def _source_accounts(plan: Plan, reads: list[np.ndarray]) -> list[dict[str, Any]]:
    return [
        {
            "name": source.name,
            "role": source.role,
            "rows": int(count.sum(dtype=np.int64)) - source.first_use,
            "rows_before": source.first_use,
            "epochs": (int(count.sum(dtype=np.int64)) - source.first_use) / source.rows,
            "max_epochs": source.max_epochs,
            "least_reads_of_a_row": int(count.min()),
            "most_reads_of_a_row": int(count.max()),
        }
        for source, count in zip(plan.sources, reads, strict=True)
    ]


def _repeat_problems(plan: Plan, reads: list[np.ndarray]) -> list[str]:
    problems = []
    for source, count in zip(plan.sources, reads, strict=True):
        least, most, rows = int(count.min()), int(count.max()), int(count.sum(dtype=np.int64))
        if most - least > 1:
            problems.append(f"source '{source.name}': rows are read {least} to {most} times")
        if rows > row_cap(source):
            problems.append(
                f"source '{source.name}' has {rows} rows, its max_epochs allows {row_cap(source)}"
            )
    return problems


def _read_back(reader: RowReader, read_rows: int | None) -> tuple[int, list[str]]:
    """Rows of the shards held against the index: how many were read, and what is wrong."""
    begins = np.cumsum([0] + [p.rows for p in reader.packed])
    total = int(begins[-1])
    count = total if read_rows is None else min(read_rows, total)
    chosen = np.arange(count) * total // max(1, count)
    problems = []
    for read, joined in enumerate(chosen.tolist()):
        if read % _ROWS_BETWEEN_RELEASES == 0:
            release_maps()  # or the pages of all shards stay in this process
        source = int(np.searchsorted(begins, joined, side="right")) - 1
        number = joined - int(begins[source])
        packed, row = reader.packed[source], reader.read(source, number)
        found = (int((row.segments >= 0).sum()), int((row.labels >= 0).sum()))
        index = (int(packed.tokens_per_row[number]), int(packed.supervised_per_row[number]))
        if found != index:
            problems.append(
                f"source '{reader.plan.sources[source].name}', row {number}: "
                f"{found} tokens and targets read, {index} in the index"
            )
    return count, problems
