"""The forgetting report, on a synthetic sweep whose records are written like evals writes them."""

import json
import random
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import f1_score

from alloy.report.axis import linear_axis, share_axis
from alloy.report.headline import escape_markdown, headline_table
from alloy.report.labels import Box, beside_point, place_labels
from alloy.report.text import number, visible
from alloy.report.write import write_report
from configs import UserError
from evals.summarize import score_tables

ROOT = Path(__file__).parents[1]
SUBJECTS = {"algebra": "stem", "anatomy": "stem", "history": "humanities", "law": "humanities"}
LABELS = [f"{a} > {b} > {c}" for a in "abc" for b in "xy" for c in "mn"]
SETTINGS = {"shots": 5, "metrics": {"comments": "label_path"}, "bootstrap": 300, "seed": 0}
ROLES = {"facts": "general", "wiki": "retention", "tickets": "domain"}
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
Tree = dict[str, Any]


def exam_records(rng: random.Random, replayed: float, unreplayed: float, n: int) -> list[Tree]:
    """``n`` questions; the chances of a right answer by whether the fact is replayed.

    The first draw of each question is the same for every model, so that models overlap.
    """
    records, shared = [], random.Random("questions")
    for i in range(n):
        is_replayed, luck, answer = i % 2 == 0, shared.random(), i % 4
        known = luck < (replayed if is_replayed else unreplayed)
        correct = known if rng.random() < 0.97 else not known
        subject = list(SUBJECTS)[i // 2 % 4]
        records.append(
            {
                "subject": subject,
                "index": i,
                "category": SUBJECTS[subject],
                "answer": answer,
                "choice": answer if correct else (answer + 1) % 4,
                "correct": correct,
                "cloze_correct": known,
                "cloze_correct_norm": known,
                "gold_bits": 4.0,
                "gold_bytes": 5,
                "truncated": False,
                "cloze_truncated": False,
                "replayed": is_replayed,
            }
        )
    return records


def domain_records(rng: random.Random, skill: float, n: int) -> list[Tree]:
    records = []
    for i in range(n):
        gold = LABELS[min(int(len(LABELS) * ((i * 0.618) % 1) ** 2), len(LABELS) - 1)]
        draw = rng.random()
        label = gold if draw < skill else rng.choice(LABELS) if draw < 0.95 else None
        records.append(
            {
                "id": f"c{i}",
                "gold": gold,
                "prediction": label or "I am sorry",
                "label": label,
                "correct": label == gold,
                "exact": label == gold,
                "correct_format_free": label == gold,
                "valid": label is not None,
            }
        )
    return records


def bpb_records(rng: random.Random, levels: dict[str, float]) -> list[Tree]:
    return [
        {
            "source": source,
            "role": ROLES[source],
            "split": "retention" if ROLES[source] == "retention" else "heldout",
            "id": f"{source}-{i}",
            "bits": level * (400 + 7 * i) + rng.gauss(0, 3),
            "bytes": 400 + 7 * i,
            "tokens": 100,
        }
        for source, level in levels.items()
        for i in range(25)
    ]


def write_lines(path: Path, rows: list[Tree]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_eval(folder: Path, name: str, records: Tree) -> None:
    write_lines(folder / "exam.jsonl", records["exam"])
    for task, rows in records["domain"].items():
        write_lines(folder / f"domain_{task}.jsonl", rows)
    write_lines(folder / "bpb.jsonl", records["bpb"])
    settings = SETTINGS | {"metrics": dict.fromkeys(records["domain"], "label_path")}
    summary = {"name": name, "model": f"models/{name}", "weights_hash": "00ff", "task_hash": "aa"}
    summary |= {"dtype": "float32", "settings": settings, **score_tables(records, settings)}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def write_run(folder: Path, share: float, tokens: int, base: str = "base") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"run {share} {tokens}")
    rows = []
    for step in range(1, 301):
        done = step / 300
        loss = 3.2 - 1.4 * done**0.4 + rng.gauss(0, 0.04)
        lr = 1e-3 * min(1.0, step / 10, (1 - done) / 0.2 + 1e-3)
        by_source = {"facts": loss + 0.2, "tickets": loss - 0.2}
        rows.append(
            {"step": step, "tokens": tokens * step // 300, "lr": lr, "loss": loss}
            | {"loss_by_source": by_source, "grad_norm": 1.0, "tokens_per_second": 9000.0}
        )
    write_lines(folder / "metrics.jsonl", rows)
    sources = [("facts", "general", share), ("tickets", "domain", 1 - share)]
    receipt_sources = [
        {"name": n, "role": r, "asked_share": s, "realised_share": s, "rows": int(s * 4688)}
        | {"tokens": int(s * tokens), "supervised_tokens": int(s * tokens * 0.99)}
        | {"epochs": s * 3.1, "max_prefix_deviation_rows": 0.87}
        for n, r, s in sources
        if s > 0
    ]
    phases = [{"name": "all", "rows": 4688, "sources": receipt_sources}]
    (folder / "receipt.json").write_text(json.dumps({"ok": True, "phases": phases}))
    lineage = {"base": base, "start": "weights", "annealed": True, "plan_hash": "9f" * 32}
    (folder / "lineage.json").write_text(
        json.dumps(lineage | {"peak_lr": 1e-3, "skipped_steps": 0})
    )


# name, kind, share, tokens, (replayed, unreplayed), skill, (general, retention, domain) bpb
ARMS = [
    ("general_0", "arm", 0.0, 600_000, (0.42, 0.38), 0.72, (2.4, 2.3, 0.9)),
    ("general_0.05", "arm", 0.05, 600_000, (0.86, 0.55), 0.70, (1.6, 1.75, 0.91)),
    ("general_0.25", "arm", 0.25, 600_000, (0.91, 0.66), 0.61, (1.45, 1.62, 0.96)),
    ("general_0.5", "arm", 0.5, 600_000, (0.92, 0.79), 0.45, (1.42, 1.55, 1.05)),
    ("control", "control", 1.0, 600_000, (0.93, 0.86), 0.02, (1.40, 1.51, 2.3)),
    ("general_0_short", "saturation", 0.0, 450_000, (0.47, 0.41), 0.70, (2.3, 2.2, 0.95)),
]


def write_sweep(folder: Path, n: int = 1200, budget: Tree | None = None) -> Tree:
    """A whole sweep; returns what sweep.json holds."""
    models = [("base", (0.92, 0.90), 0.03, (1.5, 1.5, 2.4))]
    models += [(name, exam, skill, bpb) for name, _, _, _, exam, skill, bpb in ARMS]
    for name, (replayed, unreplayed), skill, levels in models:
        rng = random.Random(name)
        records = {
            "exam": exam_records(rng, replayed, unreplayed, n),
            "domain": {"comments": domain_records(rng, skill, 500)},
            "bpb": bpb_records(rng, dict(zip(ROLES, levels, strict=True))),
        }
        write_eval(folder / "evals" / name, name, records)
    arms = []
    for name, kind, share, tokens, *_ in ARMS:
        write_run(folder / "arms" / name, share, tokens)
        arm = {"name": name, "general_share": share, "kind": kind, "tokens": tokens}
        arms.append(arm | {"run": f"arms/{name}", "eval": f"evals/{name}", "failed": None})
    sweep = {
        "name": "tiny world",
        "seconds": 512.5,
        "tokens_per_arm": 600_000,
        "budget": budget or {"mmlu_points": 10.0, "retention_bpb": 0.2},
        "world_note": "Tiny models exaggerate forgetting, and this exam is not MMLU.",
        "base": {"name": "base", "eval": "evals/base", "annealed": True},
        "arms": arms,
    }
    save_sweep(folder, sweep)
    return sweep


def save_sweep(folder: Path, sweep: Tree) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(sweep), encoding="utf-8")


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


def load(folder: Path, out: Path | None = None) -> Tree:
    files = write_report(folder, out)
    return json.loads(files.json.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[Tree]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def edit_sweep(folder: Path, **changes: Any) -> Tree:
    sweep = json.loads((folder / "sweep.json").read_text(encoding="utf-8")) | changes
    save_sweep(folder, sweep)
    return sweep


def texts(report: Tree, kind: str) -> str:
    return " ".join(c["text"] for c in report["caveats"] if c["kind"] == kind)


# --- numbers ---------------------------------------------------------------------------------


def test_headline_numbers_are_those_of_the_item_records(world: Path, report: Tree) -> None:
    assert report["schema_version"] == 1
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


def test_the_recommendation_is_the_smallest_measured_share_that_keeps_all(report: Tree) -> None:
    told = report["recommendation"]
    kept = [a for a in report["arms"] if a["kind"] == "arm" and a["verdict"] == "kept"]
    best = min(kept, key=lambda a: a["general_share"])
    assert told["arm"] == best["name"] == "general_0.5"
    gain = report["arms"][0]["domain_f1"] - report["base"]["domain_f1"]
    expected = (best["domain_f1"] - report["base"]["domain_f1"]) / gain
    assert told["domain_gain_kept"] == pytest.approx(expected)
    assert "measured" in told["text"]
    assert "no law is fitted" in told["text"]
    assert told["replayed_only"]["arm"] == "general_0.25"
    assert "same items" in texts(report, "selection")


def test_no_ratio_keeps_a_budget_that_the_control_alone_keeps(small: Path) -> None:
    edit_sweep(small, budget={"mmlu_points": None, "retention_bpb": 0.03})
    report = load(small)
    assert report["arms"][4]["verdict"] == "kept"
    assert report["recommendation"]["arm"] is None
    assert "no measured ratio keeps this budget" in report["recommendation"]["text"].lower()


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
    assert report["recommendation"]["arm"] is None
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
    assert report["recommendation"]["arm"] is not None
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


# --- the page --------------------------------------------------------------------------------


class Page(HTMLParser):
    """Elements with their attributes and own text, and which of them lie in a table cell."""

    VOID = ("meta", "link", "br", "path", "polyline")

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, Tree, list[str]]] = []
        self.loose_digits: list[str] = []
        self._open: list[tuple[str, Tree, list[str]]] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in self.VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element[2].append(data)
        tags = [tag for tag, _, _ in self._open]
        named = any(tag == "bdi" or "data-path" in attrs for tag, attrs, _ in self._open)
        if "td" in tags and not named and any(c.isdigit() for c in data):
            self.loose_digits.append(data)


