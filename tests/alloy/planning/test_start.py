"""Where a run starts: the catalog, the rate that a recipe leaves open, the matrix of starts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from one_rank import joined, rows_of, train_here
from tiny import tiny_recipe, write_base, write_recipe

from alloy.models import catalog as catalog_file
from alloy.models import hub
from alloy.models.catalog import known_model, open_models, published_revisions
from alloy.models.hub import local_model
from alloy.models.peak_rate import rate_after_open_model, rate_after_run
from alloy.planning.planning import plan_recipe
from alloy.planning.start_matrix import instruct_warning, start_cell, start_lines, warm_steps_needed
from configs import CheckFailed, UserError
from configs.load import parse_recipe

STEP_TOKENS = 8 * 32
OLMO = "allenai/OLMo-2-0425-1B"


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with joined():
        yield


def test_catalog_is_consistent() -> None:
    names = [name for m in open_models() for name in (m.id, *m.also)]
    assert len(names) == len(set(names))
    for model in open_models():
        assert set(model.recalled) <= set(type(model).model_fields)
        for stage in model.stages:
            assert not (stage.annealed and stage.revision in model.stage_ends)
            if stage.end_lr and model.peak_lr:
                assert stage.end_lr <= model.peak_lr


@pytest.mark.parametrize(
    ("name", "revision", "rate", "reason"),
    [
        (OLMO, "stage1-step1907359-tokens4001B", 7.45e-5, "un-annealed"),
        (OLMO, None, 4e-5, "annealed start, 0.1"),
        ("HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints", "step-480000", 3e-3, "un-annealed"),
        ("EleutherAI/pythia-1b", "step143000", 3e-5, "annealed start"),
    ],
)
def test_auto_rate_of_open_models(name: str, revision: str, rate: float, reason: str) -> None:
    found, why = rate_after_open_model(name, revision, known_model(name))
    assert found == pytest.approx(rate)
    assert why.startswith(reason)


@pytest.mark.parametrize(
    ("name", "revision", "part"),
    [
        ("someone/unknown", None, "not in the catalog"),
        (OLMO, "stage1-step10000-tokens21B", "not known"),
        ("HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints", "step-1920000", "not known"),
        ("HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints", None, "not known"),
        ("EleutherAI/pythia-1b", "step1000", "not known"),
        ("allenai/OLMo-2-1124-13B", None, "not known"),
    ],
)
def test_auto_rate_is_never_guessed(name: str, revision: str | None, part: str) -> None:
    with pytest.raises(UserError, match=part):
        rate_after_open_model(name, revision, known_model(name))


def test_auto_rate_after_a_run() -> None:
    parent = {"run": "runs/x", "step": 9, "lr": 2e-4, "peak_lr": 3e-3, "phase": "stable"}
    assert rate_after_run(parent)[0] == 2e-4
    assert rate_after_run({**parent, "phase": "anneal"})[0] == pytest.approx(3e-4)


@pytest.mark.parametrize(("steps", "needed"), [(12, 0), (60, 1), (3000, 30), (50_000, 100)])
def test_least_warm_up(steps: int, needed: int) -> None:
    assert warm_steps_needed(steps) == needed


def recipe(tiny: Path, home: Path, steps: int = 12, **keys: Any) -> dict[str, Any]:
    train = {"zero": 1, "precision": "fp32", "ranks": 1, "micro_batch_rows": 8}
    lengths = {"tokens": steps * STEP_TOKENS, "batch_tokens": STEP_TOKENS}
    schedule = {**lengths, "peak_lr": 0.003, "warmup": 0.25, "anneal": 0.0, **keys}
    tree = tiny_recipe(tiny, home, train=train, schedule=schedule)
    for source in tree["data"]["sources"]:
        source["max_epochs"] = 50
    return {**tree, "name": "trunk"}


def test_every_cell_of_the_matrix(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is planned, described, trained, and has its closed-form rate at every step."""
    trunk = train_here(recipe(tiny, tmp_path), monkeypatch)
    for moments in (False, True):
        for peak, warmup in (("continued", 0.0), (0.001, 0.5), (0.001, 0.0), ("auto", 0.0)):
            for counters in ("continued", "fresh"):
                start = "weights+moments" if moments else "weights"
                tree = recipe(tiny, tmp_path, steps=6, peak_lr=peak, warmup=warmup)
                tree["base"] = {"model": str(trunk), "start": start, "data": counters}
                tree["name"] = f"moments_{moments}/{peak}_{warmup}/{counters}"
                plan = plan_recipe(parse_recipe(tree))
                cell = start_cell(plan.start, plan.plan)
                asked = "continued" if isinstance(peak, str) else "re-warmed" if warmup else "given"
                assert cell.rate == asked
                assert (cell.moments == "kept") is moments
                assert cell.tokens_before == (12 * STEP_TOKENS if counters != "fresh" else 0)
                run = train_here(tree, monkeypatch)
                rate = 0.003 if isinstance(peak, str) else peak
                ramp = [rate * (s + 0.5) / 3 if warmup and s < 3 else rate for s in range(6)]
                assert rows_of(run, "lr") == pytest.approx(ramp, rel=1e-12)


