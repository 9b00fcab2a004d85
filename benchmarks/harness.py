"""What the benchmarks share: the machine in words, tables, JSON, and processes that are timed.

Peers live in an environment of their own (benchmarks/peers.sh makes it); each runs as one process
of a script in benchmarks/peers/ whose last line of output is its result in JSON.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks/peers"
PEER_PYTHON = ROOT / ".venv-peers/bin/python"
CORPORA = ROOT.parent / "shared/data/corpora"
TOKENIZERS = ROOT.parent / "shared/data/tokenizers"
_SAMPLE_S = 0.05

Row = dict[str, Any]


@dataclass(frozen=True)
class Ran:
    """A process that ended well: wall seconds, and the most memory that it and its children had
    at once (proportional set size: shared pages are counted once); ``own_mb`` leaves out pages of
    mapped files, which the system takes back whenever it needs them."""

    seconds: float
    peak_mb: float
    own_mb: float
    output: str


def run(command: Sequence[str], cores: int | None = None) -> Ran:
    """Run a command to its end, on the first ``cores`` of the cores that this process has.

    Raises CalledProcessError with the end of its messages shown where it fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, allowed)), *command],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        )
        watch = _Watch(process.pid)
        output, _ = process.communicate()
        seconds = time.perf_counter() - begin
        peak, own = watch.stop()
        if process.returncode != 0:
            errors.seek(0)
            sys.stderr.write(errors.read().decode()[-3000:])
            raise subprocess.CalledProcessError(process.returncode, command)
    return Ran(seconds, peak, own, output.decode())


def peer(script: str, *arguments: object, cores: int | None = None) -> tuple[Row, Ran]:
    """Run a peer; its result and what it took. Raises SystemExit where peers are not installed."""
    if not PEER_PYTHON.exists():
        raise SystemExit("no peers to compare with: run benchmarks/peers.sh once")
    command = [str(PEER_PYTHON), "-P", str(PEERS / script), *map(str, arguments)]
    ran = run(command, cores)
    return json.loads(ran.output.splitlines()[-1]), ran


class _Watch(threading.Thread):
    """Samples the memory of a process and all below it."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._ended = pid, threading.Event()
        self._peak = self._own = 0.0
        self.start()

    def run(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            found = [_pss_mb(pid) for pid in _family(self._pid)]
            self._peak = max(self._peak, sum(one["Pss"] for one in found))
            self._own = max(self._own, sum(one["Pss"] - one["Pss_File"] for one in found))

    def stop(self) -> tuple[float, float]:
        self._ended.set()
        self.join()
        return self._peak, self._own


def _family(pid: int) -> list[int]:
    """A process and all its descendants that are alive."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(c) for t in tasks for c in (t / "children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(member for child in children for member in _family(child))]


def _pss_mb(pid: int) -> dict[str, float]:
    found = {"Pss": 0.0, "Pss_File": 0.0}
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0]) / 1024
    return found


def machine() -> Row:
    """The machine in words that say nothing of whose it is."""
    cpu = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "python": platform.python_version(),
    }


def report(name: str, tables: dict[str, list[Row]]) -> None:
    """Print tables, and put them into benchmarks/results/<name>.json beside those of other parts
    of the same benchmark."""
    for title, rows in tables.items():
        print_table(title, rows)
    path = ROOT / "benchmarks/results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    told = {
        **before,
        **{title: {"machine": machine(), "rows": rows} for title, rows in tables.items()},
    }
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def print_table(title: str, rows: list[Row]) -> None:
    print(f"\n{title}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_shown(row.get(name)) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  " + "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
