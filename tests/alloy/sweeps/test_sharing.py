"""First steps that arms have in common: found by plan and rate, trained once, the same bits."""

import json
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from one_rank import joined
from safetensors.torch import load_file
from tiny import tiny_recipe, write_recipe

from alloy.commands.plan import command as plan_command
from alloy.runs import training
from alloy.runs.adopting import begin_from, shared
from alloy.runs.training import train_recipe
from alloy.sweep_record import SweepRecord
from alloy.sweeps import sweep
from alloy.sweeps.arm import arm_recipe, arms
from alloy.sweeps.sharing import Course, common_steps, kept_steps, shared_starts, shared_tokens
from checkpoints.folder import chosen, step_name, steps
from checkpoints.tensors import EXP_AVG, EXP_AVG_SQ, WEIGHTS, read_tensors
from configs import CheckFailed, Recipe, UserError
from configs.load import parse_recipe
from mixing.blend.plan import PlanSource, compile_plan
from mixing.blend.seek import Order
from pretrain.job import Job, write_job
from pretrain.ranks.assembly import run_job
from pretrain.run_folder import read_metrics
from pretrain.training.schedule import first_steps, lr_at

STEP_TOKENS = 8 * 32
SHARES = [0, 0.05, 0.1, 0.25, 0.5, 1]
SOURCES = [
    PlanSource("own", "domain", 900, 900 * 32, 900 * 31, 1000.0, "own", "p1"),
    PlanSource("web", "general", 700, 700 * 32, 700 * 30, 1000.0, "web", "p2"),
]


def recipe(tiny: Path, run_dir: Path, tokens: int, of_sweep: Any, **of_schedule: Any) -> Recipe:
    tree = tiny_recipe(tiny, run_dir)
    tree["schedule"] |= {"tokens": tokens, "warmup": "1%", "anneal": "20%", **of_schedule}
    tree["sweep"] = {"general": [0.25], **of_sweep}
    for source in tree["data"]["sources"]:
        source |= {"max_epochs": 1000}
    return parse_recipe(tree)


def course_of(own: Recipe) -> Course:
    """The course of a recipe whose sources are SOURCES."""
    plan = compile_plan(SOURCES, own.data, own.mix, own.schedule)
    settings = own.model_dump(mode="json", include={"base", "data", "train"})
    return Course(plan, own.schedule, settings)


def courses_of(one: Recipe) -> list[Course]:
    return [course_of(arm_recipe(one, arm)) for arm in arms(one)]


def saved(one: Recipe) -> float:
    """Share of the tokens of independent runs that sharing saves."""
    courses = courses_of(one)
    total = sum(c.plan.rows * c.plan.seq_len for c in courses)
    return sum(shared_tokens(courses, shared_starts(courses))) / total


# --- what is saved ---------------------------------------------------------------------------


def test_budgets_save_over_forty_per_cent(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path, 1000 * STEP_TOKENS, {"general": SHARES, "budgets": [1, 0.75, 0.5]})
    assert len(arms(one)) == 18
    # Of 1 + 3/4 + 1/2 the stable stretches 0.6 and 0.4 of the two shorter arms are shared.
    assert saved(one) == pytest.approx(1.0 / 2.25, abs=1e-9)
    assert saved(one) >= 0.40
    warmups = {c.plan.phases[0].steps for c in courses_of(one)}
    assert warmups == {10}


def test_an_anneal_only_sweep_saves_over_sixty_per_cent(tiny: Path, tmp_path: Path) -> None:
    one = recipe(
        tiny, tmp_path, 1000 * STEP_TOKENS, {"over": {"schedule.phases.anneal.general": SHARES}}
    )
    assert saved(one) == pytest.approx(5 * 0.8 / 6, abs=1e-9)
    assert saved(one) >= 0.60
    starts = shared_starts(courses_of(one))
    assert [s.by if s else None for s in starts] == [None, 0, 0, 0, 0, 0]
    assert kept_steps(starts, 0) == (800,)


def test_budgets_and_anneal_mixes_make_one_tree(tiny: Path, tmp_path: Path) -> None:
    over = {"over": {"schedule.phases.anneal.general": [0.1, 0.9]}}
    one = recipe(tiny, tmp_path, 1000 * STEP_TOKENS, {**over, "budgets": [0.5]}, warmup=0.0)
    # One stable stretch of 800 steps, two anneals of 200 and two of 100.
    assert saved(one) == pytest.approx(1 - (800 + 2 * 200 + 2 * 100) / 3000, abs=1e-9)


