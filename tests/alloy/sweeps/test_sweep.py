"""Sweeps: which arms there are, what a failed or interrupted one does, and confirming runs."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from places import ALLOY, HELPERS, python_path
from report_sweep import bpb_records, domain_records, exam_records, write_eval, write_run
from tiny import tiny_recipe, write_recipe

from alloy.commands.plan import command as plan_command
from alloy.commands.sweep import command
from alloy.planning.planning import plan_recipe
from alloy.reports.judging.join import join_report
from alloy.reports.records.records import read_records
from alloy.sweep_record import NOT_FINISHED, SweepRecord
from alloy.sweeps import sweep
from alloy.sweeps.arm import arm_recipe, arms, confirming
from alloy.verbs.plans import plan_result
from configs import CheckFailed, Recipe, UserError
from configs.load import parse_recipe

Tree = dict[str, Any]


def recipe(tiny: Path, run_dir: Path, **of_sweep: Any) -> Recipe:
    sections = {"sweep": {"general": [0, 0.25, 0.5], **of_sweep}}
    tree = tiny_recipe(tiny, run_dir, **sections)
    tree["base"] = {"model": str(tiny)}
    for source in tree["data"]["sources"]:
        source["max_epochs"] = 50
    return parse_recipe(tree)


# --- the arms --------------------------------------------------------------------------------


def test_axes_multiply_and_keys_of_an_axis_go_together(tiny: Path, tmp_path: Path) -> None:
    over = [
        {"schedule.peak_lr": [0.001, 0.002]},
        {"schedule.tokens": [3072, "6144"], "schedule.anneal": ["50%", "25%"]},
    ]
    one = recipe(tiny, tmp_path, general=[0.5, 0], over=over, seeds=[0, 1, 2])
    found = arms(one)
    assert len(found) == 2 * 2 * 2 * 3
    assert len({arm.name for arm in found}) == len(found)
    assert [arm.general_share for arm in found] == sorted(arm.general_share for arm in found)
    seen = set()
    for arm in found:
        own = arm_recipe(one, arm)
        assert own.mix.general == arm.general_share
        assert own.train.seed == own.data.seed == arm.seed
        assert own.sweep is None
        assert own.schedule.tokens == arm.tokens
        assert (own.schedule.tokens, own.schedule.anneal) in ((3072, 0.5), (6144, 0.25))
        seen.add((arm.general_share, own.schedule.peak_lr, arm.tokens, arm.seed))
    assert len(seen) == len(found)


def test_an_arm_differs_in_nothing_else(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path)
    own = arm_recipe(one, arms(one)[1])
    left, right = (r.model_dump(exclude={"name", "mix", "sweep"}) for r in (one, own))
    assert left == right
    assert own.mix.weights == one.mix.weights


def test_source_fields_are_axes_by_name(tiny: Path, tmp_path: Path) -> None:
    files = [str(tiny / "domain.jsonl"), str(tiny / "retention.jsonl")]
    one = recipe(tiny, tmp_path, over={"data.sources.own.path": files})
    paths = [arm_recipe(one, arm).data.sources[0].path for arm in arms(one)[:2]]
    assert paths == [(files[0],), (files[1],)]


def test_the_size_of_the_domains_data_is_an_axis(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path, general=[0.5], over={"data.sources.own.take": ["1K", "2K"]})
    small, large = plan_result(one, plan_recipe(one)).to_json()["sweep"]["arms"]
    assert small["tokens"] == large["tokens"]
    assert small["most_epochs"] > 1.5 * large["most_epochs"]


def test_the_saturation_check_is_of_the_first_arm(tiny: Path, tmp_path: Path) -> None:
    last = arms(recipe(tiny, tmp_path, saturation=0.5, seeds=[3, 4]))[-1]
    assert (last.kind, last.general_share, last.seed, last.tokens) == ("saturation", 0, 3, 1536)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"mix.general": [0.1]}, "sweep.general"),
        ({"evals.batch_tokens": [1, 2]}, "same in all arms"),
        ({"data.seq_len": [16, 32]}, "same in all arms"),
        ({"schedule.peak_lr": [0.1], "schedule.anneal": [0.1, 0.2]}, "equal counts"),
        ([{"schedule.anneal": [0.1]}, {"schedule.anneal": [0.2]}], "two axes"),
        ({"schedule.peak": [0.1, 0.2]}, "unknown key"),
        ({"schedule.peak_lr": ["much"]}, "peak_lr"),
        ({"data.sources.theirs.max_epochs": [1, 2]}, "no item"),
    ],
)
def test_what_cannot_be_an_axis_is_said(tiny: Path, tmp_path: Path, over: Any, words: str) -> None:
    one = recipe(tiny, tmp_path, over=over)
    with pytest.raises(UserError) as error:
        [arm_recipe(one, arm) for arm in arms(one)]
    assert words in f"{error.value.message} {error.value.hint}"
    assert error.value.hint


def test_the_command_line_sets_axes_that_multiply_and_pair(tiny: Path, tmp_path: Path) -> None:
    """Any field, the size of the domain's data among them."""
    path = write_recipe(tmp_path / "r.yaml", recipe(tiny, tmp_path).model_dump(mode="json"))
    over = (
        "[{data.sources.own.take: [1K, 2K]}, "
        "{schedule.peak_lr: [1.0e-3, 2.0e-3], schedule.anneal: [50%, 25%]}]"
    )
    asked = ["--set", f"sweep.over={over}", "--set", "sweep.general=[0.5]", "--json"]
    done = CliRunner().invoke(plan_command, [str(path), *asked], catch_exceptions=False)
    rows = json.loads(done.stdout)["sweep"]["arms"]
    found = [tuple(row["settings"].values()) for row in rows]
    assert found == [
        ("1K", 0.001, "50%"),
        ("1K", 0.002, "25%"),
        ("2K", 0.001, "50%"),
        ("2K", 0.002, "25%"),
    ]
    assert rows[0]["most_epochs"] > 1.5 * rows[2]["most_epochs"]


