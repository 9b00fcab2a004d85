"""The forgetting report: its numbers against the item records, verdicts, caveats, damaged files."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from report_sweep import (
    ARMS,
    LABELS,
    ROOT,
    SUBJECTS,
    Tree,
    edit_sweep,
    load,
    read_lines,
    save_sweep,
    texts,
    write_eval,
    write_lines,
    write_sweep,
)
from sklearn.metrics import f1_score

from alloy.report.headline import headline_table
from alloy.report.write import write_report
from configs import UserError

HEADLINE_KEYS = {
    "name",
    "general_share",
    "tokens",
    "exam_accuracy",
    "exam_accuracy_replayed",
    "exam_accuracy_unreplayed",
    "exam_n",
    "domain_f1",
    "domain_n",
    "general_bpb",
    "retention_bpb",
    "domain_bpb",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete sweep, read-only: tests that change files write their own."""
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder)
    return folder


@pytest.fixture(scope="module")
def report(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return load(world, tmp_path_factory.mktemp("out"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A sweep of fewer questions that a test may damage."""
    write_sweep(tmp_path, n=400)
    return tmp_path


# --- numbers ---------------------------------------------------------------------------------


def test_headline_numbers_are_those_of_the_item_records(world: Path, report: Tree) -> None:
    assert report["schema_version"] == 2
    entries = [report["base"], *report["arms"]]
    assert [e["name"] for e in entries] == ["base", *(arm[0] for arm in ARMS)]
    for entry in entries:
        assert set(entry) >= HEADLINE_KEYS
        exam = read_lines(world / "evals" / entry["name"] / "exam.jsonl")
        domain = read_lines(world / "evals" / entry["name"] / "domain_comments.jsonl")
        bpb = read_lines(world / "evals" / entry["name"] / "bpb.jsonl")
        assert entry["exam_n"] == len(exam)
        assert entry["domain_n"] == len(domain)
        assert entry["exam_accuracy"] == pytest.approx(mean(r["correct"] for r in exam))
        for key, wanted in (("exam_accuracy_replayed", True), ("exam_accuracy_unreplayed", False)):
            expected = mean(r["correct"] for r in exam if r["replayed"] is wanted)
            assert entry[key] == pytest.approx(expected)
        gold, labels = [r["gold"] for r in domain], [r["label"] or "" for r in domain]
        expected = f1_score(gold, labels, average="weighted", zero_division=0, labels=LABELS)
        assert entry["domain_f1"] == pytest.approx(expected)
        for role in ("general", "retention", "domain"):
            rows = [r for r in bpb if r["role"] == role]
            expected = sum(r["bits"] for r in rows) / sum(r["bytes"] for r in rows)
            assert entry[f"{role}_bpb"] == pytest.approx(expected)
    assert report["base"]["general_share"] is None
    assert report["base"]["tokens"] == 0


def mean(values: Any) -> float:
    kept = list(values)
    return sum(kept) / len(kept)


def test_changes_are_paired_with_the_base(world: Path, report: Tree) -> None:
    base = {
        (r["subject"], r["index"]): r for r in read_lines(world / "evals" / "base" / "exam.jsonl")
    }
    for arm in report["arms"]:
        rows = read_lines(world / "evals" / arm["name"] / "exam.jsonl")
        before = [base[r["subject"], r["index"]]["correct"] for r in rows]
        lost = sum(b and not r["correct"] for b, r in zip(before, rows, strict=True))
        gained = sum(not b and r["correct"] for b, r in zip(before, rows, strict=True))
        change = arm["change"]["exam"]
        assert (change["lost"], change["gained"]) == (lost, gained)
        assert change["change"] == pytest.approx((gained - lost) / len(rows))
        assert change["change"] == pytest.approx(
            arm["exam_accuracy"] - report["base"]["exam_accuracy"]
        )
        assert change["interval"][0] < change["change"] < change["interval"][1]
        assert change["p"] <= change["p_holm"] <= 1
        f1 = arm["change"]["domain_f1"]
        assert f1["change"] == pytest.approx(arm["domain_f1"] - report["base"]["domain_f1"])
        assert f1["interval"][0] < f1["change"] < f1["interval"][1]
        parts = [arm["change"][f"exam_{part}"] for part in ("replayed", "unreplayed")]
        assert sum(part["lost"] for part in parts) == lost
        for role in ("general", "retention", "domain"):
            bpb = arm["change"][f"{role}_bpb"]
            expected = arm[f"{role}_bpb"] - report["base"][f"{role}_bpb"]
            assert bpb["change"] == pytest.approx(expected)
            assert bpb["interval"][0] < bpb["change"] < bpb["interval"][1]


def test_categories_and_subjects_add_up(report: Tree) -> None:
    for arm in report["arms"]:
        for by, names in (("category", set(SUBJECTS.values())), ("subject", set(SUBJECTS))):
            rows = arm[f"by_{by}"]
            assert {row["name"] for row in rows} == names
            assert sum(row["n"] for row in rows) == arm["exam_n"]
            assert sum(row["change"]["lost"] for row in rows) == arm["change"]["exam"]["lost"]


def test_receipts_carry_roles_and_no_windows(report: Tree) -> None:
    (phase,) = report["arms"][1]["receipt"]["phases"]
    assert [s["role"] for s in phase["sources"]] == ["general", "domain"]
    assert [s["realised_share"] for s in phase["sources"]] == [0.05, 0.95]
    assert "windows" not in phase


def test_a_receipt_that_does_not_match_is_said(small: Path) -> None:
    path = small / "arms" / "general_0.25" / "receipt.json"
    receipt = json.loads(path.read_text()) | {"ok": False, "problems": ["facts strays", "more"]}
    path.write_text(json.dumps(receipt))
    assert "facts strays (2 in all)" in texts(load(small), "run")


# --- budgets, recommendation, saturation -----------------------------------------------------


def test_the_three_verdicts_follow_from_their_bounds(report: Tree) -> None:
    words = Counter()
    for arm in report["arms"]:
        for verdict in arm["verdicts"]:
            words[verdict["verdict"]] += 1
            assert verdict["lower_bound"] < verdict["drop"] < verdict["upper_bound"]
            if verdict["upper_bound"] <= verdict["allowed"]:
                assert verdict["verdict"] == "kept"
            elif verdict["lower_bound"] > verdict["allowed"]:
                assert verdict["verdict"] == "broken"
            else:
                assert verdict["verdict"] == "inconclusive"
    assert words["kept"]
    assert words["broken"]


def test_a_budget_between_the_bounds_is_inconclusive_and_may_be_underpowered(small: Path) -> None:
    near = -100 * load(small)["arms"][3]["change"]["exam"]["change"]
    edit_sweep(small, budget={"mmlu_points": near, "retention_bpb": None})
    report = load(small)
    verdict = report["arms"][3]["verdicts"][0]
    assert verdict["verdict"] == report["arms"][3]["verdict"] == "inconclusive"
    edit_sweep(small, budget={"mmlu_points": 0.5, "retention_bpb": None})
    report = load(small)
    control = report["arms"][4]["verdicts"][0]
    assert control["detectable"] > 0.5
    assert control["verdict"] == "inconclusive"
    assert "underpowered" in control["text"]
    assert "underpowered" in texts(report, "underpowered")


def test_the_law_recommends_under_a_retention_budget(report: Tree) -> None:
    told = report["recommendation"]
    assert (told["basis"], told["answer"]) == ("law", "kept")
    law = report["law"][0]
    assert law["quantity"] == "retention_bpb"
    assert law["general_share_low"] <= told["general_share"] <= law["general_share_high"]
    assert told["critical_share"] < told["general_share"]
    assert told["upper_bound"] <= report["budget"]["retention_bpb"]
    assert {cost["quantity"] for cost in told["domain_costs"]} == {"domain_f1", "domain_bpb"}
    for cost in told["domain_costs"]:
        low, high = cost["interval"]
        assert low <= cost["change"] <= high
        assert cost["against_share"] == 0.0
    assert "--confirm" in told["text"]
    assert "--confirm" in texts(report, "selection")
    assert told["replayed_only"]["arm"] == "general_0.25"


def test_a_law_is_drawn_from_arms_and_control_alone(small: Path) -> None:
    before = load(small)["law"]
    assert [law["runs"] for law in before] == [5, 5, 4, 4]
    sweep = json.loads((small / "sweep.json").read_text())
    confirm = sweep["arms"][1] | {"name": "again", "kind": "confirm", "general_share": 0.3}
    save_sweep(small, sweep | {"arms": [*sweep["arms"], confirm]})
    report = load(small)
    assert report["law"] == before
    (told,) = report["confirmations"]
    assert told["general_share"] == 0.3
    assert told["arm"] == "again"
    (retention,) = (p for p in told["predictions"] if p["quantity"] == "retention_bpb")
    arm = report["arms"][-1]
    assert retention["measured"] == arm["change"]["retention_bpb"]["change"]
    low, high = retention["interval"]
    assert retention["inside"] is (low <= retention["measured"] <= high)
    assert "Exam points budget" in told["text"]
    assert arm["verdicts"][0]["text"] in told["text"]


def test_a_budget_of_f1_judges_what_mixing_costs(small: Path) -> None:
    edit_sweep(small, budget={"domain_f1": 0.15})
    report = load(small)
    found = {a["name"]: a["verdicts"] for a in report["arms"]}
    assert found["general_0"] == found["control"] == found["general_0_short"] == []
    for arm, word in (("general_0.05", "kept"), ("general_0.5", "broken")):
        (verdict,) = found[arm]
        f1 = {a["name"]: a["domain_f1"] for a in report["arms"]}
        assert verdict["budget"] == "domain_f1"
        assert verdict["drop"] == pytest.approx(f1["general_0"] - f1[arm])
        assert verdict["lower_bound"] < verdict["drop"] < verdict["upper_bound"]
        assert verdict["verdict"] == word


def test_a_confirming_run_outside_its_interval_is_called_so(small: Path) -> None:
    report = load(small)
    share = report["recommendation"]["general_share"]
    sweep = json.loads((small / "sweep.json").read_text())
    confirm = sweep["arms"][0] | {"name": "again", "kind": "confirm", "general_share": share}
    save_sweep(small, sweep | {"arms": [*sweep["arms"], confirm]})
    report = load(small)
    assert report["confirmations"][0]["inside"] is False
    assert "outside the predicted" in report["confirmations"][0]["text"]
    assert report["recommendation"]["arm"] == "again"
    assert texts(report, "selection") == ""


def test_a_sweep_of_few_shares_says_that_it_has_no_law(small: Path) -> None:
    sweep = json.loads((small / "sweep.json").read_text())
    save_sweep(small, sweep | {"arms": sweep["arms"][1:4]})
    report = load(small)
    assert report["law"] == []
    assert report["recommendation"]["basis"] == "measured"
    assert "a law needs 4 shares" in report["recommendation"]["text"]


def test_without_a_loss_budget_the_smallest_measured_share_is_named(small: Path) -> None:
    edit_sweep(small, budget={"mmlu_points": 10.0, "retention_bpb": None})
    report = load(small)
    told = report["recommendation"]
    kept = [a for a in report["arms"] if a["kind"] == "arm" and a["verdict"] == "kept"]
    best = min(kept, key=lambda a: a["general_share"])
    assert told["arm"] == best["name"] == "general_0.5"
    gain = report["arms"][0]["domain_f1"] - report["base"]["domain_f1"]
    expected = (best["domain_f1"] - report["base"]["domain_f1"]) / gain
    assert told["domain_gain_kept"] == pytest.approx(expected)
    assert "measured" in told["text"]
    assert "no loss has a budget" in told["text"]
    assert "same items" in texts(report, "selection")


def test_no_measured_ratio_keeps_a_budget_of_the_exam(small: Path) -> None:
    edit_sweep(small, budget={"mmlu_points": 0.01, "retention_bpb": None})
    report = load(small)
    assert report["recommendation"]["answer"] == "no_ratio"
    assert "no measured ratio keeps this budget" in report["recommendation"]["text"].lower()


def test_a_budget_that_only_the_control_may_keep_is_not_promised(small: Path) -> None:
    edit_sweep(small, budget={"mmlu_points": None, "retention_bpb": 0.005})
    told = load(small)["recommendation"]
    assert told["answer"] in ("noisy", "no_ratio")
    assert told["general_share"] is None
    sweep = json.loads((small / "sweep.json").read_text())
    save_sweep(small, sweep | {"arms": sweep["arms"][:4]})
    told = load(small)["recommendation"]
    assert told["answer"] == "not_bracketed"
    assert "Add these shares" in told["text"]


def test_without_a_budget_nothing_is_judged(small: Path) -> None:
    edit_sweep(small, budget={"mmlu_points": None, "retention_bpb": None})
    report = load(small)
    assert all(a["verdict"] is None and a["verdicts"] == [] for a in report["arms"])
    assert "No budget" in report["recommendation"]["text"]


def test_saturation_is_the_late_part_of_the_gain(report: Tree) -> None:
    base, whole, short = report["base"], report["arms"][0], report["arms"][5]
    late = (whole["domain_f1"] - short["domain_f1"]) / (whole["domain_f1"] - base["domain_f1"])
    assert report["saturation"]["gain_added"] == pytest.approx(late)
    assert report["saturation"]["last_part"] == pytest.approx(0.25)


# --- caveats ---------------------------------------------------------------------------------


def test_at_chance_means_no_claim(small: Path) -> None:
    for name in ("base", *(arm[0] for arm in ARMS)):
        path = small / "evals" / name
        rows = read_lines(path / "exam.jsonl")
        for i, row in enumerate(rows):
            row["correct"] = i % 4 == 0
            row["choice"] = row["answer"] if row["correct"] else (row["answer"] + 1) % 4
        records = {"exam": rows, "bpb": read_lines(path / "bpb.jsonl")}
        records["domain"] = {"comments": read_lines(path / "domain_comments.jsonl")}
        write_eval(path, name, records)
    report = load(small)
    assert report["base"]["at_chance"] is True
    assert "at chance: no claim" in texts(report, "at_chance")
    assert all(arm["verdicts"][0]["text"] == "at chance: no claim" for arm in report["arms"])
    assert all(arm["verdict"] != "kept" for arm in report["arms"])
    assert "at chance: no claim" in (small / "report.html").read_text(encoding="utf-8")


def test_an_arm_at_chance_is_named_though_the_base_is_not(small: Path) -> None:
    path = small / "evals" / "general_0" / "summary.json"
    summary = json.loads(path.read_text())
    summary["exam"]["at_chance"] = True
    path.write_text(json.dumps(summary))
    assert "general_0" in texts(load(small), "at_chance")


def test_without_retention_text_there_is_no_retention_claim(small: Path) -> None:
    for name in ("base", *(arm[0] for arm in ARMS)):
        path = small / "evals" / name / "bpb.jsonl"
        write_lines(path, [r for r in read_lines(path) if r["role"] != "retention"])
    report = load(small)
    assert report["base"]["retention_bpb"] is None
    assert "replayed text only: no retention claim" in texts(report, "retention")
    judged = report["arms"][4]["verdicts"][1]
    assert (judged["verdict"], judged["drop"]) == ("inconclusive", None)
    assert report["arms"][4]["verdict"] == "inconclusive"


def test_caveats_that_follow_from_the_sweep(report: Tree) -> None:
    assert "One seed" in texts(report, "seeds")
    assert "confounded" in texts(report, "confounded")
    assert report["saturation"]["text"] in texts(report, "confounded")
    assert "not MMLU" in texts(report, "world")
    kinds = {caveat["kind"] for caveat in report["caveats"]}
    assert not kinds & {"annealed", "control", "failed", "files", "run", "evaluation", "retention"}


def test_prompts_longer_than_the_context_are_said(small: Path) -> None:
    assert "lost their start" not in texts(load(small), "evaluation")
    path = small / "evals" / "general_0" / "summary.json"
    summary = json.loads(path.read_text())
    summary["exam"]["truncated_prompts"] = 7
    path.write_text(json.dumps(summary))
    assert "Up to 7 exam prompts lost their start" in texts(load(small), "evaluation")


def test_annealed_against_unannealed_is_said(small: Path) -> None:
    sweep = edit_sweep(small, base={"name": "base", "eval": "evals/base"})
    assert "not recorded" in texts(load(small), "annealed")
    edit_sweep(small, base=sweep["base"] | {"annealed": False})
    assert "not alike" in texts(load(small), "annealed")
    path = small / "arms" / "general_0.25" / "lineage.json"
    path.write_text(json.dumps({"annealed": False, "skipped_steps": 3}))
    report = load(small)
    assert "general_0.25" in texts(report, "annealed")
    assert "3 steps were skipped" in texts(report, "run")


def test_a_failed_arm_has_no_scores_and_does_not_stop_the_rest(small: Path) -> None:
    sweep = json.loads((small / "sweep.json").read_text())
    sweep["arms"][1]["failed"] = "loss was NaN at step 40"
    save_sweep(small, sweep)
    report = load(small)
    failed = report["arms"][1]
    assert failed["exam_accuracy"] is failed["domain_f1"] is failed["verdict"] is None
    assert "loss was NaN at step 40" in texts(report, "failed")
    assert report["recommendation"]["general_share"] is not None
    assert re.search(r"general_0\.05 .* failed", headline_table(report))


def test_unlike_items_are_counted_not_compared(small: Path) -> None:
    path = small / "evals" / "general_0.5" / "exam.jsonl"
    rows = read_lines(path)
    write_lines(path, rows[10:])
    report = load(small)
    assert report["arms"][3]["change"]["exam"]["unpaired"] == 10
    assert report["arms"][3]["change"]["exam"]["n"] == len(rows) - 10
    assert "exam 10" in texts(report, "evaluation")
    assert "general_0.5: summary.json says exam accuracy" in texts(report, "files")


# --- files -----------------------------------------------------------------------------------


def every_file(folder: Path) -> list[Path]:
    kept = [p for p in folder.rglob("*") if p.is_file() and p.name != "sweep.json"]
    return sorted(p for p in kept if p.parent != folder and "general_0.05" not in str(p))


def test_any_missing_or_damaged_file_is_said_and_nothing_fails(tmp_path: Path) -> None:
    write_sweep(tmp_path, n=40)
    files = [p for p in every_file(tmp_path) if p.parent.name in ("base", "general_0")]
    assert len(files) == 4 + 4 + 3
    for path in files:
        whole = path.read_bytes()
        name = path.relative_to(tmp_path).as_posix()
        path.unlink()
        assert f"{name} is missing" in texts(load(tmp_path), "files"), name
        path.write_bytes(whole[: len(whole) // 2])
        assert f"{name}" in texts(load(tmp_path), "files"), name
        path.write_bytes(whole)
    assert texts(load(tmp_path), "files") == ""


def test_an_empty_sweep_still_gives_a_page(tmp_path: Path) -> None:
    save_sweep(tmp_path, {"name": "x", "base": {"name": "base", "eval": "e"}, "arms": []})
    report = load(tmp_path)
    assert report["base"]["exam_accuracy"] is None
    assert "e/summary.json is missing" in texts(report, "files")


@pytest.mark.parametrize("content", [None, "", "[]", '{"name": "x"}', "\xff"])
def test_no_sweep_is_a_users_mistake(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "sweep.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError) as error:
        write_report(tmp_path)
    assert error.value.hint
    assert [p.name for p in tmp_path.iterdir() if "report" in p.name] == []


def test_an_unwritable_target_is_a_users_mistake(world: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        write_report(world, tmp_path / "file" / "below")


def test_the_same_records_give_the_same_bytes(world: Path, tmp_path: Path) -> None:
    first, second = write_report(world, tmp_path / "a"), write_report(world, tmp_path / "b")
    for name in ("html", "json", "markdown"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]


def test_a_loss_that_is_not_a_number_is_counted(small: Path) -> None:
    path = small / "arms" / "general_0" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[5] = re.sub(r'"loss": [\d.]+', '"loss": NaN', lines[5])
    path.write_text("\n".join(lines) + "\n")
    report = load(small)
    assert report["arms"][0]["curve"]["non_finite"] == 1
    assert "1 logged steps have no finite loss" in texts(report, "run")


def test_a_report_needs_no_torch() -> None:
    code = "import sys, alloy.report.write; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
