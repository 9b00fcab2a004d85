"""What scripts take from a report: the schema, the gate, the model card, costs, joined runs."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from places import ROOT
from pydantic import ValidationError
from report_sweep import (
    Tree,
    edit_sweep,
    load,
    read_lines,
    save_sweep,
    write_lines,
    write_sweep,
)
from test_report_page import Page, at_path

from alloy.commands.report import command
from alloy.reports.judging.gating import gate
from alloy.reports.judging.schema import Report, json_schema
from alloy.reports.writing.card import model_card
from alloy.reports.writing.headline import headline_table
from alloy.reports.writing.write import write_report
from configs import CheckFailed, UserError

# --- schema ----------------------------------------------------------------------------------


def test_the_published_schema_is_current() -> None:
    published = (ROOT / "docs/report.schema.json").read_text(encoding="utf-8")
    assert published == json_schema(), "run: python -m alloy.reports.judging.schema"


def test_a_report_has_the_published_keys_and_no_others(whole_report: Tree) -> None:
    Report.model_validate_json(json.dumps(whole_report))
    # Pydantic fills in what has a default, so that dumping it again shows a key that was left out.
    told = Report.model_validate_json(json.dumps(whole_report)).model_dump(mode="json")
    assert set(told) == set(whole_report)
    for one, other in zip(told["arms"], whole_report["arms"], strict=True):
        assert set(one) == set(other)
    with pytest.raises(ValidationError, match="surprise"):
        Report.model_validate(whole_report | {"surprise": 1})


def test_an_empty_and_a_failed_sweep_validate_too(tmp_path: Path, own_sweep: Path) -> None:
    save_sweep(tmp_path / "empty", {"name": "x", "base": {"name": "b", "eval": "e"}, "arms": []})
    sweep = json.loads((own_sweep / "sweep.json").read_text())
    for arm in sweep["arms"]:
        arm["failed"] = "out of memory"
    save_sweep(own_sweep, sweep)
    for folder in (tmp_path / "empty", own_sweep):
        Report.model_validate_json(json.dumps(load(folder)))


# --- cost ------------------------------------------------------------------------------------


def test_costs_follow_from_the_logged_steps(whole_sweep: Path, tmp_path: Path) -> None:
    files = write_report(whole_sweep, tmp_path, price=2.0)
    report = json.loads(files.json.read_text())
    total = 0.0
    for arm in report["arms"]:
        rows = read_lines(whole_sweep / "arms" / arm["name"] / "metrics.jsonl")
        seconds, before = 0.0, 0
        for row in rows:
            seconds += (row["tokens"] - before) / row["tokens_per_second"]
            before = row["tokens"]
        assert arm["cost"]["train_seconds"] == pytest.approx(seconds)
        assert arm["cost"]["tokens_per_second"] == pytest.approx(9000.0)
        assert arm["cost"]["rank_hours"] == pytest.approx(2 * seconds / 3600)
        assert arm["cost"]["money"] == pytest.approx(4 * seconds / 3600)
        total += 2 * seconds / 3600
    assert report["cost"]["rank_hours"] == pytest.approx(total)
    assert report["cost"]["money"] == pytest.approx(2 * total)


def test_a_speed_that_was_not_logged_is_no_cost(own_sweep: Path) -> None:
    path = own_sweep / "arms/general_0/metrics.jsonl"
    rows = read_lines(path)
    del rows[3]["tokens_per_second"]
    write_lines(path, rows)
    report = load(own_sweep)
    assert report["arms"][0]["cost"] is None
    assert report["cost"]["arms"] == len(report["arms"]) - 1
    assert report["cost"]["money"] is None


# --- gate ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arm", "budget", "word"),
    [
        ("control", {"mmlu_points": 30.0, "retention_bpb": 0.5}, "kept"),
        ("general_0", {"mmlu_points": 30.0, "retention_bpb": 0.5}, "broken"),
        ("control", {"mmlu_points": 0.5}, "underpowered"),
        ("control", {}, "unjudged"),
    ],
)
def test_the_gate_tells_the_verdicts_apart(
    own_sweep: Path, arm: str, budget: Tree, word: str
) -> None:
    edit_sweep(own_sweep, budget=budget)
    told = gate(load(own_sweep), arm)
    assert (told.word, told.arm) == (word, arm)
    done = CliRunner().invoke(command, [str(own_sweep), "--gate", "--arm", arm])
    if word == "kept":
        assert done.exit_code == 0
        assert "control is kept" in done.output
    else:
        assert isinstance(done.exception, CheckFailed)
        assert done.exception.exit_code == 1
        assert word in done.exception.message or word == "unjudged"


def test_an_inconclusive_budget_that_has_the_power_is_not_called_underpowered(
    own_sweep: Path,
) -> None:
    drop = -100 * load(own_sweep)["arms"][0]["change"]["exam"]["change"]
    edit_sweep(own_sweep, budget={"mmlu_points": drop})
    assert gate(load(own_sweep), "general_0").word == "inconclusive"


def test_the_gate_judges_the_confirming_run_and_never_nothing(own_sweep: Path) -> None:
    assert gate(load(own_sweep)).word == "unjudged"  # the law's share was not trained
    sweep = json.loads((own_sweep / "sweep.json").read_text())
    confirm = sweep["arms"][0] | {"name": "again", "kind": "confirm", "general_share": 0.3}
    save_sweep(own_sweep, sweep | {"arms": [*sweep["arms"], confirm]})
    told = gate(load(own_sweep))
    assert (told.word, told.arm) == ("broken", "again")
    with pytest.raises(UserError, match="no arm is called"):
        gate(load(own_sweep), "general_7")


# --- model card ------------------------------------------------------------------------------


def test_the_model_card_tells_the_arm_and_its_limits(own_sweep: Path) -> None:
    report = load(own_sweep)
    done = CliRunner().invoke(command, [str(own_sweep), "--model-card", "--arm", "general_0.5"])
    assert done.exit_code == 0
    card = (own_sweep / "model_card.md").read_text(encoding="utf-8")
    front, body = card.removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(front)["tags"] == ["continued-pretraining", "alloy"]
    arm = report["arms"][3]
    assert f"| Domain F1 (weighted) | {report['base']['domain_f1']:.3f} |" in body
    assert f"{100 * arm['exam_accuracy']:.1f}%" in body
    assert all(c["text"][:20] in body.replace("\\", "") for c in report["caveats"])
    with pytest.raises(UserError, match="names no arm"):
        model_card(report)


def test_a_hostile_base_cannot_break_the_front_matter(own_sweep: Path) -> None:
    name = 'a/b"\nlicense: <script>: *x'
    path = own_sweep / "arms/general_0/lineage.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base": name}))
    card = model_card(load(own_sweep), "general_0")
    front, body = card.removeprefix("---\n").split("---\n", 1)
    assert set(yaml.safe_load(front)) == {"tags", "base_model"}
    assert yaml.safe_load(front)["base_model"] == name
    assert "<script>" not in body


# --- joined runs -----------------------------------------------------------------------------


def test_runs_of_one_base_are_pooled(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_sweep(tmp_path / name, n=200)
        edit_sweep(tmp_path / name, name=name)
    done = CliRunner().invoke(
        command, [str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["others"] == []
    assert report["name"] == "one + two"
    assert len(report["arms"]) == 12
    assert [law["runs"] for law in report["law"]] == [10, 10, 8, 8]
    assert report["law"][0]["noise_source"] == "repeats"
    assert report["arms"][0]["name"] == "one: general_0"
    assert report["arms"][6]["name"] == "two: general_0"


def other_base(folder: Path) -> None:
    for path in folder.glob("evals/*/summary.json"):
        summary = json.loads(path.read_text()) | {"weights_hash": "another"}
        path.write_text(json.dumps(summary))


def test_runs_of_different_bases_stand_beside_each_other(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_sweep(tmp_path / name, n=200)
        edit_sweep(tmp_path / name, name=name)
    other_base(tmp_path / "two")
    files = write_report(tmp_path / "one", tmp_path / "out", more=[tmp_path / "two"])
    report = json.loads(files.json.read_text())
    (other,) = report["others"]
    assert (report["name"], other["name"]) == ("one", "two")
    assert other == load(tmp_path / "two")
    Report.model_validate(report)
    html = files.html.read_text(encoding="utf-8")
    page = Page(html)
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    told = {a["data-path"]: "".join(t) for _, a, t in page.elements if "data-path" in a}
    below = [path for path in told if path.startswith("others.0.")]
    assert len(below) > 300
    for path in below:
        at_path(report, path)
        same = told[path.removeprefix("others.0.")]
        if not path.endswith("name"):
            assert told[path] == same, path
    marks = [a["data-x-path"] for _, a, _ in page.elements if "data-x-path" in a]
    assert sum(mark.startswith("others.0.") for mark in marks) == len(marks) / 2
    table = headline_table(report).splitlines()
    assert sum(line.startswith("base ") for line in table) == 2
    assert (tmp_path / "out/report.md").read_text().count("# Forgetting report") == 2


def test_several_folders_need_a_place(whole_sweep: Path) -> None:
    with pytest.raises(UserError) as error:
        write_report(whole_sweep, more=[whole_sweep])
    assert "--out" in error.value.hint


# --- size, browser ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_large_sweep_stays_under_five_megabytes(tmp_path: Path) -> None:
    """The whole MMLU's subjects and 40 arms."""
    write_sweep(tmp_path, n=2280)
    for path in tmp_path.glob("evals/*/exam.jsonl"):
        rows = read_lines(path)
        for i, row in enumerate(rows):
            row["subject"] = f"subject_of_a_long_name_{i % 57}"
        write_lines(path, rows)
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    more = [sweep["arms"][1] | {"name": f"arm {i}", "seed": i} for i in range(34)]
    save_sweep(tmp_path, sweep | {"arms": [*sweep["arms"], *more]})
    load(tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if subprocess.run(["which", name], capture_output=True, check=False).returncode == 0:
            return name
    pytest.skip("no Chromium")


def browse(page: Path, folder: Path, *more: str) -> tuple[str, Any]:
    """What Chromium says on its console, and the events of its network log."""
    log = folder / "net.json"
    done = subprocess.run(
        [
            chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--enable-logging=stderr",
            f"--log-net-log={log}",
            f"--user-data-dir={folder / 'profile'}",
            *more,
            page.resolve().as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stderr, json.loads(log.read_text())


@pytest.mark.slow
def test_a_browser_finds_no_fault_and_asks_for_nothing(own_sweep: Path, tmp_path: Path) -> None:
    sweep = json.loads((own_sweep / "sweep.json").read_text())
    sweep["arms"][0]["name"] = "<script>console.error('run')</script><img src=http://x.invalid/>"
    save_sweep(own_sweep, sweep)
    files = write_report(own_sweep)
    console, net = browse(files.html, tmp_path, "--dump-dom")
    assert "CONSOLE" not in console
    kinds = {number: name for name, number in net["constants"]["logEventTypes"].items()}
    asked = [
        event["params"]["url"]
        for event in net["events"]
        if kinds[event["type"]] == "URL_REQUEST_START_JOB" and "url" in event.get("params", {})
    ]
    from_page = [url for url in asked if "x.invalid" in url or "file:" in url]
    assert [url for url in from_page if not url.endswith("report.html")] == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_is_drawn_in_both_themes(own_sweep: Path, tmp_path: Path, theme: str) -> None:
    picture = tmp_path / f"{theme}.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
    browse(
        write_report(own_sweep).html,
        tmp_path,
        f"--screenshot={picture}",
        "--window-size=1300,1600",
        *dark,
    )
    assert picture.stat().st_size > 50_000


def test_the_page_names_no_host(whole_sweep: Path, tmp_path: Path) -> None:
    html = write_report(whole_sweep, tmp_path, price=1.5).html.read_text(encoding="utf-8")
    assert not re.search(r"https?:", html)