def test_the_plan_prints_arms_and_tokens(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path, seeds=[0, 1], over={"schedule.tokens": [2560, 3072]})
    found = plan_result(one, plan_recipe(one))
    told = found.to_json()
    assert len(told["sweep"]["arms"]) == 12
    assert told["sweep"]["tokens"] == 6 * (2560 + 3072)
    assert "12 arms, 33,792 tokens in all" in found.table()


# --- running ---------------------------------------------------------------------------------


class Fake:
    """Training and measuring without a model: records as the real ones write them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trained: list[str] = []
        self.fail: dict[str, BaseException] = {}

    def train(self, own: Recipe, *_: Any) -> Path:
        name = Path(own.name).name
        if name in self.fail:
            raise self.fail[name]
        if not (self.folder / own.name / "lineage.json").is_file():
            self.trained.append(name)
            write_run(self.folder / own.name, own.mix.general, own.schedule.tokens)
        return self.folder / own.name / "export"

    def measure(self, *given: Any) -> None:
        _, _, _, out, name, *_ = given
        rng = random.Random(name)
        share = 1.0
        if name != "base":
            share = float(name.split("_")[1])
        forgetting = 0.0 if name == "base" else 0.4 * 2.718 ** (-6 * share)
        known = 0.92 - 0.5 * forgetting
        records = {
            "exam": exam_records(rng, known, known, 200),
            "domain": {"comments": domain_records(rng, 0.7 - 0.3 * share, 200)},
            "bpb": bpb_records(
                rng,
                {"facts": 1.5 + forgetting, "wiki": 1.5 + forgetting, "tickets": 0.9 + share / 9},
            ),
        }
        write_eval(out, name, records)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    one = Fake(tmp_path)
    monkeypatch.setattr(sweep, "train_recipe", one.train)
    monkeypatch.setattr(sweep, "measure", one.measure)
    return one


def quiet(_: str) -> None:
    pass


def test_a_failed_arm_is_recorded_and_the_rest_is_run(
    tiny: Path, tmp_path: Path, fake: Fake
) -> None:
    fake.fail = {
        "general_0": CheckFailed("a rank died"),
        "general_0.25": RuntimeError("out of memory\nat layer 3"),
    }
    one = recipe(tiny, tmp_path)
    record = sweep.run_sweep(one, quiet).to_json()
    assert fake.trained == ["general_0.5"]
    assert SweepRecord.model_validate(record).failures() == [
        "general_0: a rank died",
        "general_0.25: RuntimeError: out of memory at layer 3",
    ]
    report = join_report(read_records(tmp_path / "tiny")).to_json()
    assert report["arms"][2]["exam_accuracy"] is not None
    fake.fail = {}
    record = sweep.run_sweep(one, quiet).to_json()
    assert fake.trained == ["general_0.5", "general_0", "general_0.25"]
    assert SweepRecord.model_validate(record).failures() == []


def test_an_interrupted_sweep_leaves_a_record_and_goes_on(
    tiny: Path, tmp_path: Path, fake: Fake
) -> None:
    fake.fail = {"general_0.5": KeyboardInterrupt()}
    one = recipe(tiny, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        sweep.run_sweep(one, quiet)
    record = json.loads((tmp_path / "tiny/sweep.json").read_text())
    assert [arm["failed"] for arm in record["arms"]] == [None, None, NOT_FINISHED]
    told = str(join_report(read_records(tmp_path / "tiny")).to_json()["caveats"])
    assert f"general_0.5 has no scores: {NOT_FINISHED}" in told
    fake.fail = {}
    assert sweep.run_sweep(one, quiet).failures() == []
    assert fake.trained == ["general_0", "general_0.25", "general_0.5"]


@pytest.mark.usefixtures("fake")
def test_a_later_start_adds_to_the_time(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path)
    sweep.run_sweep(one, quiet)
    path = tmp_path / "tiny/sweep.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | {"seconds": 1000.0}), encoding="utf-8")
    assert 1000.0 <= sweep.run_sweep(one, quiet).to_json()["seconds"] < 1500.0


def test_a_share_that_cannot_be_met_costs_nothing(tiny: Path, tmp_path: Path, fake: Fake) -> None:
    one = recipe(tiny, tmp_path, over={"data.sources.web.max_epochs": [50, 0.0001]})
    with pytest.raises(UserError):
        sweep.run_sweep(one, quiet)
    assert fake.trained == []


SHARES = [0, 0.05, 0.1, 0.25, 0.5, 1]


@pytest.mark.usefixtures("fake")
def test_confirm_trains_the_recommended_share_and_judges_it(tiny: Path, tmp_path: Path) -> None:
    tree = recipe(tiny, tmp_path, general=SHARES, seeds=[0, 1]).model_dump(mode="json")
    tree["budget"] = {"retention_bpb": 0.1, "mmlu_points": 20.0}
    tree["evals"]["mmlu"] = {"path": str(tiny)}
    path = write_recipe(tmp_path / "recipe.yaml", tree)
    first = CliRunner().invoke(command, [str(path)], catch_exceptions=False)
    assert "is the smallest share whose predicted loss keeps the budget" in first.stdout
    done = CliRunner().invoke(command, [str(path), "--confirm"], catch_exceptions=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert "inside the predicted" in lines[2]
    assert "Retention bpb budget kept" in lines[2]
    assert "Exam points budget" in lines[2]
    record = json.loads((tmp_path / "tiny/sweep.json").read_text())
    (arm,) = [arm for arm in record["arms"] if arm["kind"] == "confirm"]
    report = join_report(read_records(tmp_path / "tiny")).to_json()
    assert report["recommendation"]["general_share"] == pytest.approx(arm["general_share"])
    assert report["recommendation"]["arm"] == arm["name"]
    # A later sweep keeps it, and its law does not see it.
    again = CliRunner().invoke(command, [str(path)], catch_exceptions=False)
    assert again.stdout.splitlines()[1:] == lines[1:]


@pytest.mark.usefixtures("fake")
def test_confirm_without_a_recommendation_is_a_failed_check(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path)
    path = write_recipe(tmp_path / "recipe.yaml", one.model_dump(mode="json"))
    with pytest.raises(CheckFailed, match="No budget is set"):
        CliRunner().invoke(
            command, [str(path), "--confirm"], standalone_mode=False, catch_exceptions=False
        )


def test_a_confirming_arm_takes_the_settings_of_the_law(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path, over={"schedule.peak_lr": [0.001, 0.002]}, seeds=[7])
    arm = confirming(one, 0.125)
    assert arm.name == "confirm_0.125"
    own = arm_recipe(one, arm)
    assert (own.mix.general, own.schedule.peak_lr) == (0.125, 0.001)
    assert own.train.seed == one.train.seed


# --- real processes --------------------------------------------------------------------------

_PASSING = {"seconds", "cost", "model"}


def without_times(value: Any) -> Any:
    """A report without what two runs of the same work may differ in."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in _PASSING}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def real_recipes(tiny: Path, run_dir: Path) -> tuple[Path, Path]:
    tree = tiny_recipe(tiny, run_dir)
    tree["train"] = {**tree["train"], "ranks": 1, "checkpoint_tokens": 1024}
    for source in tree["data"]["sources"]:
        source |= {"max_epochs": 50, "heldout": 0.1}
    trunk = write_recipe(run_dir / "trunk.yaml", tree | {"name": "trunk"})
    swept = tree | {
        "base": {"model": str(run_dir / "trunk")},
        "budget": {"retention_bpb": 0.5},
        "sweep": {
            "general": [0, 0.25, 0.5, 1],
            "full_tokens": 6000,
            "budgets": [0.5],
            "merge": [0.5],
            "average": [2],
        },
    }
    return trunk, write_recipe(run_dir / "sweep.yaml", swept)


