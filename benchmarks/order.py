"""The order of rows: exactness against Megatron's rule, and what planning and seeking cost.

    python benchmarks/order.py [--mixes 200] [--json order.json]

Megatron's rule is re-implemented here from its description (the source furthest behind n w comes
next, with n at least 1), so only its exactness is compared and not its speed.
"""

import json
import resource
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from mixing.order import slot_sequence
from mixing.plan import PhaseAsk, Plan, PlanSource, compile_phases
from mixing.seek import Order

SEQ_LEN = 4096
BATCH_ROWS = 256


@click.command()
@click.option("--mixes", default=200, help="Random mixes for the exactness table.")
@click.option("--slots", default=5000, help="Slots of each random mix.")
@click.option("--tokens", default=10**12, help="Tokens of the virtual corpus.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write JSON.")
def main(mixes: int, slots: int, tokens: int, json_path: Path | None) -> None:
    """Print three tables: exactness, cost of a slot, cost of opening and seeking."""
    results = {
        "exactness": exactness(mixes, slots),
        "slot_cost": [slot_cost(sources) for sources in (2, 10, 50, 500)],
        "virtual_corpus": [virtual_corpus(sources, tokens) for sources in (10, 50, 500)],
    }
    for title, rows in results.items():
        print_table(title, rows)
    if json_path is not None:
        json_path.write_text(json.dumps(results, indent=2), encoding="utf-8")


def exactness(mixes: int, slots: int) -> list[dict[str, Any]]:
    """Worst prefix deviation, in rows, of both rules over the same random mixes."""
    rng = np.random.default_rng(0)
    worst: dict[str, list[float]] = {"alloy": [], "megatron rule": []}
    for _ in range(mixes):
        weights = rng.dirichlet(np.full(int(rng.integers(2, 60)), rng.choice([0.1, 1.0])))
        counts = np.maximum(1, np.floor(weights * slots)).astype(int).tolist()
        worst["alloy"].append(prefix_deviation(slot_sequence(counts), counts))
        worst["megatron rule"].append(prefix_deviation(furthest_behind(counts), counts))
    return [
        {
            "rule": rule,
            "mixes": mixes,
            "worst_deviation_rows": max(deviations),
            "mixes_at_one_row_or_more": sum(d >= 1 for d in deviations),
        }
        for rule, deviations in worst.items()
    ]


def prefix_deviation(sequence: np.ndarray, counts: list[int]) -> float:
    """Largest |rows of a source - n c / Q| over all prefixes n and sources."""
    period, prefixes = sum(counts), np.arange(1, len(sequence) + 1)
    off = [
        np.abs(np.cumsum(sequence == source) * period - prefixes * count).max()
        for source, count in enumerate(counts)
    ]
    return float(max(off)) / period


def furthest_behind(counts: list[int]) -> np.ndarray:
    """Megatron's greedy rule over one period."""
    weights, come = np.array(counts) / sum(counts), np.zeros(len(counts))
    sequence = np.empty(sum(counts), np.int64)
    for slot in range(len(sequence)):
        sequence[slot] = np.argmax(max(slot, 1) * weights - come)
        come[sequence[slot]] += 1
    return sequence


def slot_cost(sources: int) -> dict[str, Any]:
    """A period of a million slots, the finest grid there is."""
    weights = np.random.default_rng(sources).dirichlet(np.ones(sources))
    counts = np.maximum(1, np.floor(weights * 1_000_000)).astype(int)
    counts[0] += 1_000_000 - counts.sum()
    begin = time.perf_counter()
    slots = len(slot_sequence(counts.tolist()))
    seconds = time.perf_counter() - begin
    return {"sources": sources, "slots": slots, "ns_per_slot": seconds / slots * 1e9}


def virtual_corpus(sources: int, tokens: int) -> dict[str, Any]:
    """Compile, open and seek a run over a corpus of which only the sizes exist."""
    begin = time.perf_counter()
    plan = virtual_plan(sources, tokens)
    compiled = time.perf_counter()
    order = Order(plan)
    order.locate_many(np.arange(BATCH_ROWS))
    opened = time.perf_counter()
    rng = np.random.default_rng(1)
    seeks = []
    for position in rng.integers(0, plan.rows - BATCH_ROWS, 300).tolist():
        start = time.perf_counter()
        order.locate_many(np.arange(position, position + BATCH_ROWS))
        seeks.append(time.perf_counter() - start)
    start = time.perf_counter()
    for position in rng.integers(0, plan.rows, 2000).tolist():
        order.locate(position)
    one = (time.perf_counter() - start) / 2000
    return {
        "sources": sources,
        "rows": plan.rows,
        "compile_s": compiled - begin,
        "open_and_first_batch_s": opened - compiled,
        "seek_batch_median_us": float(np.median(seeks[5:])) * 1e6,
        "seek_batch_worst_us": max(seeks[5:]) * 1e6,
        "locate_one_us": one * 1e6,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def virtual_plan(sources: int, tokens: int) -> Plan:
    """Three phases with shares of their own, over sources of unequal size and filling."""
    rng = np.random.default_rng(sources)
    sizes = rng.dirichlet(np.ones(sources)) * tokens / SEQ_LEN
    made = [
        PlanSource(
            name=f"source-{i:03}",
            role="general" if i % 3 else "domain",
            rows=int(rows) + 1,
            tokens=(int(rows) + 1) * 4000,
            supervised_tokens=(int(rows) + 1) * int(rng.integers(3000, 4000)),
            max_epochs=4.0,
            key=f"key-{i}",
            pack_hash=f"rows-{i}",
        )
        for i, rows in enumerate(sizes)
    ]
    steps = tokens // SEQ_LEN // BATCH_ROWS
    asks = []
    for name, part in (("warmup", 0.01), ("stable", 0.79), ("anneal", 0.2)):
        shares = rng.dirichlet(np.full(sources, 2.0)) + 1e-5
        named = {s.name: float(w) for s, w in zip(made, shares / shares.sum(), strict=True)}
        asks.append(PhaseAsk(name, int(steps * part), named))
    return compile_phases(
        made, asks, seq_len=SEQ_LEN, batch_rows=BATCH_ROWS, seed=0, unit="supervised_tokens"
    )


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    click.echo(f"\n{title}")
    cells = [[_shown(value) for value in row.values()] for row in rows]
    columns = list(zip(rows[0], *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    for line in [list(rows[0]), *cells]:
        click.echo("  " + "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
