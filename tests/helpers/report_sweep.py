"""A synthetic sweep on disk, its records written like evals and pretrain write them."""

import json
import random
from pathlib import Path
from typing import Any

from alloy.reports.writing.write import write_report
from evals.summarize import score_tables

SUBJECTS = {"algebra": "stem", "anatomy": "stem", "history": "humanities", "law": "humanities"}
LABELS = [f"{a} > {b} > {c}" for a in "abc" for b in "xy" for c in "mn"]
SETTINGS = {"shots": 5, "bootstrap": 300, "seed": 0, "dtype": "float32", "lm_eval": []}
ROLES = {"facts": "general", "wiki": "retention", "tickets": "domain"}
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
        choice = answer if correct else (answer + 1) % 4
        records.append(
            {
                "subject": subject,
                "index": i,
                "category": SUBJECTS[subject],
                "answer": answer,
                "choice": choice,
                "logprobs": [-1.0 if letter == choice else -3.0 for letter in range(4)],
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


def task_records(rng: random.Random, skill: float, n: int) -> list[Tree]:
    """Of a task of lm-eval in which every row is right or wrong."""
    hits = [float(rng.random() < skill) for _ in range(n)]
    rows = [
        {"task": "arc_easy", "id": i, "filter": "none", "truncated": False, "metrics": {"acc": hit}}
        for i, hit in enumerate(hits)
    ]
    return [*rows, {"results": {"arc_easy": {"acc,none": sum(hits) / n}}}]


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
    for task, rows in records.get("lm_eval", {}).items():
        write_lines(folder / f"lm_eval_{task}.jsonl", rows)
    write_lines(folder / "bpb.jsonl", records["bpb"])
    settings = SETTINGS | {
        "metrics": dict.fromkeys(records["domain"], "label_path"),
        "fixed_precision": dict.fromkeys(records["domain"], 0.9),
    }
    summary = {"name": name, "model": f"models/{name}", "weights_hash": "00ff", "task_hash": "aa"}
    summary |= {
        "dtype": "float32",
        "settings": settings,
        **score_tables({"lm_eval": {}, **records}, settings),
    }
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
    shares = {"facts": share, "tickets": 1 - share}
    sources = [
        {"name": n, "asked_share": s, "realised_share": s, "rows": int(s * 4688)}
        | {"tokens": int(s * tokens), "supervised_tokens": int(s * tokens * 0.99)}
        | {"epochs": s * 3.1, "max_prefix_deviation_rows": 0.87}
        for n, s in shares.items()
        if s > 0
    ]
    windows = [{"first_row": 0, "rows": 4688, "realised_shares": shares}]
    phases = [{"name": "stable", "rows": 4688, "sources": sources, "windows": windows}]
    totals = [{"name": s["name"], "role": ROLES[s["name"]], "rows": s["rows"]} for s in sources]
    removed = {"source": "facts", "eval": "mmlu", "items": 1200, "documents_removed": 3}
    removed |= {"passages_removed": 4, "tokens_removed": 77}
    receipt = {"ok": True, "problems": [], "sources": totals, "phases": phases}
    receipt |= {"decontaminated": [removed]}
    (folder / "receipt.json").write_text(json.dumps(receipt))
    heldout = [
        {
            "step": step,
            "tokens": tokens * step // 300,
            "sources": {name: {"bpb": 2.0 + 0.1 * k - step / 1000} for k, name in enumerate(ROLES)},
        }
        for step in (0, 100, 200, 300)
    ]
    write_lines(folder / "heldout.jsonl", heldout)
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
            "lm_eval": {},
        }
        write_eval(folder / "evals" / name, name, records)
    arms = []
    for name, kind, share, tokens, *_ in ARMS:
        write_run(folder / "arms" / name, share, tokens)
        arm = {"name": name, "general_share": share, "kind": kind, "tokens": tokens, "ranks": 2}
        arms.append(arm | {"run": f"arms/{name}", "eval": f"evals/{name}", "failed": None})
    sweep = {
        "name": "tiny world",
        "seconds": 512.5,
        "tokens_per_arm": 600_000,
        "budget": budget or {"mmlu_points": 10.0, "retention_bpb": 0.2},
        "note": "Tiny models exaggerate forgetting, and this exam is not MMLU.",
        "base": {"name": "base", "eval": "evals/base", "annealed": True},
        "arms": arms,
    }
    save_sweep(folder, sweep)
    return sweep


def save_sweep(folder: Path, sweep: Tree) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(sweep), encoding="utf-8")


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
