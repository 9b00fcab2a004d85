"""The order of rows beside Megatron-core's index helpers and MosaicML Streaming's epoch shuffle.

    python benchmarks/order.py [--mixes 200] [--tokens 1000000000000]

exactness: the same random mixes laid out by both rules. slot_cost: what a period costs when a plan
is compiled. start_up: what every start of a run pays before its first batch, each in a process of
its own: Alloy reads the plan of a run of --tokens; the peers build what they keep, at the sizes
given (a small machine does not hold all of it for 1T tokens). seeks: to 10,000 random steps of that
run, each timed once, and after each an empty loop of 200 us, which shows how long the operating
system takes the core away from either.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.append(str(Path(__file__).parent))
from harness import Row, peer, report, run

from mixing.blend.plan import PhaseAsk, Plan, PlanSource, compile_phases
from mixing.blend.seek import Order
from mixing.blend.slots import slot_sequence

SEQ_LEN = 4096
BATCH_ROWS = 256
SEEKS = 10_000
EMPTY_LOOP_S = 2e-4
"""About as long as a seek."""


@click.command()
@click.option("--mixes", default=200, help="Random mixes for the exactness table.")
@click.option("--slots", default=5000, help="Slots of each random mix.")
@click.option("--tokens", default=10**12, help="Tokens of the virtual corpus.")
@click.option("--blend-rows", default=[10**7, 10**12 // SEQ_LEN], multiple=True)
@click.option("--source-rows", default=[10**6, 10**7, 5 * 10**7], multiple=True)
@click.option("--epoch-rows", default=[10**6, 10**7, 10**8], multiple=True)
@click.option("--open", "plan_path", type=Path, hidden=True, help="Open this plan; print JSON.")
def main(
    mixes: int,
    slots: int,
    tokens: int,
    blend_rows: tuple[int, ...],
    source_rows: tuple[int, ...],
    epoch_rows: tuple[int, ...],
    plan_path: Path | None,
) -> None:
    """Print three tables and write benchmarks/results/order.json."""
    if plan_path is not None:
        print(json.dumps(opened(plan_path)))
        return
    opened_plans = [alloy_start(sources, tokens) for sources in (10, 50, 500)]
    start_up = [started for started, _ in opened_plans]
    start_up += [megatron("blend", rows, 50) for rows in blend_rows]
    start_up += [megatron("source", rows) for rows in source_rows]
    start_up += [streaming(rows) for rows in epoch_rows]
    report(
        "order",
        {
            "exactness": exactness(mixes, slots),
            "slot_cost": [slot_cost(sources) for sources in (2, 10, 50, 500)],
            "start_up": start_up,
            "seeks": [row for _, seeks in opened_plans for row in seeks],
        },
    )


def exactness(mixes: int, slots: int) -> list[dict[str, Any]]:
    """Worst prefix deviation, in rows, of both rules over the same random mixes."""
    rng = np.random.default_rng(0)
    counts: list[list[int]] = []
    for _ in range(mixes):
        weights = rng.dirichlet(np.full(int(rng.integers(2, 60)), rng.choice([0.1, 1.0])))
        counts.append(np.maximum(1, np.floor(weights * slots)).astype(int).tolist())
    with tempfile.TemporaryDirectory() as folder:
        asked, made = Path(folder) / "mixes.json", Path(folder) / "made.npz"
        asked.write_text(json.dumps(counts))
        peer("order_megatron.py", "sequences", asked, made)
        theirs = list(np.load(made).values())
    worst = {
        "alloy": [prefix_deviation(slot_sequence(c), c) for c in counts],
        "megatron-core build_blending_indices": [
            prefix_deviation(found, c) for found, c in zip(theirs, counts, strict=True)
        ],
    }
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


def slot_cost(sources: int) -> dict[str, Any]:
    """A period of a million slots, the finest grid there is."""
    weights = np.random.default_rng(sources).dirichlet(np.ones(sources))
    counts = np.maximum(1, np.floor(weights * 1_000_000)).astype(int)
    counts[0] += 1_000_000 - counts.sum()
    begin = time.perf_counter()
    slots = len(slot_sequence(counts.tolist()))
    seconds = time.perf_counter() - begin
    return {"sources": sources, "slots": slots, "ns_per_slot": seconds / slots * 1e9}


def alloy_start(sources: int, tokens: int) -> tuple[Row, list[Row]]:
    """Compile a run over a corpus of which only the sizes exist; a new process opens its plan.
    Its row among the starts, and its rows among the seeks."""
    begin = time.perf_counter()
    plan = virtual_plan(sources, tokens)
    compiled = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps(plan.to_json()))
        found = json.loads(run([sys.executable, __file__, "--open", str(path)], 1).output)
        plan_mb = path.stat().st_size / 1e6
    size = {"rows": plan.rows, "sources": sources}
    started = {
        "system": "alloy: plan and first batch",
        **size,
        "seconds": found["seconds"],
        "peak_mb": found["peak_mb"],
        "index_mb": plan_mb,
        "once_compiling_s": compiled,
    }
    return started, [{**size, **row} for row in found["seeks"]]


def opened(path: Path) -> dict[str, Any]:
    """What a start costs in this process, importing left out; memory with all imports."""
    begin = time.perf_counter()
    order = Order(Plan.from_json(json.loads(path.read_text())))
    order.locate_many(np.arange(BATCH_ROWS))
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "seeks": seeks(order), "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Of this process; its ru_maxrss would begin with the memory of the one that started it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) / 1024


def seeks(order: Order) -> list[Row]:
    """Wall and CPU time of finding the rows of whole steps anywhere in the run, one try each."""
    steps = np.random.default_rng(1).integers(0, order.plan.steps, SEEKS)
    wall, core, idle = np.zeros((3, SEEKS))
    for i, first in enumerate((steps * BATCH_ROWS).tolist()):
        cpu, begin = time.thread_time(), time.perf_counter()
        order.locate_many(np.arange(first, first + BATCH_ROWS))
        wall[i], core[i] = time.perf_counter() - begin, time.thread_time() - cpu
        begin = time.perf_counter()
        while time.perf_counter() < begin + EMPTY_LOOP_S:
            pass
        idle[i] = time.perf_counter() - begin
    timed = {"wall time of a seek": wall, "its CPU time": core, "wall time of an empty loop": idle}
    return [
        {
            "what": what,
            "seeks": SEEKS,
            "median_us": float(np.median(times)) * 1e6,
            "p99_us": float(np.quantile(times, 0.99)) * 1e6,
            "p99_9_us": float(np.quantile(times, 0.999)) * 1e6,
            "slowest_us": times.max() * 1e6,
            "over_1_ms": int((times > 1e-3).sum()),
        }
        for what, times in timed.items()
    ]


def megatron(what: str, rows: int, sources: int = 1) -> dict[str, Any]:
    arguments = (what, rows, sources) if what == "blend" else (what, rows)
    found, ran = peer("order_megatron.py", *arguments, cores=1)
    told = "blend index" if what == "blend" else "document, sample, shuffle index"
    return {
        "system": f"megatron-core: {told}",
        "rows": rows,
        "sources": sources,
        "seconds": found["seconds"],
        "peak_mb": ran.peak_mb,
        "index_mb": found["index_mb"],
    }


def streaming(rows: int) -> dict[str, Any]:
    found, ran = peer("order_streaming.py", rows, cores=1)
    return {
        "system": "mosaicml streaming: order of an epoch",
        "rows": rows,
        "sources": 1,
        "seconds": found["epoch_order_s"],
        "peak_mb": ran.peak_mb,
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


if __name__ == "__main__":
    main()
