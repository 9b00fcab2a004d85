"""Packing rows and writing a plan, killed at any instant: what is there opens right, and the same
again ends the same.

Run as a script this file is the victim, which forks a child for each kill.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from memory_corpus import whole_documents
from places import python_path

from checkpoints.folder import write_json
from mixing.blend.plan import PhaseAsk, Plan, PlanSource, compile_phases
from mixing.blend.seek import Order
from mixing.packing import packed_store
from mixing.packing.pack import pack


def before(name: str, module: object, call: int = 1, halve: bool = False) -> Callable[[], None]:
    """Arms a child to die at the n-th call of a function, after cutting the file that it is given
    in the middle where asked."""

    def arm() -> None:
        real, calls = getattr(module, name), []

        def dying(*arguments):
            calls.append(1)
            if len(calls) == call:
                if halve:
                    os.truncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        setattr(module, name, dying)

    return arm


WRITE = {
    "half written": before("fsync", os, halve=True),
    "written": before("fsync", os),
    "synced": before("replace", os),
    "renamed": before("fsync", os, call=2),
}
PACK = {
    "not packed": before("pack", packed_store),
    "packed": before("_content", packed_store),
    **WRITE,
}


def killed(arm: Callable[[], None], work: Callable[[], object]) -> int:
    """1 where a child that does the work died of SIGKILL."""
    child = os.fork()
    if child == 0:
        arm()
        work()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == -signal.SIGKILL, status
    return 1


def packing(folder: Path) -> int:
    """Kills in ``stored_rows``, each instant with three sources."""
    confirmed = 0
    for seed in range(3):
        spans = whole_documents(np.random.default_rng(seed).integers(1, 200, 500))
        whole = pack(spans, 64, "best_fit")
        for name, arm in PACK.items():
            store = folder / f"{seed} {name}"
            work = partial(packed_store.stored_rows, store, "k", spans, 64, "best_fit")
            confirmed += killed(arm, work)
            names = sorted(path.name for path in store.rglob("*.rows"))
            assert len(names) == (name == "renamed"), names
            found = work()
            assert found.hash == whole.hash
            assert np.array_equal(found.row_starts, whole.row_starts)
            assert len(list((store / packed_store.FOLDER).iterdir())) == 1  # nothing else is left
    return confirmed


def planning(folder: Path) -> int:
    """Kills in writing a run's plan, the first one and a later one."""
    sources = [PlanSource(n, "domain", 900, 9, 9, 9.0, n, n) for n in ("a", "b")]
    plans = [
        compile_phases(
            sources, [PhaseAsk("stable", steps, {"a": 0.123457, "b": 0.876543})],
            seq_len=64, batch_rows=4, seed=0, unit="tokens",
        )
        for steps in (900, 1800)
    ]  # fmt: skip
    confirmed = 0
    for repeat in range(2):
        for name, arm in WRITE.items():
            path = folder / f"plan {repeat} {name}" / "plan.json"
            path.parent.mkdir()
            there: list[Plan] = []
            for plan in plans:
                confirmed += killed(
                    arm, lambda path=path, plan=plan: write_json(path, plan.to_json())
                )
                there = [plan] if name == "renamed" else there
                read = [Plan.from_json(json.loads(path.read_text()))] if path.exists() else []
                assert read == there
                write_json(path, plan.to_json())
                there = [Plan.from_json(json.loads(path.read_text()))]
                assert there == [plan]
                assert len(list(path.parent.iterdir())) == 1
                Order(there[0]).locate(plan.rows - 1)
    return confirmed


@pytest.mark.parametrize(("stage", "kills"), [("packing", 18), ("planning", 16)])
def test_killed_at_every_instant(stage: str, kills: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, __file__, stage, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"confirmed": kills}


if __name__ == "__main__":
    stage = {"packing": packing, "planning": planning}[sys.argv[1]]
    print(json.dumps({"confirmed": stage(Path(sys.argv[2]))}))
