"""What goes wrong in a run: gradients that are not finite, strange checkpoints, a second signal."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_rank import joined, rows_of, train_here
from tiny import tiny_recipe

from alloy.runs import training
from checkpoints.folder import MANIFEST, chosen, describe, step_name, steps, write_json
from checkpoints.tensors import WEIGHTS, read_tensors
from configs import CheckFailed, UserError
from mixing.blend.rows import IGNORED, Row, RowReader
from pretrain.engine.engine import Engine
from pretrain.job import STOPPED
from pretrain.ranks import worker
from pretrain.run_folder import Metrics, read_metrics

STEP_TOKENS = 8 * 32


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


def recipe(tiny: Path, home: Path, length: int = 12, **train: Any) -> dict[str, Any]:
    keys = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 4, **train}
    schedule = {"tokens": length * STEP_TOKENS, "batch_tokens": STEP_TOKENS, "peak_lr": 0.003}
    schedule |= {"warmup": 0.0, "anneal": 0.0}
    return {**tiny_recipe(tiny, home, train=keys, schedule=schedule), "name": "run"}


def spoil(monkeypatch: pytest.MonkeyPatch, spoiled: set[int]) -> None:
    """Make the gradients of these steps (1-based) infinite, in one micro batch of two."""
    done = 0
    micro_batch = 0
    backward, step = Engine.backward, Engine.step

    def backward_(self: Engine, loss_share: torch.Tensor) -> None:
        nonlocal micro_batch
        micro_batch += 1
        bad = done + 1 in spoiled and micro_batch == 2
        backward(self, loss_share * float("inf") if bad else loss_share)

    def step_(self: Engine, lr: float) -> bool:
        nonlocal done, micro_batch
        done, micro_batch = done + 1, 0
        return step(self, lr)

    monkeypatch.setattr(Engine, "backward", backward_)
    monkeypatch.setattr(Engine, "step", step_)


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_steps_without_finite_gradients_are_counted_and_left_out(
    zero: int,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tree = recipe(tiny, tmp_path, zero=zero, checkpoint_tokens=STEP_TOKENS, keep_last=20)
    with monkeypatch.context() as patch:
        spoil(patch, {4, 5})
        run = train_here(tree, patch)
    assert [n for n, ok in enumerate(rows_of(run, "applied"), 1) if not ok] == [4, 5]
    told = [line for line in capfd.readouterr().out.splitlines() if "NON-FINITE" in line]
    assert [line.split("  ")[0] for line in told] == ["alloy| step 4/12", "alloy| step 5/12"]
    # Their rows were not trained on: neither counted, nor in the weights.
    assert json.loads((run / "lineage.json").read_text())["skipped_steps"] == [4, 5]
    tokens = rows_of(run, "supervised_tokens")
    assert tokens[2] == tokens[3] == tokens[4] < tokens[5]
    kept = [dict(read_tensors(chosen(run, step), WEIGHTS)) for step in (3, 5, 6)]
    for name, tensor in kept[0].items():
        assert tensor.equal(kept[1][name]), name
    assert not all(tensor.equal(kept[2][name]) for name, tensor in kept[0].items())
    assert all(tensor.isfinite().all() for tensor in kept[2].values())


def test_too_many_in_a_row_end_the_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = recipe(tiny, tmp_path, max_skipped_steps=2, checkpoint_tokens=STEP_TOKENS)
    with monkeypatch.context() as patch:
        spoil(patch, {2, 3, 5, 6, 7})
        with pytest.raises(CheckFailed, match=r"3 steps in a row .* the last at 7"):
            train_here(tree, patch)
    # With other rows, or a lower rate, it would go on from the last checkpoint.
    assert max(steps(tmp_path / "run/checkpoints")) == 6
    train_here(tree, monkeypatch)
    lineage = json.loads((tmp_path / "run/lineage.json").read_text())
    assert (lineage["steps"], lineage["skipped_steps"]) == (12, [2, 3, 5, 6])


def test_rows_without_the_targets_that_gradients_were_divided_by_end_the_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a corpus that was changed under its plan."""
    plain = RowReader.row

    def without_a_target(self: RowReader, position: int) -> Row:
        row = plain(self, position)
        if position == 20:  # of the third step
            row.labels[np.flatnonzero(row.labels != IGNORED)[0]] = IGNORED
        return row

    monkeypatch.setattr(RowReader, "row", without_a_target)
    with pytest.raises(
        CheckFailed, match=r"a step had \d+ supervised tokens, the plan \d+"
    ) as told:
        train_here(recipe(tiny, tmp_path, checkpoint_tokens=STEP_TOKENS), monkeypatch)
    trained, planned = (int(n) for n in re.findall(r"\d+", told.value.message))
    assert trained == planned - 1
    assert max(steps(tmp_path / "run/checkpoints")) == 2


