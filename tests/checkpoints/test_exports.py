"""Exports of several architectures against the live model, merges and averages."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from one_rank import engines_made, joined, train_here
from tiny import tiny_recipe
from transformers import AutoModelForCausalLM

from alloy.commands import export, merge
from alloy.planning.planning import plan_recipe
from alloy.planning.resources import disk_use, rank_memory, weights_of
from alloy.runs.merging import average_last, merge_between, merge_residual, open_part, told
from checkpoints.export import LOGIT_TOLERANCE
from checkpoints.folder import open_checkpoint, step_name
from checkpoints.merge import between, mean, residual
from checkpoints.tensors import WEIGHTS, read_tensors
from configs import UserError
from configs.load import parse_recipe

STEP_TOKENS = 8 * 32
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {**SIZES, **HEADS},
    "qwen3": {**SIZES, **HEADS, "head_dim": 16, "tie_word_embeddings": True},
    "olmo2": {**SIZES, **HEADS, "pad_token_id": None},
    "gpt_neox": {**SIZES, "num_attention_heads": 2, "rotary_pct": 0.5},
    "gemma3_text": {**SIZES, **HEADS, "head_dim": 16, "sliding_window": 64, "pad_token_id": 0},
}


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


def recipe(tiny: Path, home: Path, model_type: str, zero: int = 2) -> dict[str, Any]:
    raw = {"zero_optimization": {"stage3_param_persistence_threshold": 0}} if zero == 3 else {}
    train = {"zero": zero, "precision": "fp32", "ranks": 1, "micro_batch_rows": 4}
    train |= {"deepspeed": raw, "checkpoint_tokens": STEP_TOKENS, "keep_last": 9}
    schedule = {"tokens": 3 * STEP_TOKENS, "batch_tokens": STEP_TOKENS, "peak_lr": 0.01}
    base = {"architecture": {"model_type": model_type, **SHAPES[model_type]}}
    tree = tiny_recipe(tiny, home, train=train, schedule=schedule, base=base)
    return {**tree, "name": model_type}


@pytest.mark.parametrize("zero", [2, 3])
@pytest.mark.parametrize("model_type", SHAPES)
def test_export_has_the_logits_of_the_live_model(
    model_type: str, zero: int, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = engines_made(monkeypatch)
    run = train_here(recipe(tiny, tmp_path, model_type, zero), monkeypatch)
    words = live[0].config.vocab_size
    ids = torch.randint(0, words, (2, 24), generator=torch.Generator().manual_seed(0))
    live[0].module.eval()
    with torch.no_grad():
        expected = live[0].forward(input_ids=ids)
        reloaded = AutoModelForCausalLM.from_pretrained(run / "export", dtype=torch.float32)
        found = reloaded.eval()(ids).logits
    assert float((found - expected).abs().max()) <= LOGIT_TOLERANCE
    assert float(expected.std()) > 1e-3, "logits that do not depend on anything"


def test_exports_are_read_by_whom_the_folder_says(run: Path) -> None:
    modes = {file.stat().st_mode & 0o777 for file in (run / "export").iterdir()}
    assert modes == {(run / "export").stat().st_mode & 0o666}


def test_the_plan_tells_what_is_written(run: Path, tiny: Path, tmp_path: Path) -> None:
    """Of a run from the folder of a finished one, whose files it will be as large as."""
    tree = recipe(tiny, tmp_path, "llama") | {"base": {"model": str(run / "export")}}
    described = parse_recipe(tree)
    planned = plan_recipe(described)
    weights = weights_of(planned.start, None)
    disk = disk_use(described, weights, planned.plan)
    assert disk is not None
    written = sorted((run / "checkpoints").glob("step_*"))
    sizes = [sum(f.stat().st_size for f in step.glob("*.safetensors")) for step in written]
    headers = 20_000
    assert disk.checkpoints == len(written)
    assert disk.checkpoint_bytes <= min(sizes) <= max(sizes) < disk.checkpoint_bytes + headers
    export = (run / "export" / "model.safetensors").stat().st_size
    assert disk.export_bytes <= export < disk.export_bytes + headers
    (line,) = disk.lines()
    assert line.startswith("disk: ")
    assert "are free" in replace(disk, free_bytes=disk.bytes - 1).lines()[1]
    assert len(replace(disk, free_bytes=3 * disk.bytes).lines(arms=3)) == 1
    assert "are free" in replace(disk, free_bytes=3 * disk.bytes - 1).lines(arms=3)[1]
    memory = rank_memory(weights, described.train)
    assert memory is not None
    assert memory.weights == disk.export_bytes  # fp32, and every rank has them all
    line = memory.line(described.train.ranks)
    assert re.match(r"memory: \S+ GB of each of 1 ranks beside activations: weights \S+ GB, ", line)


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run that tests only read, with a checkpoint at each of its three steps."""
    with pytest.MonkeyPatch.context() as patch:
        yield train_here(recipe(tiny, tmp_path_factory.mktemp("run"), "llama"), patch)


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return dict(read_tensors(open_checkpoint(run / "checkpoints" / step_name(step)), WEIGHTS))


