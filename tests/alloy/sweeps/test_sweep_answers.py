"""What a sweep of real, tiny trainings answers where no share can be recommended, and where an arm
fails: a base that forgets, five shares with two seeds each."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from one_rank import joined
from tiny import WORDS, tiny_recipe, train_tokenizer, write_recipe

from alloy.commands.sweep import command
from alloy.reports.judging.join import join_report
from alloy.reports.records.records import read_records
from alloy.runs import training
from alloy.runs.training import train_recipe
from configs import CheckFailed
from configs.load import parse_recipe
from pretrain.job import Job, write_job
from pretrain.ranks.assembly import run_job

Tree = dict[str, Any]
pytestmark = pytest.mark.slow
FAILING: set[str] = set()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The recipe of a sweep that was run, its ranks in this process, its evaluations real."""
    folder = tmp_path_factory.mktemp("confirm")
    rng = random.Random(3)
    digits = [str(n) for n in range(100, 140)]
    for name, words, documents in (
        ("domain", digits, 200),
        ("general", WORDS[:17], 400),  # most of what the base knows
        ("known", WORDS, 400),
        ("retention", WORDS, 60),
    ):
        rows = [
            {"id": f"{name}-{i}", "text": " ".join(rng.choices(words, k=rng.randint(10, 40)))}
            for i in range(documents)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    train_tokenizer(folder / "tokenizer.json")

    def run_ranks(job: Job, _: Any) -> None:
        if job.folder.name in FAILING:
            raise CheckFailed("a rank died")
        write_job(job)
        run_job(job, lambda: False)

    tree = tiny_recipe(folder, folder / "runs")
    tree["train"] |= {"ranks": 1}
    tree["schedule"] |= {"warmup": 0.1, "anneal": 0.2}
    for source in tree["data"]["sources"]:
        source |= {"max_epochs": 50, "heldout": 0.1}
    step = 8 * 32
    start = json.loads(json.dumps(tree)) | {"name": "start", "mix": {"general": 1.0}}
    start["data"]["sources"][1]["path"] = str(folder / "known.jsonl")
    start["schedule"] = tree["schedule"] | {"tokens": 60 * step, "anneal": 0.0}
    tree["base"] = {"model": str(folder / "runs/start")}
    tree["schedule"] |= {"tokens": 30 * step, "peak_lr": 0.01}
    tree["sweep"] = {"general": [0, 0.1, 0.3, 0.6, 1], "seeds": [0, 1]}
    tree["budget"] = {"retention_bpb": 0.1}
    with pytest.MonkeyPatch.context() as patch, joined():
        patch.setattr(training, "run_ranks", run_ranks)
        train_recipe(parse_recipe(start), lambda _: None)
        path = write_recipe(folder / "sweep.yaml", tree)
        assert CliRunner().invoke(command, [str(path)]).exit_code == 0
        yield path


def report_of(path: Path) -> Tree:
    return join_report(read_records(path.parent / "runs/tiny")).to_json()


def sweep_again(path: Path, budget: float, *more: str) -> Result:
    """The same arms, which are not trained again, under another budget."""
    told = [str(path), "--set", f"budget.retention_bpb={budget}", *more]
    return CliRunner().invoke(command, told, standalone_mode=False)


def test_no_ratio_keeps_a_budget_that_general_text_alone_breaks(swept: Path) -> None:
    strict = sweep_again(swept, 1e-4)
    assert strict.exit_code == 0
    assert "No ratio keeps this budget" in strict.stdout
    assert report_of(swept)["recommendation"]["answer"] == "no_ratio"
    refused = sweep_again(swept, 1e-4, "--confirm")
    assert isinstance(refused.exception, CheckFailed)
    assert "there is no share to confirm: No ratio keeps" in refused.exception.message


def test_a_sweep_that_does_not_bracket_the_answer_names_shares(swept: Path) -> None:
    for shares, budget in (("[0, 0.1, 0.3, 0.6]", 1e-4), ("[0.1, 0.3, 0.6, 1]", 50.0)):
        done = sweep_again(swept, budget, "--set", f"sweep.general={shares}")
        assert "The sweep does not bracket the answer" in done.stdout, shares
        assert "Add these shares: " in done.stdout
        told = report_of(swept)["recommendation"]
        assert told["answer"] == "not_bracketed"
        least, most = json.loads(shares)[0], json.loads(shares)[-1]
        assert all(share < least or share > most for share in told["add_shares"])


def test_a_failed_arm_is_reported_and_the_rest_is_kept(swept: Path) -> None:
    FAILING.add("general_0.9_seed_0")
    shares = "sweep.general=[0, 0.1, 0.3, 0.6, 0.9, 1]"
    done = sweep_again(swept, 0.1, "--set", shares)
    FAILING.clear()
    assert isinstance(done.exception, CheckFailed)
    assert "1 arms failed: general_0.9_seed_0: a rank died" in done.exception.message
    report = report_of(swept)
    failed = [arm["name"] for arm in report["arms"] if arm["failed"]]
    assert failed == ["general_0.9_seed_0"]
    assert "general_0.9_seed_0 failed" in str(report["caveats"])
    assert sweep_again(swept, 0.1, "--set", shares).exit_code == 0
