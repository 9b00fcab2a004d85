"""The native MMLU scorer against lm-eval's Hugging Face backend: same model, same items, one run.

    python benchmarks/mmlu.py                          # tiny models, both scorers
    python benchmarks/mmlu.py --shape 135m --architectures llama
    python benchmarks/mmlu.py --sides native --subjects all --limit 0 --architectures llama

Models have random weights: time and memory do not depend on what they know. Each scorer runs in a
process of its own, one after the other, and is warmed up on one question before the clock starts;
its peak memory is that of its process (of the GPU where there is one). Results go into
results/mmlu.json.
"""

import importlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from harness import ROOT, TOKENIZERS, Row, report, run
from mmlu_models import (
    ARCHITECTURES,
    SHAPES,
    agreement,
    head_share,
    load_tokenizer,
    random_model,
    some_subjects,
    told,
)

from evals.exam.exam_records import Form, ItemScore, SubjectScorer, score_exam
from evals.exam.mmlu_items import Exam
from evals.scoring.model_state import compute_dtype

SIDES = ("native", "lm_eval")
MODULES = {"native": "evals.exam.mmlu_scorer", "lm_eval": "evals.tasks.lm_eval_tasks"}
CONTEXT = 4096  # no prompt of MMLU is longer


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=ROOT.parent / "shared/data/mmlu")
@click.option("--tokenizer", type=click.Path(path_type=Path), default=TOKENIZERS / "gpt2.json")
@click.option("--architectures", default=",".join(ARCHITECTURES), help="Comma-separated.")
@click.option("--shape", type=click.Choice(list(SHAPES)), default="tiny")
@click.option("--shots", type=click.IntRange(0, 5), default=5)
@click.option("--subjects", default="anatomy,global_facts", help="Comma-separated, or 'all'.")
@click.option("--limit", type=int, default=40, help="Questions of each subject; 0: all.")
@click.option("--form", type=click.Choice(["letter", "cloze"]), default="letter")
@click.option("--batch-tokens", type=int, default=8192)
@click.option("--sides", default=",".join(SIDES), help="Comma-separated.")
@click.option("--side", type=click.Choice(SIDES), hidden=True)
def main(sides: str, side: str | None, **options: Any) -> None:
    """Print a table, one row a model, and write the same as JSON."""
    if not options["data"].is_dir() or not options["tokenizer"].is_file():
        told(f"skipped: no {options['data']} or no {options['tokenizer']}")
        return
    if side is not None:
        print(json.dumps(scored(side, **options)))
        return
    rows = [compared(sides.split(","), options, a) for a in options["architectures"].split(",")]
    title = f"{options['shape']}, {options['form']} form, {options['shots']} shots"
    if sides.split(",") == ["native"]:
        title += ", native alone"
    report("mmlu", {f"{title}, {rows[0]['device']}": rows})


def compared(sides: Sequence[str], options: Row, architecture: str) -> Row:
    """Each side in a process of its own, and how their numbers agree."""
    arguments = [
        f"--{name.replace('_', '-')}={architecture if name == 'architectures' else value}"
        for name, value in options.items()
    ]
    sides_told: dict[str, Row] = {}
    for side in sides:
        ran = run([sys.executable, __file__, f"--side={side}", *arguments])
        sides_told[side] = json.loads(ran.output.splitlines()[-1])
        told(f"{architecture}: {side} in {sides_told[side]['seconds']:.2f} s")
    row = {"architecture": architecture, **sides_told[sides[0]]["model"]}
    row |= {"subjects": options["subjects"], "items": len(sides_told[sides[0]]["scores"])}
    for side, found in sides_told.items():
        row |= {f"{side}_s": found["seconds"], f"{side}_peak_gib": found["peak_gib"]}
    if len(sides) == 2:
        row["ratio"] = round(row["lm_eval_s"] / row["native_s"], 2)
        native, oracle = ([ItemScore(*s) for s in sides_told[s]["scores"]] for s in SIDES)
        row |= agreement(native, oracle, row["dtype"])
    return row


def scored(
    side: str,
    data: Path,
    tokenizer: Path,
    architectures: str,
    shape: str,
    shots: int,
    subjects: str,
    limit: int,
    form: Form,
    batch_tokens: int,
) -> Row:
    """What one side's process tells: scores, seconds, peak memory and what the model is."""
    fast = load_tokenizer(tokenizer)
    wanted = None if subjects == "all" else subjects.split(",")
    exam = some_subjects(data, shots, wanted, limit or None)
    model = random_model(architectures, shape, len(fast), CONTEXT, compute_dtype())
    # Only the side that is measured is loaded: lm-eval's imports take memory too.
    module = importlib.import_module(MODULES[side])
    scorer = getattr(module, f"{side}_scorer")(model, fast, batch_tokens)
    warm_up(scorer, exam, form)
    begin = time.perf_counter()
    scores = score_exam(scorer, exam, form, told)
    seconds = time.perf_counter() - begin
    return {
        "seconds": round(seconds, 2),
        "peak_gib": round(peak_bytes() / 2**30, 2),
        "scores": [[s.subject, s.index, s.logprobs, s.truncated] for s in scores],
        "model": {
            "parameters": sum(p.numel() for p in model.parameters()),
            "head_share": head_share(model),
            "device": model.device.type,
            "dtype": str(model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "tokenizer": tokenizer.stem,
        },
    }


def warm_up(scorer: SubjectScorer, exam: Exam, form: Form) -> None:
    first = exam.subjects[0]
    scorer(replace(first, test=first.test[:1]), form)


def peak_bytes() -> int:
    """Most memory so far: of the GPU where there is one, else resident in this process (Linux;
    ``getrusage`` would tell that of the parent where it was larger)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
