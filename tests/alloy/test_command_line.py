"""The command as people use it: answers, mistakes, exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_recipe, train_tokenizer, write_base, write_recipe

Alloy = Callable[..., Any]


def refused(done: Any, *parts: str) -> None:
    """One line and a hint on stderr, exit 2, no traceback."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert sum(line.startswith("hint: ") for line in lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


def test_unknown_key_names_the_nearest(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tiny_recipe(tiny, tmp_path, schedul={}))
    refused(alloy("plan", recipe), "unknown key 'schedul'", "did you mean 'schedule'?")


def test_missing_recipe_and_missing_source(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    refused(alloy("plan", tmp_path / "none.yaml"), "no such recipe")
    recipe = write_recipe(tmp_path / "r.yaml", tiny_recipe(tiny, tmp_path))
    missing = f"data.sources.own.path={tmp_path}/absent.jsonl"
    refused(alloy("build", recipe, "--set", missing), "absent.jsonl")
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").glob("*/manifest*"))


def test_empty_source(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    recipe = write_recipe(tmp_path / "r.yaml", tiny_recipe(tiny, tmp_path))
    empty = f"data.sources.own.path={tmp_path}/empty.jsonl"
    refused(alloy("build", recipe, "--set", empty), "own")


def test_phases_that_do_not_add_up(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tiny_recipe(tiny, tmp_path))
    refused(alloy("plan", recipe, "--set", "schedule.warmup=90%"), "115%")
    refused(alloy("plan", recipe, "--set", "mix.general=1.5"), "mix.general")


def test_share_without_a_source(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    tree = tiny_recipe(tiny, tmp_path)
    tree["data"]["sources"] = [s for s in tree["data"]["sources"] if s["role"] != "general"]
    refused(alloy("plan", write_recipe(tmp_path / "r.yaml", tree)), "general")


def test_source_that_is_too_small(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tiny_recipe(tiny, tmp_path))
    assert alloy("build", recipe).returncode == 0
    refused(alloy("plan", recipe, "--set", "schedule.tokens=1M"), "max_epochs 4")


def test_tokenizer_that_is_not_the_base_s(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    base = tmp_path / "base"
    write_base(base, vocab_size=30)
    tree = tiny_recipe(tiny, tmp_path, base={"model": str(base)})
    recipe = write_recipe(tmp_path / "r.yaml", tree)
    refused(alloy("plan", recipe), "embedding", "30 rows")
    train_tokenizer(base / "tokenizer.json")
    other = json.loads((base / "tokenizer.json").read_text())
    other["model"]["merges"] = []
    other["model"]["vocab"] = {k: v for k, v in other["model"]["vocab"].items() if len(k) == 1}
    (base / "tokenizer.json").write_text(json.dumps(other))
    refused(alloy("plan", recipe), "is not that of the base")


def test_unwritable_run_folder(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    (tmp_path / "file").write_text("")
    recipe = write_recipe(tmp_path / "r.yaml", tiny_recipe(tiny, tmp_path))
    blocked = f"run_dir={tmp_path}/file/runs"
    refused(alloy("train", recipe, "--set", blocked), "not writable")
    assert not (tmp_path / "store").exists()


def test_folder_of_another_run_lists_the_keys(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tiny_recipe(tiny, tmp_path / "runs"))
    (tmp_path / "runs/tiny").mkdir(parents=True)
    assert alloy("build", recipe).returncode == 0
    (tmp_path / "runs/tiny/recipe.json").write_text(json.dumps({"mix": {"general": 0.5}}))
    (tmp_path / "runs/tiny/metrics.jsonl").write_text('{"step": 1}\n')  # it was trained
    refused(alloy("train", recipe), "mix.general", "schedule")


def test_settings_of_another_run_are_refused_before_anything_is_built(
    tiny: Path, tmp_path: Path, alloy: Alloy
) -> None:
    tree = tiny_recipe(tiny, tmp_path / "runs")
    (tmp_path / "runs/tiny").mkdir(parents=True)
    (tmp_path / "runs/tiny/recipe.json").write_text(json.dumps({"data": {"seq_len": 64}}))
    (tmp_path / "runs/tiny/metrics.jsonl").write_text('{"step": 1}\n')  # it was trained
    refused(alloy("train", write_recipe(tmp_path / "r.yaml", tree)), "data.seq_len")
    assert not (tmp_path / "runs/store").exists()


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("train.deepspeed={optimizer: {type: Adam}}", "train.deepspeed.optimizer"),
        ("train={zero: 0, precision: bf16}", "zero 0 with bf16"),
        ("base.model=no/such/folder", "no such folder"),
        ("nonsense", "not key=value"),
        ("name=a/../../b", "name"),
        ("train.deepspeed={zero_optimisation: {}}", "did you mean zero_optimization"),
    ],
)
def test_other_mistakes(override: str, part: str, tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    tree = tiny_recipe(tiny, tmp_path)
    if override.startswith("base"):
        tree["base"] = {}
    recipe = write_recipe(tmp_path / "r.yaml", tree)
    refused(alloy("train", recipe, "--set", override), part)


def test_plan_build_verify_without_a_base(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    """The whole corpus side from a tokenizer.json and a store, without any model."""
    tree = tiny_recipe(tiny, tmp_path)
    del tree["base"]
    recipe = write_recipe(tmp_path / "r.yaml", tree)
    plan = json.loads(alloy("plan", recipe, "--json").stdout)
    assert plan["estimated"]
    built = json.loads(alloy("build", recipe, "--json").stdout)
    assert built["ledger_balanced"]
    for source in built["sources"]:
        assert source["documents_in"] == source["documents_written"]
        assert source["ledger_balanced"]
    plan = json.loads(alloy("plan", recipe, "--json").stdout)
    assert not plan["estimated"]
    assert plan["steps"] == 12
    for phase in plan["phases"]:
        assert sum(s["share"] for s in phase["sources"]) == pytest.approx(1)
        assert sum(s["rows"] for s in phase["sources"]) == phase["rows"]
    verified = alloy("corpus", "verify", recipe, "--json", "--deep")
    assert verified.returncode == 0, verified.stderr
    found = json.loads(verified.stdout)
    assert found["ok"]
    for phase in found["phases"]:
        for source in phase["sources"]:
            assert source["max_prefix_deviation_rows"] < 1
    shown = alloy("corpus", "verify", recipe).stdout
    rows = found["phases"][0]["rows"]
    assert f"under 1 by the rule, here {found['max_prefix_deviation_rows']:.2f}" in shown
    assert f"a row is {100 / rows:.2g}% of {found['phases'][0]['name']}" in shown
    traced = json.loads(alloy("corpus", "trace", recipe, "--step", "1", "--json").stdout)
    assert traced
    first = traced[0]
    back = alloy("corpus", "trace", recipe, "--doc", first["id"], "--json")
    assert first in json.loads(back.stdout)


def test_keys_that_others_read(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    """What scripts take from --json stays where it is, in either unit and for named phases."""
    tree = tiny_recipe(tiny, tmp_path)
    tree["schedule"]["phases"] = {"late": {"token_fraction": 0.25, "general": 0.5}}
    recipe = write_recipe(tmp_path / "r.yaml", tree)
    built = json.loads(alloy("build", recipe, "--json").stdout)
    assert built["ledger_balanced"] is True
    per_source = {"name", "documents_in", "documents_written", "dropped", "tokens", "shards"}
    assert all(per_source <= set(source) for source in built["sources"])
    for unit in ("tokens", "supervised_tokens"):
        change = ("--set", f"mix.unit={unit}", "--json")
        plan = json.loads(alloy("plan", recipe, *change).stdout)
        receipt = json.loads(alloy("corpus", "verify", recipe, *change).stdout)
        assert receipt["ok"] is True
        assert plan["unit"] == receipt["unit"] == unit
        names = [phase["name"] for phase in plan["phases"]]
        assert names == [phase["name"] for phase in receipt["phases"]]
        assert names == ["warmup", "stable", "late", "anneal"]
        for planned, found in zip(plan["phases"], receipt["phases"], strict=True):
            for part, real in zip(planned["sources"], found["sources"], strict=True):
                assert {"rows", "tokens", "supervised_tokens", "epochs", "share"} <= set(part)
                assert real["max_prefix_deviation_rows"] < 1
                assert abs(real["realised_share"] - real["asked_share"]) < 0.1  # of 16 rows
                assert (part["share"], part["rows"]) == (real["asked_share"], real["rows"])
    asked = ("--set", "schedule.tokens_of=domain", "--set", "schedule.tokens=1500", "--json")
    plan = json.loads(alloy("plan", recipe, *asked).stdout)
    assert 1000 < plan["domain"]["supervised_tokens"] <= 1500 + len(plan["phases"])


def test_verify_finds_a_flipped_byte(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tiny_recipe(tiny, tmp_path))
    built = json.loads(alloy("build", recipe, "--json").stdout)
    folder = tmp_path / "store" / built["sources"][0]["key"]
    shard = max(folder.iterdir(), key=lambda p: p.stat().st_size if "shard" in p.name else 0)
    data = bytearray(shard.read_bytes())
    data[0] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(bytes(data))
    done = alloy("corpus", "verify", recipe, "--deep")
    assert done.returncode == 1
    assert shard.name in done.stderr


def test_help_and_plan_do_not_load_torch(tiny: Path, tmp_path: Path, alloy: Alloy) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tiny_recipe(tiny, tmp_path))
    for arguments in (["--help"], ["plan", recipe]):
        done = alloy(*arguments, env={"PYTHONPROFILEIMPORTTIME": "1"})
        assert done.returncode == 0
        loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
        assert "click" in loaded
        assert not loaded & {"torch", "transformers", "deepspeed"}
