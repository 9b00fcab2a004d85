"""A run measured at the ends of its stages."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from one_rank import joined, train_here
from tiny import tiny_recipe
from transformers import AutoModelForCausalLM

from alloy.planning.planning import plan_recipe
from alloy.runs.stages import evaluate_stages
from checkpoints.folder import chosen
from checkpoints.tensors import WEIGHTS, read_tensors
from configs import UserError
from configs.load import parse_recipe
from pretrain.training.schedule import stage_ends
from pretrain.training.watch import duration


@pytest.fixture(autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


def test_every_stage_end_is_exported_and_measured_once(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of warm-up, six stable, three of anneal: the ends are at 9 and 12."""
    train = {"zero": 2, "precision": "fp32", "ranks": 1, "micro_batch_rows": 4}
    tree = tiny_recipe(tiny, tmp_path, train=train)
    tree["base"]["architecture"]["max_position_embeddings"] = 64
    recipe = parse_recipe(tree)
    with pytest.raises(UserError, match="no stage has ended yet; the first does after step 9"):
        evaluate_stages(recipe, plan_recipe(recipe), print)
    run = train_here(tree, monkeypatch)
    found = evaluate_stages(recipe, plan_recipe(recipe), print)
    assert list(found) == [9, 12]
    for step in found:
        folder = run / "stages" / f"step_{step:09d}"
        exported = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        parameters = dict(exported.named_parameters())
        for name, tensor in read_tensors(chosen(run, step), WEIGHTS):
            assert tensor.equal(parameters[name].data), name
        stored = json.loads((run / "evals" / folder.name / "summary.json").read_text())
        assert stored["bpb"]["wiki"]["bpb"] == found[step]["bpb"]["wiki"]["bpb"]
    assert found[9]["bpb"]["wiki"]["bpb"] != found[12]["bpb"]["wiki"]["bpb"]
    written = {p: p.stat().st_mtime_ns for p in (run / "stages").rglob("*")}
    evaluate_stages(recipe, plan_recipe(recipe), print)
    assert {p: p.stat().st_mtime_ns for p in (run / "stages").rglob("*")} == written


@pytest.mark.parametrize(
    ("schedule", "ends"),
    [
        ({"warmup": 0.25, "anneal": 0.25}, [9, 12]),
        ({"warmup": 0.25, "anneal": 0.75}, [3, 12]),  # nothing between warm-up and anneal
        ({"warmup": 0.25, "anneal": 0.0}, [12]),
    ],
)
def test_there_is_a_checkpoint_before_and_after_each_anneal(
    schedule: dict[str, float], ends: list[int], tiny: Path, tmp_path: Path
) -> None:
    tree = tiny_recipe(tiny, tmp_path)
    tree["schedule"] |= schedule
    assert stage_ends(plan_recipe(parse_recipe(tree, ())).plan) == ends


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (48.4, "48 s"),
        (120.4, "120 s"),
        (121, "2 min"),
        (3_569, "59 min"),
        (3_599, "1 h 0 min"),
        (86_340, "23 h 59 min"),
        (864_000 - 3_600, "9 d 23 h"),
    ],
)
def test_time_left_is_told_in_units_of_its_size(seconds: float, told: str) -> None:
    assert duration(seconds) == told