def at_path(report: Tree, path: str) -> Any:
    value: Any = report
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value and value[part]
    return value


def readable(text: str) -> float:
    """The number that a text of the page shows, in the page's unit."""
    units = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
    plain = text.replace("−", "-").replace(",", "").replace("%", "").replace(" s", "").lstrip("+<")
    return float(plain[:-1]) * units[plain[-1]] if plain[-1] in units else float(plain)


def test_every_number_of_the_page_is_the_reports(world: Path, report: Tree, tmp_path: Path) -> None:
    page = Page(write_report(world, tmp_path).html.read_text(encoding="utf-8"))
    shown = [(a, "".join(t)) for _, a, t in page.elements if "data-path" in a]
    assert len(shown) > 400
    assert page.loose_digits == []
    for attrs, text in shown:
        value, kind = at_path(report, attrs["data-path"]), attrs["data-kind"]
        if kind == "text":
            assert text == value
        elif kind == "json":
            cell = value[attrs["data-key"]]
            whole = cell if isinstance(cell, str) else json.dumps(cell)
            assert text.rstrip("…") == whole[: len(text.rstrip("…"))]
        elif value is None:
            assert text == "–", attrs
        else:
            scale = 100 if kind in ("percent", "share", "points") else 1
            digits = len(text.partition(".")[2].rstrip("%kMBT")) if "." in text else 0
            exact = {"tokens": 1e-3 * value, "share": 1e-3 * scale * value}.get(kind, 0)
            slack = max(0.5000001 * 10**-digits, exact) if not text.startswith("<") else 1e-4
            assert readable(text) == pytest.approx(scale * value, abs=slack), (attrs, text)