def test_steps_before_a_start_count_as_in_a_row(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run that is started again and again comes to its end without a step applied."""
    tree = recipe(tiny, tmp_path, max_skipped_steps=2, checkpoint_tokens=STEP_TOKENS)
    for first in (2, 1, 1):
        with monkeypatch.context() as patch:
            spoil(patch, set(range(first, 13)))
            with pytest.raises(CheckFailed, match=r"3 steps in a row .* the last at 4"):
                train_here(tree, patch)
    assert max(steps(tmp_path / "run/checkpoints")) == 3


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"hidden_size": 48}, r"of shape \(\d+, 32\) does not fit"),
        ({"num_hidden_layers": 3}, "no weights for 'model.layers.2"),
        ({"num_hidden_layers": 1}, "'model.layers.1"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused(
    change: dict[str, int],
    part: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a resumed run, and as the base of another."""
    run = train_here(recipe(tiny, tmp_path), monkeypatch)
    path = run / "checkpoints" / step_name(12)
    config = json.loads((path / "config.json").read_text()) | change
    (path / "config.json").write_text(json.dumps(config))
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"]["config.json"] = describe(path / "config.json")
    write_json(path / MANIFEST, manifest)
    kept = {p: p.read_bytes() for p in path.iterdir()}
    branch = {**recipe(tiny, tmp_path), "base": {"model": str(run)}, "name": "branch"}
    for tree in (recipe(tiny, tmp_path, length=20), branch):
        with pytest.raises(UserError, match=part) as refused:
            train_here(tree, monkeypatch)
        assert str(path) in refused.value.message
        assert "another architecture" in refused.value.hint
    assert {p: p.read_bytes() for p in path.iterdir()} == kept


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"base": {"max_position_embeddings": 16}}, "seq_len 32 is over the 16 positions"),
        ({"train": {"device": "cuda"}}, "device cuda: torch finds no such device"),
    ],
)
def test_a_model_or_machine_that_does_not_fit_is_refused(
    change: dict[str, dict[str, Any]],
    part: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the ranks, who see the model itself."""
    monkeypatch.setattr(training, "require_rows_fit", lambda *_: None)
    tree = recipe(tiny, tmp_path)
    tree["base"]["architecture"] |= change.get("base", {})
    tree["train"] |= change.get("train", {})
    with pytest.raises(UserError, match=part):
        train_here(tree, monkeypatch)


def test_rows_that_a_crash_spoiled_cost_no_others(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"st\n\xff\0\0\n{"step": 4}\n{"step": 5}\n{"step": 6')
    assert [row["step"] for row in read_metrics(path)] == [1, 4, 5]
    metrics = Metrics(path, 4)
    metrics.write({"step": 5})
    metrics.close()
    assert path.read_text() == '{"step": 1}\n{"step": 4}\n{"step": 5}\n'


def test_a_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is for the next step's end; what launchers repeat within seconds is the first."""
    handlers: dict[int, Any] = {}
    clock = [100.0]
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)  # else, under nohup
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def ended(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", ended)
    stop = worker.StopFlag()
    assert not stop()
    for seconds in (0.0, 0.3, 4.9):
        clock[0] = 100 + seconds
        handlers[signal.SIGINT](signal.SIGINT, None)
        assert stop()
    clock[0] = 105.1
    with pytest.raises(SystemExit) as left:
        handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert left.value.code == 128 + signal.SIGTERM
    assert left.value.code != STOPPED