def test_what_differs_is_not_shared(tiny: Path, tmp_path: Path) -> None:
    for of_sweep in (
        {"general": SHARES},
        {"seeds": [0, 1]},
        {"over": {"schedule.peak_lr": [0.001, 0.002]}},
        {"over": {"train.weight_decay": [0.1, 0.2]}},
        {"over": {"schedule.batch_tokens": [256, 512]}},
        {"over": {"train.ranks": [1, 2]}},
    ):
        assert saved(recipe(tiny, tmp_path, 100 * STEP_TOKENS, of_sweep)) == 0, of_sweep
    # An anneal that begins at once has no stable stretch to share.
    demo = recipe(tiny, tmp_path, 25600, {"budgets": [0.5]}, warmup=0.0, anneal=1.0)
    assert saved(demo) == 0


def test_a_run_without_anneal_still_trains_its_last_step(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path, 100 * STEP_TOKENS, {"budgets": [0.5]}, anneal=0.0)
    starts = shared_starts(courses_of(one))
    assert [s.steps if s else None for s in starts] == [None, 49]


@pytest.mark.parametrize("seed", range(30))
def test_shared_steps_have_the_same_rows_and_rates(seed: int, tiny: Path, tmp_path: Path) -> None:
    rng = random.Random(seed)
    shapes = [("linear", 0.0), ("cosine", 0.0), ("exponential", 0.1)]
    found = []
    for _ in range(2):
        shape, floor = rng.choice(shapes[: rng.randint(1, 3)])
        phases = {"anneal": {"general": rng.choice([0.25, 0.5])}}
        if rng.random() < 0.5:
            phases["second"] = {"token_fraction": 0.2, "general": rng.choice([0.25, 0.75])}
        one = recipe(
            tiny,
            tmp_path,
            rng.choice([40, 60, 80]) * STEP_TOKENS,
            {},
            warmup=rng.choice([0.0, 0.05, 0.1]),
            anneal=rng.choice([0.2, 0.4]),
            anneal_shape=shape,
            final_lr_ratio=floor,
            phases=phases,
        )
        found.append(course_of(replace_mix(one, rng.choice([0.25, 0.25, 0.3]))))
    left, right = found
    count = common_steps(left, right)
    assert count == common_steps(right, left)
    orders = Order(left.plan), Order(right.plan)
    for position in range(count * left.plan.batch_rows):
        here, there = (order.locate(position) for order in orders)
        assert (here.row, here.epoch) == (there.row, there.epoch)
        assert left.plan.sources[here.source].name == right.plan.sources[there.source].name
    for step in range(count):
        here, there = (
            lr_at(step, c.plan.steps, first_steps(c.plan), c.schedule) for c in (left, right)
        )
        assert here == there


def replace_mix(one: Recipe, general: float) -> Recipe:
    return one.model_copy(update={"mix": one.mix.model_copy(update={"general": general})})


def test_a_saturation_that_is_a_budget_is_refused(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path, 25600, {"budgets": [0.5, 0.75], "saturation": 0.75})
    with pytest.raises(UserError, match="is one of"):
        arms(one)


def test_the_plan_says_what_is_shared(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path, 100 * STEP_TOKENS, {"general": [0, 0.5], "budgets": [0.5]})
    path = write_recipe(tmp_path / "r.yaml", one.model_dump(mode="json"))
    done = CliRunner().invoke(plan_command, [str(path)], catch_exceptions=False)
    # 40 of the 50 steps of each shorter arm.
    assert "shared: 20,480 tokens (26.7%) are trained once, in general_0 (by 1), " in done.stdout
    told = json.loads(
        CliRunner().invoke(plan_command, [str(path), "--json"], catch_exceptions=False).stdout
    )["sweep"]
    assert (told["tokens"], told["tokens_saved"]) == (300 * STEP_TOKENS, 80 * STEP_TOKENS)
    assert told["arms"][1]["shared"] == {
        "arm": "general_0",
        "steps": 40,
        "tokens": 40 * STEP_TOKENS,
    }


# --- the same bits ---------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Ranks in this process, nothing measured; the runs that were started."""
    started: list[str] = []

    def run_ranks(job: Job, _: Any) -> None:
        started.append(job.folder.name)
        if started[-1] in FAILING:
            raise CheckFailed("a rank died")
        write_job(job)
        run_job(job, lambda: False)

    monkeypatch.setattr(training, "run_ranks", run_ranks)
    monkeypatch.setattr(sweep, "measure", lambda *_: None)
    with joined():
        yield started
    FAILING.clear()


FAILING: set[str] = set()


