"""Caveats that follow from the data."""

import json
import re
from pathlib import Path

from report_sweep import (
    ARMS,
    Tree,
    edit_sweep,
    load,
    read_lines,
    save_sweep,
    texts,
    write_eval,
    write_lines,
)

from alloy.reports.writing.headline import headline_table


def test_at_chance_means_no_claim(own_sweep: Path) -> None:
    for name in ("base", *(arm[0] for arm in ARMS)):
        path = own_sweep / "evals" / name
        rows = read_lines(path / "exam.jsonl")
        for i, row in enumerate(rows):
            row["correct"] = i % 4 == 0
            row["choice"] = row["answer"] if row["correct"] else (row["answer"] + 1) % 4
        records = {"exam": rows, "bpb": read_lines(path / "bpb.jsonl")}
        records["domain"] = {"comments": read_lines(path / "domain_comments.jsonl")}
        write_eval(path, name, records)
    report = load(own_sweep)
    assert report["base"]["at_chance"] is True
    assert "at chance: no claim" in texts(report, "at_chance")
    assert all(arm["verdicts"][0]["text"] == "at chance: no claim" for arm in report["arms"])
    assert all(arm["verdict"] != "kept" for arm in report["arms"])
    assert "at chance: no claim" in (own_sweep / "report.html").read_text(encoding="utf-8")


def test_an_arm_at_chance_is_named_though_the_base_is_not(own_sweep: Path) -> None:
    path = own_sweep / "evals" / "general_0" / "summary.json"
    summary = json.loads(path.read_text())
    summary["exam"]["at_chance"] = True
    path.write_text(json.dumps(summary))
    assert "general_0" in texts(load(own_sweep), "at_chance")


def test_without_retention_text_there_is_no_retention_claim(own_sweep: Path) -> None:
    for name in ("base", *(arm[0] for arm in ARMS)):
        path = own_sweep / "evals" / name / "bpb.jsonl"
        write_lines(path, [r for r in read_lines(path) if r["role"] != "retention"])
    report = load(own_sweep)
    assert report["base"]["retention_bpb"] is None
    assert "replayed text only: no retention claim" in texts(report, "retention")
    judged = report["arms"][4]["verdicts"][1]
    assert (judged["verdict"], judged["drop"]) == ("inconclusive", None)
    assert report["arms"][4]["verdict"] == "inconclusive"


def test_caveats_that_follow_from_the_sweep(whole_report: Tree) -> None:
    assert "One seed" in texts(whole_report, "seeds")
    assert "confounded" in texts(whole_report, "confounded")
    assert whole_report["saturation"]["text"] in texts(whole_report, "confounded")
    assert "not MMLU" in texts(whole_report, "world")
    kinds = {caveat["kind"] for caveat in whole_report["caveats"]}
    assert not kinds & {"annealed", "control", "failed", "files", "run", "evaluation", "retention"}


def test_prompts_longer_than_the_context_are_said(own_sweep: Path) -> None:
    assert "lost their start" not in texts(load(own_sweep), "evaluation")
    path = own_sweep / "evals" / "general_0" / "summary.json"
    summary = json.loads(path.read_text())
    summary["exam"]["truncated_prompts"] = 7
    path.write_text(json.dumps(summary))
    assert "Up to 7 exam prompts lost their start" in texts(load(own_sweep), "evaluation")


def test_annealed_against_unannealed_is_said(own_sweep: Path) -> None:
    sweep = edit_sweep(own_sweep, base={"name": "base", "eval": "evals/base"})
    assert "not recorded" in texts(load(own_sweep), "annealed")
    edit_sweep(own_sweep, base=sweep["base"] | {"annealed": False})
    assert "not alike" in texts(load(own_sweep), "annealed")
    path = own_sweep / "arms" / "general_0.25" / "lineage.json"
    path.write_text(json.dumps({"annealed": False, "skipped_steps": 3}))
    report = load(own_sweep)
    assert "general_0.25" in texts(report, "annealed")
    assert "3 steps were skipped" in texts(report, "run")


def test_a_failed_arm_has_no_scores_and_does_not_stop_the_rest(own_sweep: Path) -> None:
    sweep = json.loads((own_sweep / "sweep.json").read_text())
    sweep["arms"][1]["failed"] = "loss was NaN at step 40"
    save_sweep(own_sweep, sweep)
    report = load(own_sweep)
    failed = report["arms"][1]
    assert failed["exam_accuracy"] is failed["domain_f1"] is failed["verdict"] is None
    assert "loss was NaN at step 40" in texts(report, "failed")
    assert report["recommendation"]["general_share"] is not None
    assert re.search(r"general_0\.05 .* failed", headline_table(report))


def test_unlike_items_are_counted_not_compared(own_sweep: Path) -> None:
    path = own_sweep / "evals" / "general_0.5" / "exam.jsonl"
    rows = read_lines(path)
    write_lines(path, rows[10:])
    report = load(own_sweep)
    assert report["arms"][3]["change"]["exam"]["unpaired"] == 10
    assert report["arms"][3]["change"]["exam"]["n"] == len(rows) - 10
    assert "exam 10" in texts(report, "evaluation")
    assert "general_0.5: summary.json says exam accuracy" in texts(report, "files")
