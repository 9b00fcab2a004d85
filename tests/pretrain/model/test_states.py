"""What a rank's memory is told to hold: by hand, and beside what two ranks do hold."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import python_path

from configs import Train
from pretrain.model.memory import states

PARTED = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
"""Else the tensors of a tiny model, all of them small, would stay whole."""
SETTINGS: list[dict[str, Any]] = [
    {"zero": 0, "precision": "fp32"},
    *({"zero": z, "precision": p} for z in (1, 2) for p in ("bf16", "fp32")),
    *({"zero": 3, "precision": p, "deepspeed": PARTED} for p in ("bf16", "fp32")),
    {"zero": 2, "precision": "bf16", "deepspeed": {"data_types": {"grad_accum_dtype": "bf16"}}},
]


def test_by_hand() -> None:
    """8B weights on 8 ranks, as in the ZeRO paper with gradients in fp32 instead of 16 bits."""
    b = 8 * 10**9

    def found(**keys: Any) -> tuple[float, ...]:
        held = states(b, Train.model_validate({"ranks": 8, **keys}))
        return held.weights / b, held.gradients / b, held.optimizer / b, held.bucket / 1e9

    assert found(zero=1, precision="bf16") == (2, 2 / 8, 12 / 8, 1)
    assert found(zero=2, precision="bf16") == (2, 4 / 8, 12 / 8, 1)
    assert found(zero=3, precision="bf16") == (2 / 8, 4 / 8, 12 / 8, 2)
    assert found(zero=3, precision="bf16", nodes=2) == (2 / 16, 4 / 16, 12 / 16, 2)
    assert found(zero=0, precision="fp32") == (4, 4, 8, 0)
    raw = {"zero_optimization": {"reduce_bucket_size": 1e6, "offload_param": {"device": "cpu"}}}
    assert found(zero=3, precision="fp32", deepspeed=raw) == (4 / 8, 4 / 8, 12 / 8, 0.004)


def test_what_is_offloaded_is_the_hosts() -> None:
    b = 10**9
    kept = {"zero": 2, "precision": "bf16", "ranks": 4}
    whole = states(b, Train.model_validate(kept))
    parted = states(b, Train.model_validate({**kept, "offload_optimizer": True}))
    assert (whole.on_host, parted.on_host) == (0, 4 * b)
    assert whole.device - parted.device == 4 * b
    raw = {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}
    assert states(b, Train.model_validate({**kept, "deepspeed": raw})) == parted


@pytest.mark.slow
def test_two_ranks_hold_what_is_told(tmp_path: Path) -> None:
    """To half a byte a weight or so: there are tables, logits, and at ZeRO 3 what is gathered."""
    command: list[Any] = [
        Path(sys.executable).with_name("torchrun"),
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    command += [
        Path(__file__).with_name("states_here.py"),
        json.dumps(SETTINGS),
        tmp_path / "held.json",
    ]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "PYTHONPATH": python_path()}
    subprocess.run(list(map(str, command)), env=environment, check=True)
    for keys, row in zip(SETTINGS, json.loads((tmp_path / "held.json").read_text()), strict=True):
        told = states(row["count"], Train.model_validate({**keys, "ranks": 2}))
        between = told.weights + told.optimizer
        # ZeRO 3 keeps its sums of gradients and its bucket all the time.
        between += told.gradients + told.bucket if keys["zero"] == 3 else 0
        slack = 0.6 * row["count"]
        for moment in ("first", "second"):
            before, during = row[f"before the {moment}"], row[f"during the {moment}"]
            assert abs(before - between) <= slack, (keys, moment, before, between)
            summed = between + (told.gradients if keys["zero"] < 3 else 0)
            assert abs(during - summed) <= slack, (keys, moment, during, summed)
