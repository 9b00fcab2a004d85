"""What the report says of training itself: held-out text and mix over tokens, what was kept out of
the text, and models that lost the form of an answer."""

import json
from pathlib import Path

import pytest
from report_sweep import Tree, load, save_sweep, texts, write_sweep

from alloy.reports.drawing.all_figures import figures
from alloy.reports.judging.schema import Report


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A sweep of the base, one arm and the control."""
    sweep = write_sweep(tmp_path, n=80)
    save_sweep(tmp_path, sweep | {"arms": [sweep["arms"][i] for i in (2, 4)]})
    return tmp_path


def edit(path: Path, **changes: object) -> None:
    tree = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(tree | changes), encoding="utf-8")


def charts(report: Tree) -> dict[str, Tree]:
    return {
        figure.key: {
            s.name: [(round(p.x), round(p.y, 6)) for p in s.points] for s in figure.chart.series
        }
        for figure in figures(report)
    }


def test_held_out_text_is_drawn_over_tokens(world: Path) -> None:
    report = load(world)
    Report.model_validate(report)
    told = report["arms"][0]["heldout"]
    assert told["tokens"] == [0, 200_000, 400_000, 600_000]
    assert {s["name"]: s["bpb"][:2] for s in told["sources"]}["wiki"] == [2.1, 2.0]
    drawn = charts(report)["heldout-0"]
    assert drawn["wiki"] == [(0, 2.1), (200_000, 2.0), (400_000, 1.9), (600_000, 1.8)]
    assert "Held-out bits per byte by source" in (world / "report.html").read_text()
    # A run that measured nothing is no problem.
    (world / "arms/general_0.25/heldout.jsonl").unlink()
    (world / "arms/control/heldout.jsonl").write_text("")
    report = load(world)
    assert [arm["heldout"] for arm in report["arms"]] == [None, None]
    assert texts(report, "files") == ""
    assert "heldout-0" not in charts(report)


def test_the_mix_is_drawn_by_phase(world: Path) -> None:
    def phase(name: str, rows: int, share: float) -> Tree:
        parts = (("facts", share), ("tickets", 1 - share))
        return {
            "name": name,
            "rows": rows,
            "sources": [{"name": source, "realised_share": part} for source, part in parts],
        }

    path = world / "arms/general_0.25/receipt.json"
    edit(path, phases=[phase("stable", 90, 0.25), phase("anneal", 30, 0.5)])
    assert charts(load(world))["mix"]["25%"] == [
        (0, 0.25),
        (450_000, 0.25),
        (450_000, 0.5),
        (600_000, 0.5),
    ]
    path.unlink()
    assert set(charts(load(world))["mix"]) == {"100% control"}


def test_a_lost_form_of_answers_is_a_caveat(world: Path) -> None:
    report = load(world)
    assert texts(report, "format_collapse") == ""
    assert "collapsed" not in (world / "report.html").read_text()
    path = world / "evals/general_0.25/summary.json"
    exam = json.loads(path.read_text())["exam"]
    gap = {"gap": 0.31, "lower": 0.284, "upper": 0.33}
    collapsed = {"generative_accuracy": 0.42, "generative_invalid_rate": 0.5}
    collapsed |= {"generative_gap": gap, "format_collapse": True}
    edit(path, exam=exam | collapsed)
    report = load(world)
    Report.model_validate(report)
    assert "a lost format, not lost knowledge" in texts(report, "format_collapse")
    html = (world / "report.html").read_text()
    assert html.count(">collapsed<") == 1
    for key, text in (("accuracy", "42.0%"), ("invalid_rate", "50.0%")):
        assert f'data-path="arms.0.generative_{key}" data-kind="percent">{text}<' in html


def test_what_was_kept_out_of_the_text_is_told(world: Path) -> None:
    load(world)
    html = (world / "report.html").read_text()
    for key, text in (("items", "1,200"), ("passages_removed", "4"), ("tokens_removed", "77")):
        assert (
            f'data-path="arms.1.receipt.decontaminated.0.{key}" data-kind="count">{text}<' in html
        )
    for arm in ("general_0.25", "control"):
        edit(world / "arms" / arm / "receipt.json", decontaminated=[])
    load(world)
    assert "No eval items were looked for" in (world / "report.html").read_text()


def test_one_category_is_the_exam_as_a_whole(world: Path) -> None:
    load(world)
    assert "By category (2)" in (world / "report.html").read_text()
    for name in ("base", "general_0.25", "control"):
        path = world / "evals" / name / "exam.jsonl"
        path.write_text(path.read_text().replace('"humanities"', '"stem"'))
    load(world)
    assert "By category" not in (world / "report.html").read_text()