def test_a_run_that_is_called_continues_is_not_one(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = {**recipe(tiny, tmp_path, anneal=0.25), "name": "continues"}
    trunk = train_here(tree, monkeypatch)
    tree = recipe(tiny, tmp_path, peak_lr="auto", warmup=0.5)
    base = {"model": str(trunk), "start": "weights+moments"}
    tree["base"] = base
    cell = start_cell(*started(tree))
    assert (cell.rate, cell.peak_lr) == ("re-warmed", pytest.approx(0.0003))
    tree["base"] = {**base, "step": 9}
    with pytest.raises(UserError, match="would lower it first"):
        start_cell(*started(tree))


def started(tree: dict[str, Any]) -> tuple[Any, Any]:
    planned = plan_recipe(parse_recipe(tree))
    return planned.start, planned.plan


def test_refused_cells(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = train_here(recipe(tiny, tmp_path), monkeypatch)
    cold = {**recipe(tiny, tmp_path, steps=60, warmup=0.0), "name": "cold"}
    with pytest.raises(UserError, match="0 steps of warm-up"):
        start_lines(plan_recipe(parse_recipe(cold)))
    with pytest.raises(UserError, match="no rate to go by"):
        plan_recipe(parse_recipe(cold, ["schedule.peak_lr=auto"]))
    warm = recipe(tiny, tmp_path, peak_lr="continued")
    warm["base"] = {"model": str(trunk), "start": "weights+moments"}
    with pytest.raises(UserError, match="would lower it first"):
        start_lines(plan_recipe(parse_recipe(warm)))


@pytest.mark.parametrize("value", ["1e-4", 1e-4, "0.0001"])
def test_rates_as_yaml_reads_them(value: Any, tiny: Path, tmp_path: Path) -> None:
    assert parse_recipe(recipe(tiny, tmp_path, peak_lr=value)).schedule.peak == 1e-4


@pytest.mark.parametrize("value", ["fast", 2, 0, "-1", "nan"])
def test_rates_that_are_none(value: Any, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"schedule\.peak_lr: a learning rate is between 0 and 1"):
        parse_recipe(recipe(tiny, tmp_path, peak_lr=value))


@pytest.mark.parametrize(
    ("name", "template", "warned"),
    [
        ("allenai/Olmo-3-7B-Instruct", False, True),
        ("google/gemma-3-1b-it", False, True),
        ("some/base", True, True),
        ("allenai/OLMo-2-0425-1B", False, False),
        ("someone/italian-7b", False, False),
    ],
)
def test_instruct_bases_are_flagged(name: str, template: bool, warned: bool) -> None:
    line = instruct_warning(name, template)
    assert (line is not None) is warned
    assert line is None or "alloy merge" in line


def test_an_unreachable_hub_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(catalog_file.HfApi, "list_repo_refs", unreachable)
    with pytest.raises(CheckFailed, match="no route to host"):
        published_revisions(OLMO)


def test_catalog_verb(alloy: Any) -> None:
    entries = json.loads(alloy("catalog", "--json").stdout)
    assert {e["id"] for e in entries} >= {OLMO}
    assert "7.45e-05" in alloy("catalog", OLMO).stdout
    done = alloy("catalog", "someone/unknown")
    assert (done.returncode, "not in the catalog" in done.stderr) == (2, True)
    assert f"did you mean {OLMO}?" in alloy("catalog", OLMO.rpartition("/")[2].lower()).stderr


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs" / "trunk").mkdir(parents=True)
    with pytest.raises(UserError, match=r"without config\.json"):
        local_model(str(tmp_path / "runs" / "trunk"), None, weights=False)


def test_a_mistyped_folder_names_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    (tmp_path / "trunk").mkdir()
    with pytest.raises(UserError) as refused:
        local_model(str(tmp_path / "trnk"), None, weights=False)
    assert refused.value.hint == f"did you mean {tmp_path / 'trunk'}?"


@pytest.mark.parametrize(
    "config", [{"max_position_embeddings": 16}, {"text_config": {"n_positions": 16}}]
)
def test_rows_over_the_positions_are_refused_before_anything_is_built(
    config: dict[str, Any], tiny: Path, tmp_path: Path, alloy: Any
) -> None:
    base = tmp_path / "base"
    write_base(base, **config)
    recipe = write_recipe(
        tmp_path / "r.yaml", tiny_recipe(tiny, tmp_path / "runs", base={"model": str(base)})
    )
    for verb in ("plan", "train"):
        done = alloy(verb, recipe)
        assert done.returncode == 2
        assert "seq_len 32 is over the 16 positions" in done.stderr
    assert not (tmp_path / "runs/store").exists()
