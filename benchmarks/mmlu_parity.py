"""The native MMLU scorer against lm-eval's, question by question, on the published exam.

    python benchmarks/mmlu_parity.py --part all-questions
    python benchmarks/mmlu_parity.py --part ten-subjects [--architectures neox --tokenizers gpt2]
    python benchmarks/mmlu_parity.py --part bf16

``all-questions``: every question without shots, one model. ``ten-subjects``: ten whole subjects
at 5 shots, three architectures, two tokenizers; the subject with the longest prompts is among
them, and the context cuts some. ``bf16``: five of the ten, where only choices inside the band of
near ties may differ. Models are tiny and random: lm-eval's time goes into the vocabulary at every
position of every prompt.

Scores of each subject are kept in runs/mmlu_parity, where a run that was stopped goes on
(``--fresh`` begins anew). A model whose subjects are all there gives a row of
results/mmlu_parity.json, in place of an earlier one. Exits 1 where a row breaks ``expected``.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import torch
from harness import ROOT, TOKENIZERS, Row, print_table
from mmlu_models import (
    ARCHITECTURES,
    agreement,
    load_tokenizer,
    random_model,
    some_subjects,
    told,
)

from evals.exam.exam_records import ItemScore
from evals.exam.mmlu_items import Exam
from evals.exam.mmlu_scorer import native_scorer
from evals.exam.subjects import MMLU_CATEGORIES
from evals.tasks.lm_eval_tasks import lm_eval_scorer

TEN_SUBJECTS = (
    "abstract_algebra",
    "anatomy",
    "business_ethics",
    "college_computer_science",
    "college_medicine",
    "formal_logic",
    "global_facts",
    "high_school_computer_science",
    "high_school_european_history",
    "human_sexuality",
)
FIVE_SUBJECTS = ("abstract_algebra", "anatomy", "formal_logic", "global_facts", "human_sexuality")
CONTEXT = 3072  # European history has longer prompts than that, the longest of MMLU
OUT = ROOT / "benchmarks/results/mmlu_parity.json"
KEPT = ROOT / "runs/mmlu_parity"
_KEY = ("part", "architecture", "tokenizer")


@dataclass(frozen=True)
class Part:
    """What is compared on which models."""

    shots: int
    subjects: tuple[str, ...] | None
    architectures: tuple[str, ...]
    tokenizers: tuple[str, ...]
    dtype: str = "float32"


PARTS = {
    "all-questions": Part(0, None, ("llama",), ("gpt2",)),
    "ten-subjects": Part(5, TEN_SUBJECTS, ARCHITECTURES, ("gpt2", "pythia_20b")),
    "bf16": Part(5, FIVE_SUBJECTS, ARCHITECTURES, ("gpt2",), "bfloat16"),
}


@click.command()
@click.option("--part", type=click.Choice(list(PARTS)), required=True)
@click.option("--data", type=click.Path(path_type=Path), default=ROOT.parent / "shared/data/mmlu")
@click.option("--architectures", help="Comma-separated; all three, or llama for all questions.")
@click.option("--tokenizers", help="Comma-separated names in ../shared/data/tokenizers.")
@click.option("--subjects", help="Comma-separated: no others now.")
@click.option("--fresh", is_flag=True, help="Score again what is there.")
def main(
    part: str,
    data: Path,
    architectures: str | None,
    tokenizers: str | None,
    subjects: str | None,
    fresh: bool,
) -> None:
    """Compare, print and write; one row a model."""
    if not data.is_dir() or not TOKENIZERS.is_dir():
        told(f"skipped: no {data} or no {TOKENIZERS}")
        return
    of = PARTS[part]
    exam = some_subjects(data, of.shots, of.subjects, None)
    wanted = subjects.split(",") if subjects else MMLU_CATEGORIES
    now = replace(exam, subjects=tuple(s for s in exam.subjects if s.name in wanted))
    rows = []
    for tokenizer in tokenizers.split(",") if tokenizers else of.tokenizers:
        for architecture in architectures.split(",") if architectures else of.architectures:
            model = Model(part, architecture, tokenizer, of.dtype)
            score(model, now, fresh)
            if all(model.kept(subject.name).exists() for subject in exam.subjects):
                rows.append(row_of(model, exam))
                write(rows[-1])
    print_table("native scorer against lm-eval", rows)
    if not all(row["ok"] for row in rows):
        sys.exit(1)


@dataclass(frozen=True)
class Model:
    part: str
    architecture: str
    tokenizer: str
    dtype: str

    def kept(self, subject: str) -> Path:
        """Where the scores of a subject are."""
        return KEPT / self.part / f"{self.architecture}_{self.tokenizer}" / f"{subject}.json"


def score(model: Model, exam: Exam, fresh: bool) -> None:
    """Both scorers on the letter form of each subject that is not there yet."""
    if not fresh and all(model.kept(subject.name).exists() for subject in exam.subjects):
        return
    tokenizer = load_tokenizer(TOKENIZERS / f"{model.tokenizer}.json")
    dtype = getattr(torch, model.dtype)
    live = random_model(model.architecture, "proof", len(tokenizer), CONTEXT, dtype)
    scorers = {
        "native": native_scorer(live, tokenizer, 1024),
        "lm_eval": lm_eval_scorer(live, tokenizer, 1024),
    }
    for subject in exam.subjects:
        path = model.kept(subject.name)
        if path.exists() and not fresh:
            continue
        found: Row = {}
        for name, scorer in scorers.items():
            begin = time.perf_counter()
            scores = [[s.logprobs, s.truncated] for s in scorer(subject, "letter")]
            found[name] = {"scores": scores, "seconds": time.perf_counter() - begin}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(json.dumps(found), encoding="utf-8")
        path.with_suffix(".new").replace(path)
        told(f"{model.architecture}, {model.tokenizer}: {subject.name}")


def row_of(model: Model, exam: Exam) -> Row:
    """The agreement over all subjects."""
    scores: dict[str, list[ItemScore]] = {"native": [], "lm_eval": []}
    seconds = dict.fromkeys(scores, 0.0)
    for subject in exam.subjects:
        found = json.loads(model.kept(subject.name).read_text(encoding="utf-8"))
        for side, values in scores.items():
            for item, (logprobs, cut) in zip(subject.test, found[side]["scores"], strict=True):
                values.append(ItemScore(subject.name, item.index, tuple(logprobs), cut))
            seconds[side] += found[side]["seconds"]
    row = asdict(model) | {"shots": exam.shots, "subjects": len(exam.subjects)}
    row |= {
        "context_tokens": CONTEXT,
        **agreement(scores["native"], scores["lm_eval"], model.dtype),
    }
    row |= {f"{side}_s": round(taken) for side, taken in seconds.items()}
    return row | {"ok": expected(row)}


def expected(row: Row) -> bool:
    """fp32: log-probabilities within 1e-4, the same choice outside near ties, which are under
    0.1%. bf16: the same choice outside its band. Both: the same prompts cut."""
    sound = row["truncated_alike"] and row["other_choices_turned"] == 0 and row["spread"] > 0.05
    if row["dtype"] == "bfloat16":
        return bool(sound)
    few = row["near_ties"] < row["items"] / 1000
    return bool(sound and few and row["largest_difference"] <= 1e-4)


def write(row: Row) -> None:
    """Put a row into the results, in place of an earlier one of the same model."""
    rows = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else []
    rows = [r for r in rows if any(r[key] != row[key] for key in _KEY)] + [row]
    OUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
