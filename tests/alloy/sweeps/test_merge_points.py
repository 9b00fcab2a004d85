"""Merges of a sweep: the weights between, made once, and points of the report that no law sees."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_sweep import Fake, quiet
from tiny import tiny_recipe
from transformers import LlamaConfig, LlamaForCausalLM

from alloy.reports.drawing.all_figures import figures
from alloy.reports.judging.join import join_report
from alloy.reports.judging.schema import Report
from alloy.reports.records.records import read_records
from alloy.reports.writing.card import model_card
from alloy.reports.writing.markdown import markdown_report
from alloy.sweep_record import SweepRecord
from alloy.sweeps import sweep
from alloy.sweeps.merge_points import merged_model
from checkpoints.export import export_folder
from configs import Recipe
from configs.load import parse_recipe

MERGES = [0.25, 0.75]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    one = Fake(tmp_path)
    monkeypatch.setattr(sweep, "train_recipe", one.train)
    monkeypatch.setattr(sweep, "measure", one.measure)
    monkeypatch.setattr(sweep, "merged_model", lambda *given: given[-1])
    monkeypatch.setattr(sweep, "average_steps", lambda *given: given[-1])
    return one


def recipe(tiny: Path, run_dir: Path, **of_sweep: Any) -> Recipe:
    tree = tiny_recipe(tiny, run_dir, sweep={"general": [0, 0.1, 0.25, 0.5, 1], **of_sweep})
    tree["base"] = {"model": str(tiny)}
    tree["budget"] = {"retention_bpb": 0.2}
    tree["train"]["checkpoint_tokens"] = 512
    for source in tree["data"]["sources"]:
        source["max_epochs"] = 50
    return parse_recipe(tree)


def swept(tiny: Path, run_dir: Path, **of_sweep: Any) -> dict[str, Any]:
    sweep.run_sweep(recipe(tiny, run_dir, **of_sweep), quiet)
    return join_report(read_records(run_dir / "tiny")).to_json()


@pytest.mark.usefixtures("fake")
def test_merges_are_points_and_never_shares(tiny: Path, tmp_path: Path) -> None:
    plain = swept(tiny, tmp_path)
    report = swept(tiny, tmp_path, merge=MERGES, average=[3])
    merges, (average,) = report["arms"][5:7], report["arms"][7:]
    assert (average["kind"], average["average"]) == (
        "average",
        {"checkpoints": 3, "of": "general_0"},
    )
    assert average["general_share"] is None
    assert average["verdicts"]
    assert [a["kind"] for a in merges] == ["merge"] * 2
    assert [a["merge"] for a in merges] == [{"lambda": s, "of": "general_0"} for s in MERGES]
    assert all(a["general_share"] is None and a["exam_accuracy"] is not None for a in merges)
    assert all(a["verdicts"] for a in merges)
    assert report["law"] == plain["law"] != []
    assert report["recommendation"] == plain["recommendation"]
    assert not any("merge" in arm for arm in plain["arms"])
    Report.model_validate(report)
    drawn = {figure.key: figure.chart for figure in figures(report)}
    labels = [p.label for s in drawn["front"].series for p in s.points]
    assert {"merge 0.25", "merge 0.75", "mean of 3"} <= set(labels)
    for key, chart in drawn.items():
        paths = {p.x_path for s in chart.series for p in s.points}
        assert key == "front" or not any(
            (path or "").startswith(("arms.5.", "arms.6.", "arms.7.")) for path in paths
        )
    assert "merge\\_0.25\\_of\\_general\\_0" in markdown_report(report)
    assert "Merged: 0.25 of the way to general\\_0" in model_card(report, merges[0]["name"])
    told = "Mean of the last 3 checkpoints of general\\_0"
    assert told in model_card(report, average["name"])


def test_a_merge_with_a_failed_arm_fails(tiny: Path, tmp_path: Path, fake: Fake) -> None:
    fake.fail = {"general_0": RuntimeError("out of memory")}
    record = sweep.run_sweep(recipe(tiny, tmp_path, merge=[0.5]), quiet).to_json()
    assert SweepRecord.model_validate(record).failures() == [
        "general_0: RuntimeError: out of memory",
        "merge_0.5_of_general_0: general_0 failed",
    ]


def folder(path: Path, tiny: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        eos_token_id=0,
    )
    export_folder(LlamaForCausalLM(config), str(tiny / "tokenizer.json"), path)
    return path


def test_a_merge_is_made_once_of_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    base, trained = (folder(tmp_path / n, tiny, i) for i, n in enumerate(("base", "trained")))
    out = merged_model(base, trained, 0.25, tmp_path / "merge")
    left, right, between = (load_file(f / "model.safetensors") for f in (base, trained, out))
    for name, tensor in between.items():
        assert torch.allclose(tensor, 0.75 * left[name] + 0.25 * right[name], atol=1e-6), name
    made = (out / "merge.json").stat().st_mtime_ns
    merged_model(base, trained, 0.25, out)
    assert (out / "merge.json").stat().st_mtime_ns == made
    folder(trained, tiny, 7)
    merged_model(base, trained, 0.25, out)
    assert not load_file(out / "model.safetensors")["lm_head.weight"].equal(
        between["lm_head.weight"]
    )
