"""Single tasks in reports and in the table of many models: changes, budgets, what is shown."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from report_sweep import (
    Tree,
    bpb_records,
    domain_records,
    edit_sweep,
    exam_records,
    load,
    read_lines,
    task_records,
    texts,
    write_eval,
    write_sweep,
)
from scipy.stats import binomtest, norm
from tiny import tiny_recipe, write_recipe

from alloy.reports.judging.schema import Report
from alloy.reports.writing.many import HEADER, many_models, table_rows
from configs import UserError
from configs.load import parse_recipe
from evals.stats import stats
from evals.stats.stats import detectable_change, paired_drop

BUDGET = {"mmlu_points": 10.0, "tasks": {"arc_easy": 4.0, "comments": 2.0}}


def records(name: str, skill: float) -> Tree:
    rng = random.Random(name)
    return {
        "exam": exam_records(rng, skill, skill, 200),
        "domain": {"comments": domain_records(rng, skill, 150)},
        "lm_eval": {"arc_easy": task_records(rng, skill, 300)},
        "bpb": bpb_records(rng, {"facts": 1 + skill, "wiki": 1.5}),
    }


@pytest.fixture
def models(tmp_path: Path) -> list[tuple[str, Path]]:
    for name, skill in (("one", 0.8), ("two", 0.6), ("three", 0.79)):
        write_eval(tmp_path / name, name, records(name, skill))
    return [(name, tmp_path / name) for name in ("one", "two", "three")]


def test_one_table_of_many_models_and_test_sets(models: list[tuple[str, Path]]) -> None:
    many = many_models(models)
    assert [m["name"] for m in many["models"]] == ["one", "two", "three"]
    rows = {(row["test_set"], row["measure"]): row["scores"] for row in many["rows"]}
    assert set(rows) == {
        ("mmlu", "accuracy"), ("mmlu", "cloze accuracy"), ("comments", "f1 weighted"),
        ("arc_easy", "acc,none"), ("facts", "bits per byte"), ("wiki", "bits per byte"),
    }  # fmt: skip
    summaries = [json.loads((path / "summary.json").read_text()) for _, path in models]
    for i, summary in enumerate(summaries):
        task = summary["domain"]["comments"]
        assert rows["comments", "f1 weighted"][i]["value"] == task["domain_f1"]
        assert rows["comments", "f1 weighted"][i]["interval"] == task["interval"]
        assert rows["mmlu", "accuracy"][i]["value"] == summary["exam"]["accuracy"]
        assert rows["arc_easy", "acc,none"][i]["value"] == summary["lm_eval"]["arc_easy"]["score"]
        assert rows["wiki", "bits per byte"][i]["value"] == summary["bpb"]["wiki"]["bpb"]
        assert rows["wiki", "bits per byte"][i]["interval"] == summary["bpb"]["wiki"]["interval"]
    assert all(scores[0]["change"] is None for scores in rows.values())
    right = [
        [row["metrics"]["acc"] == 1 for row in read_lines(path / "lm_eval_arc_easy.jsonl")[:-1]]
        for _, path in models
    ]
    expected = paired_drop(np.array(right[0]), np.array(right[1]), ["arc_easy"] * 300)
    change = rows["arc_easy", "acc,none"][1]["change"]
    assert change["change"] == pytest.approx(-expected.drop)
    assert (change["lost"], change["gained"]) == (expected.lost, expected.gained)
    assert change["p"] == binomtest(expected.lost, expected.lost + expected.gained, 0.5).pvalue
    assert change["detectable"] == expected.detectable
    lines = table_rows(many)
    assert len(lines) == 18
    assert all(len(line) == len(HEADER) for line in lines)
    assert [line[3] for line in lines[:3]] == ["one", "two", "three"]
    assert all(cell.isascii() for line in lines for cell in line)
    assert [bool(line[5]) for line in lines[:3]] == [False, True, True]


def test_answers_altered_on_known_items_give_exactly_the_known_counts(tmp_path: Path) -> None:
    """Of a model that is its base but for 12 items spoiled and 5 mended, in each kind of test."""
    before = records("one", 0.7)
    after = json.loads(json.dumps(before))
    kinds = {"mmlu": after["exam"], "comments": after["domain"]["comments"]}
    kinds["arc_easy"] = after["lm_eval"]["arc_easy"][:-1]
    for rows in kinds.values():
        right = [row for row in rows if row.get("correct", row.get("metrics") == {"acc": 1.0})]
        wrong = [row for row in rows if row not in right]
        for row in [*right[:12], *wrong[:5]]:
            good = row in wrong
            if "metrics" in row:
                row["metrics"] = {"acc": float(good)}
            else:
                row["correct"] = good
            if "label" in row:
                row["label"] = row["gold"] if good else None
    write_eval(tmp_path / "before", "before", before)
    write_eval(tmp_path / "after", "after", after)
    many = many_models([(name, tmp_path / name) for name in ("before", "after")])
    changes = {
        row["test_set"]: row["scores"][1]["change"]
        for row in many["rows"]
        if row["measure"] in ("accuracy", "f1 weighted", "acc,none")
    }
    assert set(changes) == set(kinds)
    for change in changes.values():
        assert (change["lost"], change["gained"], change["unpaired"]) == (12, 5, 0)
        assert change["p"] == binomtest(12, 17, 0.5).pvalue
    assert changes["arc_easy"]["change"] == pytest.approx(-7 / 300)
    assert changes["mmlu"]["change"] == pytest.approx(-7 / 200)
    [untouched] = [row for row in many["rows"] if row["test_set"] == "wiki"]
    assert untouched["scores"][1]["change"]["change"] == 0.0


def test_a_test_set_that_one_model_lacks_has_no_score_there(
    models: list[tuple[str, Path]], tmp_path: Path
) -> None:
    write_eval(tmp_path / "two", "two", records("two", 0.6) | {"lm_eval": {}})
    (tmp_path / "three/bpb.jsonl").write_text("{}\n")
    many = many_models(models)
    scores = {row["test_set"]: row["scores"] for row in many["rows"]}
    assert [score is None for score in scores["arc_easy"]] == [False, True, False]
    assert scores["wiki"][2] is None
    assert any("three/bpb.jsonl, line 1" in line for line in many["caveats"])
    [line] = [line for line in table_rows(many) if line[0] == "arc_easy" and line[3] == "two"]
    assert line[2] == line[4] == "-"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    write_sweep(tmp_path, n=200, budget=BUDGET)
    for name, skill in (("base", 0.8), ("general_0", 0.5), ("general_0.05", 0.79)):
        folder = tmp_path / "evals" / name
        write_eval(folder, name, records(name, skill))
    return tmp_path


def test_any_task_may_have_a_budget_with_three_verdicts(sweep: Path) -> None:
    report = load(sweep)
    Report.model_validate(report)
    judged = {
        arm["name"]: {v["task"] or v["budget"]: v for v in arm["verdicts"]}
        for arm in report["arms"]
    }
    lost = judged["general_0"]["arc_easy"]
    assert (lost["budget"], lost["verdict"]) == ("tasks", "broken")
    assert lost["lower_bound"] > 4
    near = judged["general_0.05"]["arc_easy"]
    assert near["verdict"] == "inconclusive"
    assert near["lower_bound"] < 4 < near["upper_bound"]
    assert near["underpowered"] == (near["detectable"] > 4)
    assert "underpowered: these items detect" in near["text"]
    assert judged["control"]["arc_easy"]["text"] == "not measured on both models"
    edit_sweep(sweep, budget={"tasks": {"arc_easy": 60.0, "comments": 60.0}})
    report = load(sweep)
    kept = next(arm for arm in report["arms"] if arm["name"] == "general_0.05")
    assert {v["verdict"] for v in kept["verdicts"]} == {"kept"}
    assert "arc_easy, points, comments, points" in report["recommendation"]["text"]
    page, markdown = (sweep / "report.html").read_text(), (sweep / "report.md").read_text()
    for text in (page, markdown):
        assert "arc_easy" in text.replace("\\_", "_")
        assert "kept: the loss is at most" in text


def test_a_budget_names_a_task_of_the_recipe(tiny: Path, tmp_path: Path) -> None:
    tree = tiny_recipe(tiny, tmp_path, evals={"domain": [{"name": "labels", "path": "x"}]})
    assert parse_recipe(tree | {"budget": {"tasks": {"labels": 2}}}).budget.tasks == {"labels": 2}
    with pytest.raises(UserError, match=r"budget\.tasks names 'lables'; valid names: labels"):
        parse_recipe(tree | {"budget": {"tasks": {"lables": 2}}})


def test_a_detectable_change_is_detected_in_four_of_five() -> None:
    rng = np.random.default_rng(0)
    error = 0.013
    reach = float(norm.ppf(0.975)) * error
    size = detectable_change(-reach, reach)
    found = rng.normal(size, error, size=4000)
    assert 0.78 <= np.mean(found - reach > 0) <= 0.82
    # On right and wrong answers it is the detectable drop of so many questions and discordance.
    assert detectable_change(0.05 - reach, 0.05 + reach) == pytest.approx(
        stats.detectable_drop(1000, 1000 * error**2)
    )


def test_what_users_look_for_is_in_the_report(sweep: Path) -> None:
    path = sweep / "evals/base/summary.json"
    summary = json.loads(path.read_text())
    summary["caveats"] = ["comments: none of the first 9 domain documents has the form of"]
    summary["decontaminated"] = {"comments": {"hash": "ab", "tokens_removed": 7}, "mmlu": None}
    score = {"model": "a/b", "form": "letter", "shots": 5, "harness": "lm-eval", "source": "card"}
    score |= {"published": 0.7, "measured": 0.6, "interval": [0.59, 0.61], "comparable": True}
    score |= {"reasons": [], "difference": -0.1, "agrees": False, "text": "60.0% measured"}
    summary["published"] = [score]
    summary["exam"] |= {"generative_accuracy": 0.1, "generative_invalid_rate": 0.8}
    summary["exam"] |= {"generative_gap": {"gap": 0.7, "lower": 0.6, "upper": 0.8}}
    summary["exam"] |= {"format_collapse": True, "near_ties": 3}
    task: Any = summary["domain"]["comments"]
    task["recall_at_precision"] = {"precision": 0.9, "recall": 0.25, "threshold": 0.6}
    task["review"] = [{"id": "c1", "certainty": 0.125, "gold": "a > b", "prediction": "<b>x"}]
    points = [[0.1 * i, 0.5 + 0.05 * i, 0.9 - 0.09 * i] for i in range(9)]
    task["precision_recall"] = {"positives": 150, "points": points}
    task["answer_tokens"] = {"min": 1.0, "p50": 4.0, "max": 9.0}
    path.write_text(json.dumps(summary))
    report = load(sweep)
    Report.model_validate(report)
    base = report["base"]
    assert base["published"] == [score]
    assert base["decontaminated"]["comments"]["tokens_removed"] == 7
    assert base["domain_tasks"][0]["confusion"]
    assert all(right != given for right, given, _ in base["domain_tasks"][0]["confusion"])
    assert "a lost format, not lost knowledge" in texts(report, "format_collapse")
    assert "does not reproduce its published score" in texts(report, "published")
    assert "none of the first 9 domain documents" in texts(report, "evaluation")
    page = (sweep / "report.html").read_text()
    assert "Precision over recall, comments" in page
    assert "base.domain_tasks.0.precision_recall.points.8.2" in page
    for shown in (
        "60.0% measured",
        "lost format",
        "0.250",
        "0.125",
        "&lt;b&gt;x",
        "no known label",
    ):
        assert shown in page
    assert "## The base beside published scores" in (sweep / "report.md").read_text()


def test_several_models_of_one_name_are_refused(
    tiny: Path, tmp_path: Path, alloy: Callable[..., CompletedProcess[str]]
) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tiny_recipe(tiny, tmp_path))
    done = alloy("eval", recipe, "--model", "a/run", "--model", "b/run")
    assert done.returncode == 2
    assert "two models are called 'run'" in done.stderr
    assert "Traceback" not in done.stderr