def small(tiny: Path, run_dir: Path, ranks: int = 1) -> Recipe:
    """20 steps; one share at two budgets, each with two mixes of the anneal."""
    over = {"schedule.phases.anneal.general": [0.25, 0.75]}
    one = recipe(
        tiny, run_dir, 20 * STEP_TOKENS, {"over": over, "budgets": [0.5]}, warmup=0.1, anneal=0.3
    )
    tree = one.model_dump(mode="json")
    tree["train"] |= {"ranks": ranks}
    # The reference that arms are compared with is not looked at here.
    tree["base"] |= {"compare_with": str(tiny)}
    return parse_recipe(tree)


def alone(one: Recipe, index: int, run_dir: Path) -> Recipe:
    """The recipe of an arm as a run of its own."""
    own = arm_recipe(one, arms(one)[index])
    return own.model_copy(update={"run_dir": str(run_dir)})


def assert_same_run(one: Path, other: Path) -> None:
    keys = ("step", "tokens", "supervised_tokens", "lr", "loss", "loss_by_source", "grad_norm")
    left, right = (
        [{k: row[k] for k in keys} for row in read_metrics(run / "metrics.jsonl")]
        for run in (one, other)
    )
    assert left == right
    for kind in (WEIGHTS, EXP_AVG, EXP_AVG_SQ):
        mine, theirs = (dict(read_tensors(chosen(run), kind)) for run in (one, other))
        assert mine.keys() == theirs.keys()
        assert all(tensor.equal(theirs[name]) for name, tensor in mine.items()), kind
    for name in ("plan.json", "receipt.json", "recipe.json"):
        assert (one / name).read_text() == (other / name).read_text()
    lineages = [json.loads((run / "lineage.json").read_text()) for run in (one, other)]
    for lineage in lineages:
        lineage.pop("shared", None)
    assert lineages[0] == lineages[1]


def quiet(_: str) -> None:
    pass


def test_shared_arms_equal_runs_of_their_own(tiny: Path, tmp_path: Path, here: list[str]) -> None:
    one = small(tiny, tmp_path)
    record = sweep.run_sweep(one, quiet).to_json()
    assert SweepRecord.model_validate(record).failures() == []
    assert [a["shared"]["steps"] if a["shared"] else 0 for a in record["arms"]] == [0, 14, 7, 7]
    folder = tmp_path / "tiny/arms"
    for index, arm in enumerate(arms(one)):
        other = train_recipe(alone(one, index, tmp_path / "alone"), quiet).parent
        assert_same_run(folder / arm.name, other)
    # Again: nothing is trained.
    before = len(here)
    assert sweep.run_sweep(one, quiet).to_json()["arms"] == record["arms"]
    assert len(here) == before


def test_a_trunk_that_failed_does_not_stop_its_branches(
    tiny: Path, tmp_path: Path, here: list[str]
) -> None:
    one = small(tiny, tmp_path)
    names = [arm.name for arm in arms(one)]
    FAILING.add(names[0])
    record = sweep.run_sweep(one, quiet).to_json()
    assert [a["failed"] for a in record["arms"]] == ["a rank died", None, None, None]
    assert [a["shared"] for a in record["arms"]] == [None] * 4
    assert here == names
    other = train_recipe(alone(one, 2, tmp_path / "alone"), quiet).parent
    assert_same_run(tmp_path / "tiny/arms" / names[2], other)