def test_chart_marks_lie_where_the_report_says(world: Path, report: Tree, tmp_path: Path) -> None:
    page = Page(write_report(world, tmp_path).html.read_text(encoding="utf-8"))
    marks = [attrs for _, attrs, _ in page.elements if "data-x-path" in attrs]
    assert len(marks) > 30
    for attrs in marks:
        for axis in ("x", "y"):
            assert float(attrs[f"data-{axis}"]) == at_path(report, attrs[f"data-{axis}-path"])


def test_the_page_asks_nothing_of_the_network(world: Path, tmp_path: Path) -> None:
    html = write_report(world, tmp_path).html.read_text(encoding="utf-8")
    for sign in ("http", "src=", "@import", "url(", "<script", "<iframe"):
        assert sign not in html
    assert len(html) < 5_000_000
    links = [a["href"] for _, a, _ in Page(html).elements if "href" in a]
    assert links == ["data:,"]


def test_every_chart_is_labelled(world: Path, tmp_path: Path) -> None:
    page = Page(write_report(world, tmp_path).html.read_text(encoding="utf-8"))
    charts = [(attrs, "".join(text)) for tag, attrs, text in page.elements if tag == "svg"]
    assert len(charts) == 1 + 3 + 3 + 2 + len(ARMS)
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs, _ in charts:
        assert attrs["role"] == "img"
        assert set(attrs["aria-labelledby"].split()) <= set(ids)
    for unit in ("exam accuracy (%)", "domain F1 (weighted)", "nats per token", "tokens trained"):
        assert any(unit in text for _, text in charts)


HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img onerror=alert(1)>&amp;",
    "{{ 7 * 7 }}{% raw %}",
    "</svg></style></title>",
    "\u202egnirts\u202c \x00\x1b[31m",
    "x" * 10_000,
    "a|b `c` [d](e:f) **g**\n# h",
]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    write_sweep(tmp_path, n=40)
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    for arm, name in zip(sweep["arms"], HOSTILE, strict=False):
        arm["name"] = name
        write_run(tmp_path / arm["run"], arm["general_share"], arm["tokens"], base=name)
    sweep |= {"name": HOSTILE[0] + HOSTILE[6], "world_note": HOSTILE[0] + HOSTILE[4]}
    sweep["arms"][1]["failed"] = HOSTILE[1]
    save_sweep(tmp_path, sweep)
    for name in ("base", "general_0"):
        path = tmp_path / "evals" / name / "exam.jsonl"
        rows = read_lines(path)
        for row in rows:
            row["subject"], row["category"] = HOSTILE[row["index"] % 7], HOSTILE[0]
        write_lines(path, rows)
    receipt = tmp_path / "arms" / "general_0" / "receipt.json"
    receipt.write_text(receipt.read_text().replace('"tickets"', json.dumps(HOSTILE[3])))
    report = load(tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    tags = Counter(tag for tag, _, _ in page.elements)
    assert not set(tags) & {"script", "img", "iframe", "object", "embed"}
    assert tags["style"] == tags["title"] - tags["svg"] == 1
    assert not any(key.startswith("on") for _, attrs, _ in page.elements for key in attrs)
    assert "49" not in "".join("".join(t) for tag, _, t in page.elements if tag == "bdi")
    assert "{{ 7 * 7 }}" in html
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    for text in (html, markdown, headline_table(report)):
        assert not any(sign in text for sign in "\u202e\x00\x1b")
        assert "x" * 100 not in re.sub(r'title="x+…?"', "", text)
    assert "<" not in markdown.replace("<0.0001", "")
    assert len(max(headline_table(report).splitlines(), key=len)) < 160
    assert report["arms"][5]["name"] == HOSTILE[5]


def test_text_contrast_is_enough_in_both_themes() -> None:
    css = (ROOT / "alloy" / "report" / "page.css").read_text(encoding="utf-8")
    themes = [dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in css.split("@media")[:2]]
    assert all(len(theme) > 15 for theme in themes)
    for theme in themes:
        for text in ("ink", "soft"):
            for paper in ("paper", "band", "warn"):
                assert contrast(theme[text], theme[paper]) >= 4.5, (text, paper)
        for badge in ("good", "bad", "open"):
            assert contrast(theme[f"{badge}-ink"], theme[badge]) >= 4.5
        for i in range(7):
            assert contrast(theme[f"c{i}"], theme["paper"]) >= 3


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast of two #rrggbb colours."""
    lights = []
    for colour in (one, other):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


# --- text, Markdown, axes, labels ------------------------------------------------------------


def test_the_terminal_table_has_a_row_for_each_model(report: Tree) -> None:
    lines = headline_table(report).splitlines()
    assert [line.split()[0] for line in lines[2:9]] == ["base", *(arm[0] for arm in ARMS)]
    row = lines[6].split()
    arm = report["arms"][3]
    assert row[1:4] == ["50%", "600k", f"{100 * arm['exam_accuracy']:.1f}%"]
    assert row[-1] == "kept"
    assert all(ord(c) < 128 for c in "".join(lines))


def test_markdown_tables_are_even(world: Path, tmp_path: Path) -> None:
    text = write_report(world, tmp_path).markdown.read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert escape_markdown("a|b") == "a\\|b"


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "f1", "–"),
        (0.8514, "percent", "85.1%"),
        (0.005, "share", "0.5%"),
        (-0.0312, "points", "−3.1"),
        (-0.0001, "points", "0.0"),
        (0.00002, "p", "<0.0001"),
        (1_500_000, "tokens", "1.5M"),
        (7.45e-5, "lr", "7.45e-5"),
    ],
)
def test_numbers_are_written_one_way(value: float | None, kind: str, text: str) -> None:
    assert number(value, kind) == text


