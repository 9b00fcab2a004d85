"""A verdict never passes by absence: what is missing, failed or another's file is not kept."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_sweep import Tree, edit_sweep, load, read_lines, save_sweep, texts, write_lines

from alloy.reports.judging.gating import gate
from configs import UserError
from configs.load import parse_recipe

BUDGET = {"mmlu_points": 30.0, "retention_bpb": 1.0, "domain_f1": 0.15}
ARM = "general_0.05"


@pytest.fixture
def kept(own_sweep: Path) -> Path:
    """A sweep of which general_0.05 keeps every budget; its record files are known by hash."""
    edit_sweep(own_sweep, budget=BUDGET)
    for path in (own_sweep / "evals").glob("*/summary.json"):
        summary = json.loads(path.read_text())
        files = {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in path.parent.glob("*.jsonl")
        }
        path.write_text(json.dumps(summary | {"files": files}))
    told = gate(load(own_sweep), ARM)
    assert told.word == "kept"
    return own_sweep


def fail(folder: Path, name: str) -> None:
    sweep = json.loads((folder / "sweep.json").read_text())
    arms = [
        arm | ({"failed": "a rank died"} if arm["name"] == name else {}) for arm in sweep["arms"]
    ]
    save_sweep(folder, sweep | {"arms": arms})


def test_a_failed_reference_arm_leaves_f1_unjudged(kept: Path) -> None:
    """Not the next arm that has records: it gave F1 away already."""
    fail(kept, "general_0")
    report = load(kept)
    assert gate(report, ARM).word == "inconclusive"
    assert "domain_f1 general_0 has no records of comments" in gate(report, ARM).text
    (quarter,) = (a for a in report["arms"] if a["name"] == "general_0.25")
    assert [v["verdict"] for v in quarter["verdicts"] if v["budget"] == "domain_f1"] == [
        "inconclusive"
    ]
    edit_sweep(kept, budget={key: BUDGET[key] for key in ("mmlu_points", "domain_f1")})
    assert load(kept)["recommendation"]["general_share"] is None  # by measured arms


@pytest.mark.parametrize("name", ["general_0", ARM, "base"])
@pytest.mark.parametrize("file", ["domain_comments.jsonl", "exam.jsonl", "bpb.jsonl"])
def test_a_missing_file_is_not_kept(kept: Path, name: str, file: str) -> None:
    (kept / "evals" / name / file).unlink()
    # F1 is judged against general_0, everything else against the base.
    needed = (file == "domain_comments.jsonl") != (name == "base") or name == ARM
    assert gate(load(kept), ARM).word == ("inconclusive" if needed else "kept")


def test_records_of_another_evaluation_are_not_used(kept: Path) -> None:
    path = kept / "evals" / ARM / "exam.jsonl"
    shutil.copy(kept / "evals" / "control" / "exam.jsonl", path)
    report = load(kept)
    assert gate(report, ARM).word == "inconclusive"
    assert f"evals/{ARM}/exam.jsonl is not what the evaluation wrote" in texts(report, "files")


def test_a_merge_is_judged_by_every_budget(kept: Path) -> None:
    sweep = json.loads((kept / "sweep.json").read_text())
    made = {"name": "merge_0.5_of_general_0", "kind": "merge", "general_share": None}
    made |= {"merge": {"lambda": 0.5, "of": "general_0"}, "run": None, "tokens": 600_000}
    arm = made | {"eval": "evals/general_0.5", "failed": None}
    save_sweep(kept, sweep | {"arms": [*sweep["arms"], arm]})
    merged = load(kept)["arms"][-1]
    assert [v["budget"] for v in merged["verdicts"]] == list(BUDGET)
    assert merged["verdict"] == "broken"


def _remove(folder: Path, rng: random.Random) -> None:
    rng.choice(sorted((folder / "evals").rglob("*.json*"))).unlink()


def _cut(folder: Path, rng: random.Random) -> None:
    path = rng.choice(sorted((folder / "evals").rglob("*.json*")))
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def _drop_rows(folder: Path, rng: random.Random) -> None:
    path = rng.choice(sorted((folder / "evals").rglob("*.jsonl")))
    write_lines(path, [row for row in read_lines(path) if rng.random() < 0.5])


def _swap(folder: Path, rng: random.Random) -> None:
    name = rng.choice(["exam.jsonl", "domain_comments.jsonl", "bpb.jsonl"])
    one, other = rng.sample(sorted((folder / "evals").glob(f"*/{name}")), 2)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _fail(folder: Path, rng: random.Random) -> None:
    arms = json.loads((folder / "sweep.json").read_text())["arms"]
    fail(folder, rng.choice([arm["name"] for arm in arms]))


CORRUPTIONS: list[Callable[[Path, random.Random], None]] = [_remove, _cut, _drop_rows, _swap, _fail]


def corrupted_words(folder: Path, seed: int, out: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The gate's word on each arm, of the intact and of a corrupted sweep."""
    rng = random.Random(seed)
    words = []
    copy = Path(shutil.copytree(folder, out / f"copy_{seed}"))
    for step in range(2):
        report = load(copy, out / f"report_{seed}")
        words.append({a["name"]: gate(report, a["name"]).word for a in report["arms"]})
        if step == 0:
            for corrupt in rng.sample(CORRUPTIONS, rng.randint(1, 2)):
                corrupt(copy, rng)
    return words[0], words[1]


@pytest.mark.parametrize("seed", range(8))
def test_no_corruption_makes_an_arm_keep_its_budgets(kept: Path, tmp_path: Path, seed: int) -> None:
    intact, corrupted = corrupted_words(kept, seed, tmp_path)
    assert {n for n, w in corrupted.items() if w == "kept"} <= {
        n for n, w in intact.items() if w == "kept"
    }


@pytest.mark.slow
def test_no_corruption_of_200_makes_an_arm_keep_its_budgets(kept: Path, tmp_path: Path) -> None:
    for seed in range(100, 300):
        intact, corrupted = corrupted_words(kept, seed, tmp_path)
        assert {n for n, w in corrupted.items() if w == "kept"} <= {
            n for n, w in intact.items() if w == "kept"
        }, seed


@pytest.mark.parametrize(
    ("budget", "missing"),
    [
        ({"mmlu_points": 1.0}, "evals.mmlu"),
        ({"domain_f1": 0.1}, "a task of evals.domain"),
        ({"retention_bpb": 0.1}, "a source with role: retention"),
    ],
)
def test_a_budget_without_its_evaluation_is_refused(budget: Tree, missing: str) -> None:
    tree: dict[str, Any] = {
        "name": "x",
        "base": {"model": "some/model"},
        "data": {
            "seq_len": 32,
            "sources": [{"name": "own", "role": "domain", "path": "own.jsonl"}],
        },
        "schedule": {"tokens": 1024, "batch_tokens": 256, "peak_lr": 1e-3},
        "budget": budget,
    }
    with pytest.raises(UserError, match=missing):
        parse_recipe(tree)