def test_a_kill_between_taking_over_and_training(
    tiny: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = small(tiny, tmp_path)
    killed = arms(one)[1].name

    def dying(job: Job, show: Any) -> None:
        if job.folder.name == killed:
            raise KeyboardInterrupt
        whole(job, show)

    whole = training.run_ranks
    with monkeypatch.context() as patch:
        patch.setattr(training, "run_ranks", dying)
        with pytest.raises(KeyboardInterrupt):
            sweep.run_sweep(one, quiet)
    record = sweep.run_sweep(one, quiet).to_json()
    assert here.count(killed) == 1
    assert record["arms"][1]["shared"]["steps"] == 14
    other = train_recipe(alone(one, 1, tmp_path / "alone"), quiet).parent
    assert_same_run(tmp_path / "tiny/arms" / killed, other)


def test_an_average_is_of_checkpoints_that_the_arm_keeps(
    tiny: Path, tmp_path: Path, here: list[str]
) -> None:
    tree = small(tiny, tmp_path).model_dump(mode="json")
    tree["sweep"] |= {"average": [3, 2], "over": [], "budgets": []}
    tree["train"] |= {"checkpoint_tokens": 3 * STEP_TOKENS, "keep_last": 1}
    record = sweep.run_sweep(parse_recipe(tree), quiet).to_json()
    assert SweepRecord.model_validate(record).failures() == []
    arm, two, three = record["arms"]
    assert (two["kind"], two["average"]) == ("average", {"checkpoints": 2, "of": arm["name"]})
    assert two["general_share"] is None
    run = tmp_path / "tiny/arms" / arm["name"]
    for entry, last in ((two, [18, 20]), (three, [15, 18, 20])):
        out = tmp_path / "tiny/merges" / entry["name"]
        told = json.loads((out / "merge.json").read_text())
        assert [part["step"] for part in told["of"]] == last[::-1]
        parts = [dict(read_tensors(chosen(run, step), WEIGHTS)) for step in last]
        averaged = load_file(out / "model.safetensors")
        for name, tensor in averaged.items():
            mean = sum(part[name].double() for part in parts) / len(parts)
            assert torch.allclose(tensor.double(), mean, atol=1e-6), name
    made = [p.stat().st_mtime_ns for p in sorted((tmp_path / "tiny/merges").glob("*/merge.json"))]
    assert sweep.run_sweep(parse_recipe(tree), quiet).to_json()["arms"] == record["arms"]
    again = [p.stat().st_mtime_ns for p in sorted((tmp_path / "tiny/merges").glob("*/merge.json"))]
    assert (again, len(here)) == (made, 1)
    # Asked for too late: the checkpoints are gone, which is said, and the rest stays.
    tree["sweep"]["average"] = [5]
    record = sweep.run_sweep(parse_recipe(tree), quiet).to_json()
    assert SweepRecord.model_validate(record).failures() == [
        f"average_5_of_{arm['name']}: {run} has no checkpoint of step 9"
    ]


@pytest.mark.parametrize(
    ("checkpoint_tokens", "words"),
    [(None, "train.checkpoint_tokens is not set"), (9 * STEP_TOKENS, "has 3 checkpoints")],
)
def test_an_average_of_more_checkpoints_than_there_are_costs_nothing(
    tiny: Path, tmp_path: Path, here: list[str], checkpoint_tokens: int | None, words: str
) -> None:
    tree = small(tiny, tmp_path).model_dump(mode="json")
    tree["sweep"]["average"] = [4]
    tree["train"]["checkpoint_tokens"] = checkpoint_tokens
    with pytest.raises(UserError, match=words):
        sweep.run_sweep(parse_recipe(tree), quiet)
    assert here == []


@pytest.mark.usefixtures("here")
def test_only_a_checkpoint_with_the_same_past_is_taken(tiny: Path, tmp_path: Path) -> None:
    one = small(tiny, tmp_path)
    trunk = train_recipe(arm_recipe(one, arms(one)[0]), quiet).parent
    own = arm_recipe(one, arms(one)[1])
    plan = training.plan_recipe(own).plan
    assert steps(trunk / "checkpoints") == [14, 20]
    strange = replace(plan, seed=5)
    assert begin_from(tmp_path / "a", trunk, strange, 14) == 0
    assert begin_from(tmp_path / "b", trunk, plan, 13) == 0
    assert not (tmp_path / "b").exists()
    assert begin_from(tmp_path / "c", trunk, plan, 14) == 14
    assert shared(tmp_path / "c") is not None
    victim = trunk / "checkpoints" / step_name(14) / "tensors_00000.safetensors"
    data = bytearray(victim.read_bytes())
    victim.unlink()
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    assert begin_from(tmp_path / "d", trunk, plan, 14) == 0


@pytest.mark.slow
def test_a_branch_of_two_ranks_equals_a_run_of_its_own(
    tiny: Path, tmp_path: Path, alloy: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    tree = small(tiny, tmp_path, ranks=2).model_dump(mode="json")
    tree["sweep"]["over"] = []
    for source in tree["data"]["sources"]:
        source["heldout"] = 0.1
    start = parse_recipe({**tree, "name": "start", "sweep": None})
    path = write_recipe(tmp_path / "start.yaml", start.model_dump(mode="json"))
    assert alloy("train", path).returncode == 0
    tree["base"]["compare_with"] = str(tmp_path / "start/export")
    one = parse_recipe(tree)
    path = write_recipe(tmp_path / "sweep.yaml", tree)
    done = alloy("sweep", path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "tiny/sweep.json").read_text())
    assert [a["shared"]["steps"] if a["shared"] else 0 for a in record["arms"]] == [0, 7]
    own = alone(one, 1, tmp_path / "alone").model_dump(mode="json")
    done = alloy("train", write_recipe(tmp_path / "alone.yaml", own))
    assert done.returncode == 0, done.stderr
    branch = tmp_path / "tiny/arms" / record["arms"][1]["name"]
    assert_same_run(branch, tmp_path / "alone" / own["name"])
