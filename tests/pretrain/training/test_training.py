"""Real two-rank runs under the deepspeed launcher, against a plain loop and against themselves."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from places import ALLOY
from reference import closed_form_lr, reference_losses
from tiny import WORDS, tiny_recipe, write_recipe

from checkpoints.folder import chosen, last_good, step_name, steps
from checkpoints.tensors import EXP_AVG, WEIGHTS, read_tensors
from pretrain.job import read_job
from pretrain.run_folder import read_metrics

LOSS_TOLERANCE = 1e-5
WEIGHT_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
"""Of the norm of a parameter's gradient."""
RESUMED_TOLERANCE = 1e-4
"""Of losses and weights after a change of the ranks."""
STEP_TOKENS = 8 * 32


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(run / "metrics.jsonl")]


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint, refused = last_good(run / "checkpoints")
    assert checkpoint is not None
    assert not refused
    return dict(read_tensors(checkpoint, WEIGHTS))


def train(alloy: Callable[..., Any], recipe: dict[str, Any], folder: Path) -> Path:
    done = alloy("train", write_recipe(folder / "recipe.yaml", recipe))
    assert done.returncode == 0, done.stderr
    return Path(recipe["run_dir"]) / recipe["name"]


def tiny_train(zero: int, **keys: Any) -> dict[str, Any]:
    # The default threshold keeps small parameters whole and would hide what ZeRO 3 does.
    raw = {"zero_optimization": {"stage3_param_persistence_threshold": 0}} if zero == 3 else {}
    train = {"zero": zero, "precision": "fp32", "ranks": 2, "micro_batch_rows": 2}
    return {**train, "deepspeed": raw, **keys}


@pytest.mark.parametrize(
    "zero", [*(pytest.param(zero, marks=pytest.mark.slow) for zero in (0, 1, 2)), 3]
)
def test_two_ranks_equal_a_plain_loop(
    zero: int, tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """Twelve steps of two accumulated micro batches, half of the domain's tokens without a target,
    so that ranks and micro batches differ in what they supervise."""
    require_plain_loop(tiny, tmp_path, alloy, tiny_train(zero))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zero", "keys"),
    [
        (1, {"reduce_scatter": False, "use_multi_rank_bucket_allreduce": False}),
        (2, {"overlap_comm": True, "contiguous_gradients": False}),
        (2, {"allgather_partitions": False, "offload_optimizer": {"device": "cpu"}}),
        (3, {"overlap_comm": True, "offload_param": {"device": "cpu"}}),
        (3, {"stage3_allgather_sequential": True, "memory_efficient_linear": False}),
        (3, {"stage3_use_all_reduce_for_fetch_params": True, "enable_sanity_checks": True}),
    ],
)
def test_raw_keys_leave_the_result_as_it_is(
    zero: int, keys: dict[str, Any], tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """In buckets and groups that are small beside the model, as default ones are beside real
    models."""
    raw = {"zero_optimization": small_groups(zero) | keys}
    require_plain_loop(tiny, tmp_path, alloy, tiny_train(zero, deepspeed=raw))


def small_groups(zero: int) -> dict[str, Any]:
    found = {"reduce_bucket_size": 13_000, "allgather_bucket_size": 3000}
    if zero < 3:
        return found
    found |= {"stage3_param_persistence_threshold": 0, "stage3_prefetch_bucket_size": 1000}
    found |= {"sub_group_size": 3000, "stage3_max_live_parameters": 0}
    return found | {"stage3_max_reuse_distance": 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "before", "after"),
    [("bf16", (3, 2), (3, 2)), ("fp32", (3, 1), (2, 2)), ("fp32", (2, 2), (0, 1))],
)
def test_small_groups_go_on_from_a_checkpoint(
    precision: str,
    before: tuple[int, int],
    after: tuple[int, int],
    tiny: Path,
    tmp_path: Path,
    alloy: Callable[..., Any],
) -> None:
    """To the bit in the same shape, (ZeRO stage, ranks); with other groups in another."""

    def trained(shape: tuple[int, int]) -> tuple[list[float], dict[str, torch.Tensor]]:
        zero, ranks = shape
        raw = {"zero_optimization": small_groups(zero)} if zero else {}
        keys = tiny_train(zero, ranks=ranks, precision=precision, deepspeed=raw)
        keys |= {"checkpoint_tokens": STEP_TOKENS, "keep_last": 20}
        run = train(alloy, tiny_recipe(tiny, tmp_path / "runs", train=keys), tmp_path)
        return losses(run), weights(run)

    whole, whole_weights = trained(before)
    run = tmp_path / "runs/tiny"
    for step in range(6, 13):
        shutil.rmtree(run / "checkpoints" / step_name(step))
    again, again_weights = trained(after)
    exact = before == after
    assert again == (whole if exact else pytest.approx(whole, abs=RESUMED_TOLERANCE))
    for name, tensor in whole_weights.items():
        allowed = 0.0 if exact else RESUMED_TOLERANCE
        assert float((again_weights[name] - tensor).abs().max()) <= allowed, name