HERE = [sys.executable, str(HELPERS / "alloy_here.py")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command_line", "kills"), [(HERE, 8), ([ALLOY], 3)], ids=["in_process", "launched"]
)
def test_a_killed_sweep_ends_in_the_same_report(
    tiny: Path, tmp_path: Path, command_line: list[str], kills: int
) -> None:
    """Kills at random instants of a sweep with shared trunks, budgets, a merge and a mean."""
    seed = time.time_ns()
    rng = random.Random(seed)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": python_path()}
    trees, seconds = [], 0.0
    for name, times in (("whole", 0), ("killed", kills)):
        # At one place: checkpoints are hashed with the path of the run that they began from.
        trunk, swept = real_recipes(tiny, tmp_path / "run")
        subprocess.run([*command_line, "train", str(trunk)], check=True, env=environment)
        for _ in range(times):
            # A later start has less to do, so it is killed sooner.
            kill_at = rng.uniform(0.1, 0.9) * seconds * (1 - _done(tmp_path / "run/tiny"))
            killed([*command_line, "sweep", str(swept)], kill_at, environment)
        began = time.monotonic()
        subprocess.run([*command_line, "sweep", str(swept)], check=True, env=environment)
        seconds = time.monotonic() - began
        trees.append(without_times(join_report(read_records(tmp_path / "run/tiny")).to_json()))
        (tmp_path / "run").rename(tmp_path / name)
    assert json.dumps(trees[1]) == json.dumps(trees[0]), f"seed {seed}"
    assert len(trees[0]["law"]) == 2
    assert trees[0]["arms"][0]["curve"] is not None
    record = json.loads((tmp_path / "killed/tiny/sweep.json").read_text())
    assert [bool(arm.get("shared")) for arm in record["arms"]] == [False, True] * 4 + [False] * 2


def _done(run: Path) -> float:
    """Share of a sweep's models that are measured."""
    path = run / "sweep.json"
    if not path.is_file():
        return 0.0
    arms = json.loads(path.read_text(encoding="utf-8"))["arms"]
    return sum(arm["failed"] is None for arm in arms) / (len(arms) + 1)


def killed(command_line: list[str], seconds: float, environment: dict[str, str]) -> None:
    """Start a command and kill it, with all that it started, after so many seconds."""
    process = subprocess.Popen(
        command_line, start_new_session=True, stderr=subprocess.DEVNULL, env=environment
    )
    time.sleep(seconds)
    print(f"kill after {seconds:.1f} s, {'it runs' if process.poll() is None else 'it is done'}")
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pid in session_members(process.pid):
        os.kill(pid, signal.SIGKILL)


def session_members(session: int) -> list[int]:
    """Processes that a kill of the leader's group left: the launcher's ranks have their own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            found.append(int(path.parent.name))
    return found