def exported(folder: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return dict(model.named_parameters())


def test_merges_on_disk(run: Path, tmp_path: Path) -> None:
    first, last = (run / "checkpoints" / step_name(s) for s in (1, 3))
    parts = [open_part(str(p)) for p in (first, last, run / "export")]
    merge_between(parts[0], parts[1], 0.25, tmp_path / "between")
    found = exported(tmp_path / "between")
    for name, old in weights(run, 1).items():
        expected = 0.75 * old + 0.25 * weights(run, 3)[name]
        assert torch.allclose(found[name], expected, atol=1e-7), name
    record = json.loads((tmp_path / "between/merge.json").read_text())
    assert (record["lambda"], record["base"]["step"], record["trained"]["step"]) == (0.25, 1, 3)
    parts = [open_part(str(p)) for p in (first, last, run / "export")]
    merge_residual(parts[0], parts[1], parts[2], 1.0, tmp_path / "residual")
    for name, tensor in exported(tmp_path / "residual").items():
        twice = 2 * weights(run, 3)[name] - weights(run, 1)[name]
        assert torch.allclose(tensor, twice, atol=1e-6), name


def test_average_of_the_last_checkpoints(run: Path, tmp_path: Path) -> None:
    average_last(run, 2, tmp_path / "mean")
    for name, tensor in exported(tmp_path / "mean").items():
        expected = (weights(run, 2)[name] + weights(run, 3)[name]) / 2
        assert torch.allclose(tensor, expected, atol=1e-7), name
    with pytest.raises(UserError, match="3 good checkpoints, 4 are to be averaged"):
        average_last(run, 4, tmp_path / "more")


def test_ends_of_a_line_are_exact(run: Path) -> None:
    base, trained = weights(run, 1), weights(run, 3)
    for share, expected in ((0.0, base), (1.0, trained)):
        for name, tensor in between(base, trained, share).items():
            assert tensor.equal(expected[name]), name
    for name, tensor in residual(trained, base, base, 1.0).items():
        assert tensor.equal(trained[name]), name
    for name, tensor in mean([base, base, base]).items():
        assert tensor.equal(base[name]), name


def test_strangers_are_not_merged(run: Path) -> None:
    base = weights(run, 1)
    name = min(base)
    with pytest.raises(UserError, match="only the base has"):
        between(base, {n: t for n, t in base.items() if n != name}, 0.5)
    with pytest.raises(UserError, match=r"is \(.*\) in the base and"):
        between(base, {**base, name: base[name][:-1]}, 0.5)


def test_nothing_but_a_model_is_replaced(run: Path, tmp_path: Path) -> None:
    """A run, a checkpoint, a folder of other things and a file all stay as they were."""
    average_last(run, 2, tmp_path / "mean")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("notes")
    checkpoint = run / "checkpoints" / step_name(2)
    for target in (run, checkpoint, checkpoint.parent, tmp_path, tmp_path / "file"):
        before = sorted(target.rglob("*"))
        with pytest.raises(UserError, match="something other than an exported model"):
            average_last(run, 3, target)
        assert target.exists()
        assert sorted(target.rglob("*")) == before
    for target in ("mean", "empty"):
        average_last(run, 3, tmp_path / target)
        assert (tmp_path / target / "model.safetensors").is_file()


def test_damaged_checkpoints_that_are_passed_over_are_said(run: Path) -> None:
    assert told(run, [1, 3]) == [
        f"{run}: step 1, 3",
        f"warning: {run}: step 2 damaged and passed over, see `alloy checkpoints {run}`",
    ]
    assert told(run, [3]) == [f"{run}: step 3"]
    assert told(run / "checkpoints" / step_name(1), [1])[1:] == []


def test_verbs(run: Path, tmp_path: Path, alloy: Any) -> None:
    asked = [str(run), "--average", "2", "--out", str(tmp_path / "mean")]
    done = CliRunner().invoke(export.command, asked)
    assert done.exit_code == 0, done.output
    half = ["--base", run / "export", "--trained", run, "--out", tmp_path / "half"]
    with pytest.raises(UserError, match="--lambda"):
        CliRunner().invoke(merge.command, list(map(str, half)), catch_exceptions=False)
    done = alloy("merge", *half, "--lambda", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lambda"] == 0.5
    assert f"{run}: step 3\n" in done.stderr
    assert "Loading weights" not in done.stderr