def require_plain_loop(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any], train_keys: dict[str, Any]
) -> None:
    """Losses, the first gradient and the last weights are those of ``reference.py``."""
    often = {**train_keys, "checkpoint_tokens": STEP_TOKENS, "keep_last": 20}
    recipe = tiny_recipe(tiny, tmp_path / "runs", train=often)
    recipe["data"]["sources"][0] = masked_source(tmp_path / "asked.jsonl")
    run = train(alloy, recipe, tmp_path)
    uneven = [row["supervised_tokens"] for row in read_metrics(run / "metrics.jsonl")]
    assert len(set(np.diff(uneven))) > 1
    expected, expected_weights, gradient = reference_losses(run)
    assert losses(run) == pytest.approx(expected, abs=LOSS_TOLERANCE)
    found = weights(run)
    assert found.keys() == expected_weights.keys() == gradient.keys()
    # After one step from zero, the first moment is (1 - beta1) times the clipped gradient.
    moments = dict(read_tensors(chosen(run, 1), EXP_AVG))
    for name, tensor in found.items():
        assert torch.allclose(tensor, expected_weights[name], rtol=0, atol=WEIGHT_TOLERANCE), name
        difference = (moments[name] / (1 - 0.9) - gradient[name]).norm()
        assert difference <= GRADIENT_TOLERANCE * gradient[name].norm(), name


def masked_source(path: Path) -> dict[str, Any]:
    """Questions, which are not supervised, of very different lengths, and answers, which are."""
    rng = random.Random(3)
    rows = [
        {
            "prompt": " ".join(rng.choices(WORDS, k=rng.choice([1, 3, 12]))),
            "response": " ".join(rng.choices(WORDS, k=rng.choice([1, 4, 9]))),
        }
        for _ in range(200)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"name": "own", "role": "domain", "path": str(path), "format": "prompt_response"}