def test_visible_text_is_one_line_without_controls() -> None:
    assert visible("a\nb\tc\u202ed\ud800") == "a b c\ufffdd\ufffd"
    assert visible("abcdef", 4) == "abc…"


def test_axes_hold_their_values_and_tell_ticks_apart() -> None:
    rng = random.Random(0)
    for _ in range(200):
        center, spread = rng.uniform(-5, 5), 10 ** rng.uniform(-4, 2)
        values = [center + spread * rng.random() for _ in range(rng.randint(1, 6))]
        axis = linear_axis("a", values, "bpb_change")
        assert axis.low < min(values) <= max(values) < axis.high
        ticks = [text for _, text in axis.ticks]
        assert 2 <= len(ticks) <= 9
        assert len(set(ticks)) == len(ticks)
    shares = share_axis("s", [0, 0.01, 0.011, 0.05, 0.25, 1.0])
    assert [text for _, text in shares.ticks] == ["0%", "1%", "5%", "25%", "100%"]
    assert 0 < shares.place(0.0, 0, 100) < shares.place(0.01, 0, 100) < shares.place(1, 0, 100)


def test_labels_of_a_crowd_do_not_overlap() -> None:
    frame = Box(left=0, top=0, right=400, bottom=300)
    labels = [beside_point(200 + 14 * i, 150 + 3 * i, "10%") for i in range(5)]
    marks = [Box(left=194 + 14 * i, top=144, right=206 + 14 * i, bottom=168) for i in range(5)]
    placed = place_labels(labels, marks, frame)
    boxes = [Box(left=x, top=y - 9.5, right=x + 24, bottom=y + 2.5) for x, y, _ in placed]
    assert len(boxes) == 5
    assert all(a.overlap(b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.overlap(mark) < 1e-9 for box in boxes for mark in marks)
