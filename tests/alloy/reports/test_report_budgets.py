"""Budgets to verdicts, arms and laws to a recommendation, and how much of a gain came late."""

import json
from collections import Counter
from pathlib import Path

import pytest
from report_sweep import (
    Tree,
    edit_sweep,
    load,
    save_sweep,
    texts,
)


def test_the_three_verdicts_follow_from_their_bounds(whole_report: Tree) -> None:
    words = Counter()
    for arm in whole_report["arms"]:
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


def test_a_budget_between_the_bounds_is_inconclusive_and_may_be_underpowered(
    own_sweep: Path,
) -> None:
    near = -100 * load(own_sweep)["arms"][3]["change"]["exam"]["change"]
    edit_sweep(own_sweep, budget={"mmlu_points": near, "retention_bpb": None})
    report = load(own_sweep)
    verdict = report["arms"][3]["verdicts"][0]
    assert verdict["verdict"] == report["arms"][3]["verdict"] == "inconclusive"
    edit_sweep(own_sweep, budget={"mmlu_points": 0.5, "retention_bpb": None})
    report = load(own_sweep)
    control = report["arms"][4]["verdicts"][0]
    assert control["detectable"] > 0.5
    assert control["verdict"] == "inconclusive"
    assert "underpowered" in control["text"]
    assert "underpowered" in texts(report, "underpowered")


def test_the_law_recommends_under_a_retention_budget(whole_report: Tree) -> None:
    told = whole_report["recommendation"]
    assert (told["basis"], told["answer"]) == ("law", "kept")
    law = whole_report["law"][0]
    assert law["quantity"] == "retention_bpb"
    assert law["general_share_low"] <= told["general_share"] <= law["general_share_high"]
    assert told["critical_share"] < told["general_share"]
    assert told["upper_bound"] <= whole_report["budget"]["retention_bpb"]
    assert {cost["quantity"] for cost in told["domain_costs"]} == {"domain_f1", "domain_bpb"}
    for cost in told["domain_costs"]:
        low, high = cost["interval"]
        assert low <= cost["change"] <= high
        assert cost["against_share"] == 0.0
    assert "--confirm" in told["text"]
    assert "--confirm" in texts(whole_report, "selection")
    assert told["replayed_only"]["arm"] == "general_0.25"


def test_a_share_of_the_law_is_told_what_the_exam_says_above_it(whole_report: Tree) -> None:
    told = whole_report["recommendation"]
    above = [
        (arm["general_share"], verdict["verdict"])
        for arm in whole_report["arms"]
        for verdict in arm["verdicts"]
        if arm["kind"] in ("arm", "control") and verdict["budget"] == "mmlu_points"
        if arm["general_share"] >= told["general_share"]
    ]
    share, word = min(above)
    kept = min(share for share, verdict in above if verdict == "kept")
    assert word != "kept"
    assert (
        f"At the nearest measured share above, {100 * share:g}%, it is {word}; {100 * kept:g}% is "
        "the smallest measured share that keeps it."
    ) in told["text"]


def test_a_law_is_drawn_from_arms_and_control_alone(own_sweep: Path) -> None:
    before = load(own_sweep)["law"]
    assert [law["runs"] for law in before] == [5, 5, 4, 4]
    sweep = json.loads((own_sweep / "sweep.json").read_text())
    confirm = sweep["arms"][1] | {"name": "again", "kind": "confirm", "general_share": 0.3}
    save_sweep(own_sweep, sweep | {"arms": [*sweep["arms"], confirm]})
    report = load(own_sweep)
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


def test_a_budget_of_f1_judges_what_mixing_costs(own_sweep: Path) -> None:
    edit_sweep(own_sweep, budget={"domain_f1": 0.15})
    report = load(own_sweep)
    found = {a["name"]: a["verdicts"] for a in report["arms"]}
    assert found["general_0"] == found["control"] == found["general_0_short"] == []
    for arm, word in (("general_0.05", "kept"), ("general_0.5", "broken")):
        (verdict,) = found[arm]
        f1 = {a["name"]: a["domain_f1"] for a in report["arms"]}
        assert verdict["budget"] == "domain_f1"
        assert verdict["drop"] == pytest.approx(f1["general_0"] - f1[arm])
        assert verdict["lower_bound"] < verdict["drop"] < verdict["upper_bound"]
        assert verdict["verdict"] == word


def test_a_confirming_run_outside_its_interval_is_called_so(own_sweep: Path) -> None:
    report = load(own_sweep)
    share = report["recommendation"]["general_share"]
    sweep = json.loads((own_sweep / "sweep.json").read_text())
    confirm = sweep["arms"][0] | {"name": "again", "kind": "confirm", "general_share": share}
    save_sweep(own_sweep, sweep | {"arms": [*sweep["arms"], confirm]})
    report = load(own_sweep)
    assert report["confirmations"][0]["inside"] is False
    assert "outside the predicted" in report["confirmations"][0]["text"]
    assert report["recommendation"]["arm"] == "again"
    assert texts(report, "selection") == ""


def test_a_sweep_of_few_shares_says_that_it_has_no_law(own_sweep: Path) -> None:
    sweep = json.loads((own_sweep / "sweep.json").read_text())
    save_sweep(own_sweep, sweep | {"arms": sweep["arms"][1:4]})
    report = load(own_sweep)
    assert report["law"] == []
    assert report["recommendation"]["basis"] == "measured"
    assert "a law needs 4 shares" in report["recommendation"]["text"]


def test_without_a_loss_budget_the_smallest_measured_share_is_named(own_sweep: Path) -> None:
    edit_sweep(own_sweep, budget={"mmlu_points": 10.0, "retention_bpb": None})
    report = load(own_sweep)
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


def test_no_measured_ratio_keeps_a_budget_of_the_exam(own_sweep: Path) -> None:
    edit_sweep(own_sweep, budget={"mmlu_points": 0.01, "retention_bpb": None})
    report = load(own_sweep)
    assert report["recommendation"]["answer"] == "no_ratio"
    assert "no measured ratio keeps this budget" in report["recommendation"]["text"].lower()


def test_a_budget_that_only_the_control_may_keep_is_not_promised(own_sweep: Path) -> None:
    edit_sweep(own_sweep, budget={"mmlu_points": None, "retention_bpb": 0.005})
    told = load(own_sweep)["recommendation"]
    assert told["answer"] in ("noisy", "no_ratio")
    assert told["general_share"] is None
    sweep = json.loads((own_sweep / "sweep.json").read_text())
    save_sweep(own_sweep, sweep | {"arms": sweep["arms"][:4]})
    told = load(own_sweep)["recommendation"]
    assert told["answer"] == "not_bracketed"
    assert "Add these shares" in told["text"]


def test_without_a_budget_nothing_is_judged(own_sweep: Path) -> None:
    edit_sweep(own_sweep, budget={"mmlu_points": None, "retention_bpb": None})
    report = load(own_sweep)
    assert all(a["verdict"] is None and a["verdicts"] == [] for a in report["arms"])
    assert "No budget" in report["recommendation"]["text"]


def test_saturation_is_the_late_part_of_the_gain(whole_report: Tree) -> None:
    base, whole, short = whole_report["base"], whole_report["arms"][0], whole_report["arms"][5]
    late = (whole["domain_f1"] - short["domain_f1"]) / (whole["domain_f1"] - base["domain_f1"])
    assert whole_report["saturation"]["gain_added"] == pytest.approx(late)
    assert whole_report["saturation"]["last_part"] == pytest.approx(0.25)