@pytest.mark.slow
def test_rows_that_do_not_divide_among_ranks_change_nothing(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """Seven rows a step on two ranks in micro batches of three: places stay empty."""
    schedule = {
        "tokens": 10 * 7 * 32,
        "batch_tokens": 7 * 32,
        "peak_lr": 0.003,
        "warmup": 0.2,
        "anneal": 0.5,
    }
    recipe = tiny_recipe(
        tiny, tmp_path / "runs", schedule=schedule, train=tiny_train(2, micro_batch_rows=3)
    )
    run = train(alloy, recipe, tmp_path)
    expected, _, _ = reference_losses(run)
    assert losses(run) == pytest.approx(expected, abs=LOSS_TOLERANCE)


def test_sigterm_saves_and_another_world_size_goes_on(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """Stopped on two ranks, finished on one: the losses of an uninterrupted run."""
    schedule = {
        "tokens": 80 * 8 * 32,
        "batch_tokens": 8 * 32,
        "peak_lr": 0.003,
        "warmup": 0.1,
        "anneal": 0.2,
    }
    sources = tiny_recipe(tiny, tmp_path)["data"]["sources"]
    more = [{**s, "max_epochs": 50} for s in sources]
    data = {**tiny_recipe(tiny, tmp_path)["data"], "sources": more}
    whole = tiny_recipe(tiny, tmp_path / "whole", schedule=schedule, data=data)
    expected = losses(train(alloy, whole, tmp_path))
    cut = tiny_recipe(tiny, tmp_path / "cut", schedule=schedule, data=data)
    path = write_recipe(tmp_path / "cut.yaml", cut)
    run = tmp_path / "cut/tiny"
    process = subprocess.Popen([ALLOY, "train", str(path)], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(read_metrics(run / "metrics.jsonl")) >= 5, process)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=1200)
    assert process.returncode == 1, told
    assert "saved and stopped" in told
    stopped_at = max(steps(run / "checkpoints"))
    assert 5 <= stopped_at < 80
    done = alloy("train", path, "--set", "train.ranks=1")
    assert done.returncode == 0, done.stderr
    assert f"step {stopped_at}" in done.stderr
    found = losses(run)
    assert found[:stopped_at] == expected[:stopped_at]
    assert found == pytest.approx(expected, abs=1e-4)


def test_killed_run_is_bit_identical_to_an_uninterrupted_one(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """SIGKILL everything, launcher and command too, at a random instant of a run that saves after
    each step; then finish it. Fifty kills of the ranks: tests/test_surviving.py."""
    often = tiny_train(2, checkpoint_tokens=STEP_TOKENS)
    whole = train(alloy, tiny_recipe(tiny, tmp_path / "whole", train=often), tmp_path)
    cut = tiny_recipe(tiny, tmp_path / "cut", train=often)
    path = write_recipe(tmp_path / "cut.yaml", cut)
    run = tmp_path / "cut/tiny"
    process = subprocess.Popen(
        [ALLOY, "train", str(path)], stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_for(lambda: len(read_metrics(run / "metrics.jsonl")) > 1, process)
    time.sleep(random.Random(1).uniform(0, 0.2))
    kill_everything(process.pid, run)
    process.wait()
    assert not (run / "lineage.json").exists(), "it was complete before it could be killed"
    done = alloy("train", path)
    assert done.returncode == 0, done.stderr
    assert losses(run) == losses(whole)
    job = read_job(run / "job.json")
    rates = [row["lr"] for row in read_metrics(run / "metrics.jsonl")]
    assert rates == pytest.approx([closed_form_lr(s, 12, job) for s in range(12)], rel=1e-12)
    expected = weights(whole)
    for name, tensor in weights(run).items():
        assert torch.equal(tensor, expected[name]), name


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    for _ in range(24_000):
        if condition() or process.poll() is not None:
            return
        time.sleep(0.05)
    raise AssertionError("waited twenty minutes in vain")


def kill_everything(parent: int, run: Path) -> None:
    """SIGKILL the command and every process that names the run folder."""
    os.kill(parent, signal.SIGKILL)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(run / "job.json") in words:
                try:
                    os.kill(int(entry.name), signal.SIGKILL)
                except ProcessLookupError:
                    continue


@pytest.mark.slow
def test_damaged_checkpoint_is_refused_by_name_and_the_one_before_taken(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    often = tiny_train(1, checkpoint_tokens=8 * 32)
    recipe = tiny_recipe(tiny, tmp_path / "runs", train=often)
    run = train(alloy, recipe, tmp_path)
    expected = losses(run)
    newest = sorted((run / "checkpoints").iterdir())[-1]
    victim = newest / "tensors_00001.safetensors"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    listed = alloy("checkpoints", run)
    assert listed.returncode == 1
    assert str(victim) in listed.stderr
    done = alloy("train", tmp_path / "recipe.yaml")
    assert done.returncode == 0, done.stderr
    assert f"refused checkpoint: {victim}" in done.stderr
    assert losses(run) == expected


@pytest.mark.slow
def test_folders_named_like_packages_do_not_shadow_them(
    tiny: Path, tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    """Through the launcher too, from a working folder with evals/ and configs/ of its own."""
    for name in ("evals", "configs", "mixing", "pretrain", "checkpoints", "alloy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_recipe(tiny, Path("runs")))
    done = alloy("train", recipe, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "runs/tiny/lineage.json").read_text())["steps"] == 12
