"""The forgetting report: its numbers against the item records, and damaged files."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from report_sweep import (
    ARMS,
    LABELS,
    SUBJECTS,
    Tree,
    load,
    read_lines,
    save_sweep,
    texts,
    write_sweep,
)
from sklearn.metrics import f1_score

from alloy.reports.writing.write import write_report
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


# --- numbers ---------------------------------------------------------------------------------


def test_headline_numbers_are_those_of_the_item_records(
    whole_sweep: Path, whole_report: Tree
) -> None:
    assert whole_report["schema_version"] == 2
    entries = [whole_report["base"], *whole_report["arms"]]
    assert [e["name"] for e in entries] == ["base", *(arm[0] for arm in ARMS)]
    for entry in entries:
        assert set(entry) >= HEADLINE_KEYS
        exam = read_lines(whole_sweep / "evals" / entry["name"] / "exam.jsonl")
        domain = read_lines(whole_sweep / "evals" / entry["name"] / "domain_comments.jsonl")
        bpb = read_lines(whole_sweep / "evals" / entry["name"] / "bpb.jsonl")
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
    assert whole_report["base"]["general_share"] is None
    assert whole_report["base"]["tokens"] == 0


def mean(values: Any) -> float:
    kept = list(values)
    return sum(kept) / len(kept)


def test_changes_are_paired_with_the_base(whole_sweep: Path, whole_report: Tree) -> None:
    base = {
        (r["subject"], r["index"]): r
        for r in read_lines(whole_sweep / "evals" / "base" / "exam.jsonl")
    }
    for arm in whole_report["arms"]:
        rows = read_lines(whole_sweep / "evals" / arm["name"] / "exam.jsonl")
        before = [base[r["subject"], r["index"]]["correct"] for r in rows]
        lost = sum(b and not r["correct"] for b, r in zip(before, rows, strict=True))
        gained = sum(not b and r["correct"] for b, r in zip(before, rows, strict=True))
        change = arm["change"]["exam"]
        assert (change["lost"], change["gained"]) == (lost, gained)
        assert change["change"] == pytest.approx((gained - lost) / len(rows))
        assert change["change"] == pytest.approx(
            arm["exam_accuracy"] - whole_report["base"]["exam_accuracy"]
        )
        assert change["interval"][0] < change["change"] < change["interval"][1]
        assert change["p"] <= change["p_holm"] <= 1
        f1 = arm["change"]["domain_f1"]
        assert f1["change"] == pytest.approx(arm["domain_f1"] - whole_report["base"]["domain_f1"])
        assert f1["interval"][0] < f1["change"] < f1["interval"][1]
        parts = [arm["change"][f"exam_{part}"] for part in ("replayed", "unreplayed")]
        assert sum(part["lost"] for part in parts) == lost
        for role in ("general", "retention", "domain"):
            bpb = arm["change"][f"{role}_bpb"]
            expected = arm[f"{role}_bpb"] - whole_report["base"][f"{role}_bpb"]
            assert bpb["change"] == pytest.approx(expected)
            assert bpb["interval"][0] < bpb["change"] < bpb["interval"][1]


def test_categories_and_subjects_add_up(whole_report: Tree) -> None:
    for arm in whole_report["arms"]:
        for by, names in (("category", set(SUBJECTS.values())), ("subject", set(SUBJECTS))):
            rows = arm[f"by_{by}"]
            assert {row["name"] for row in rows} == names
            assert sum(row["n"] for row in rows) == arm["exam_n"]
            assert sum(row["change"]["lost"] for row in rows) == arm["change"]["exam"]["lost"]


def test_receipts_carry_roles_and_no_windows(whole_report: Tree) -> None:
    (phase,) = whole_report["arms"][1]["receipt"]["phases"]
    assert [s["role"] for s in phase["sources"]] == ["general", "domain"]
    assert [s["realised_share"] for s in phase["sources"]] == [0.05, 0.95]
    assert "windows" not in phase


def test_a_receipt_that_does_not_match_is_said(own_sweep: Path) -> None:
    path = own_sweep / "arms" / "general_0.25" / "receipt.json"
    receipt = json.loads(path.read_text()) | {"ok": False, "problems": ["facts strays", "more"]}
    path.write_text(json.dumps(receipt))
    assert "facts strays (2 in all)" in texts(load(own_sweep), "run")


# --- files -----------------------------------------------------------------------------------


def every_file(folder: Path) -> list[Path]:
    kept = [p for p in folder.rglob("*") if p.is_file() and p.name != "sweep.json"]
    return sorted(p for p in kept if p.parent != folder and "general_0.05" not in str(p))


@pytest.mark.slow
def test_any_missing_or_damaged_file_is_said_and_nothing_fails(tmp_path: Path) -> None:
    write_sweep(tmp_path, n=40)
    files = [p for p in every_file(tmp_path) if p.parent.name in ("base", "general_0")]
    assert len(files) == 4 + 4 + 4
    for path in files:
        whole = path.read_bytes()
        name = path.relative_to(tmp_path).as_posix()
        path.unlink()
        # A run need not have measured anything on the way.
        optional = path.name == "heldout.jsonl"
        assert (f"{name} is missing" in texts(load(tmp_path), "files")) != optional, name
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


def test_an_unwritable_target_is_a_users_mistake(whole_sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        write_report(whole_sweep, tmp_path / "file" / "below")


def test_the_same_records_give_the_same_bytes(whole_sweep: Path, tmp_path: Path) -> None:
    first, second = (
        write_report(whole_sweep, tmp_path / "a"),
        write_report(whole_sweep, tmp_path / "b"),
    )
    for name in ("html", "json", "markdown"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]


def test_a_loss_that_is_not_a_number_is_counted(own_sweep: Path) -> None:
    path = own_sweep / "arms" / "general_0" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[5] = re.sub(r'"loss": [\d.]+', '"loss": NaN', lines[5])
    path.write_text("\n".join(lines) + "\n")
    report = load(own_sweep)
    assert report["arms"][0]["curve"]["non_finite"] == 1
    assert "1 logged steps have no finite loss" in texts(report, "run")


def test_a_report_needs_no_torch() -> None:
    code = "import sys, alloy.reports.writing.write; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
