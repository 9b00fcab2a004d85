"""The native MMLU scorer against lm-eval's Hugging Face backend: same model, same items, one run.

    python benchmarks/mmlu.py [--data MMLU_FOLDER --tokenizer tokenizer.json] [--shots 5] [...]

Models have random weights: time and memory do not depend on what they know. The native scorer
runs first: on a CPU the peak memory is that of the process so far, so only the first row of the
table holds the native scorer's own.
"""

import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from configs.evals import MmluTask
from evals.exam_records import Form, ItemScore, score_exam
from evals.lm_eval_tasks import lm_eval_scorer
from evals.mmlu_items import Exam, load_exam
from evals.mmlu_scorer import native_scorer
from evals.model_state import compute_dtype, context_tokens

SHAPES = {  # hidden, intermediate, layers, heads
    "tiny": (256, 688, 6, 4),
    "100m": (768, 2048, 12, 12),
}
CLEAR_GAP = 1e-4
DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
TOKENIZER = DATA / "tokenizers" / "pythia_20b.json"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=DATA / "mmlu")
@click.option("--tokenizer", type=click.Path(path_type=Path), default=TOKENIZER)
@click.option("--architectures", default="llama,qwen3,neox", help="Comma-separated.")
@click.option("--shape", type=click.Choice(list(SHAPES)), default="tiny")
@click.option("--vocab", type=int, help="Rows of the head; the tokenizer's when left out.")
@click.option("--shots", type=click.IntRange(0, 5), default=5)
@click.option("--subjects", default="anatomy,global_facts", help="Comma-separated, or 'all'.")
@click.option("--limit", type=int, default=20, help="Questions of each subject; 0: all.")
@click.option("--form", type=click.Choice(["letter", "cloze"]), default="letter")
@click.option("--batch-tokens", type=int, default=8192)
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON here.")
def main(
    data: Path,
    tokenizer: Path,
    architectures: str,
    shape: str,
    vocab: int | None,
    shots: int,
    subjects: str,
    limit: int,
    form: Form,
    batch_tokens: int,
    out: Path | None,
) -> None:
    """Print a table, one row a model, and write the same as JSON."""
    if not data.is_dir() or not tokenizer.is_file():
        click.echo(f"skipped: no {data} or no {tokenizer}; give --data and --tokenizer", err=True)
        return
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), eos_token="<|endoftext|>")
    exam = load_exam(MmluTask(path=str(data), shots=shots, limit_per_subject=limit or None))
    if subjects != "all":
        wanted = set(subjects.split(","))
        exam = replace(exam, subjects=tuple(s for s in exam.subjects if s.name in wanted))
    results = []
    for architecture in architectures.split(","):
        model = random_model(architecture, shape, vocab or len(fast) + 24)
        results.append(
            {
                "architecture": architecture,
                "shape": shape,
                "parameters": sum(p.numel() for p in model.parameters()),
                "head_share": head_share(model),
                "device": model.device.type,
                "dtype": str(model.dtype).removeprefix("torch."),
                "threads": torch.get_num_threads(),
                "tokenizer": tokenizer.name,
                "shots": shots,
                "subjects": len(exam.subjects),
                "form": form,
                **compare(model, fast, exam, form, batch_tokens),
            }
        )
    click.echo(table(results))
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")


def table(results: list[dict[str, Any]]) -> str:
    """Markdown, one row a model."""
    columns = (
        *("architecture", "shape", "dtype", "head_share", "form", "shots", "items"),
        *("truncated_prompts",),
        *("native_seconds", "lm_eval_seconds", "ratio", "native_peak_gib", "lm_eval_peak_gib"),
        *("largest_difference", "near_ties", "same_choice_of_the_rest"),
    )
    rows = [columns, ["---"] * len(columns)]
    rows += [
        [f"{result[c]:.3g}" if isinstance(result[c], float) else str(result[c]) for c in columns]
        for result in results
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def random_model(architecture: str, shape: str, vocab: int) -> Any:
    """Random weights, four times the usual spread, so that attention decides the answers."""
    hidden, intermediate, layers, heads = SHAPES[shape]
    options: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 4096,
        "initializer_range": 0.08,
    }
    match architecture:
        case "llama":
            config: Any = LlamaConfig(**options)
        case "qwen3":
            config = Qwen3Config(
                **options, num_key_value_heads=heads // 2, head_dim=64, tie_word_embeddings=True
            )
        case _:
            config = GPTNeoXConfig(**options)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return AutoModelForCausalLM.from_config(config, dtype=compute_dtype()).to(device).eval()


def head_share(model: Any) -> float:
    """Share of a token's multiplications that the head makes up, attention scores left out."""
    head = model.get_output_embeddings().weight.numel()
    embedding = model.get_input_embeddings().weight
    tied = embedding is model.get_output_embeddings().weight
    body = sum(p.numel() for p in model.parameters()) - head - (0 if tied else embedding.numel())
    return round(head / (head + body), 3)


def compare(
    model: Any, tokenizer: Any, exam: Exam, form: Form, batch_tokens: int
) -> dict[str, Any]:
    """Both scorers over all items."""
    native, native_seconds, native_peak = measured(
        lambda: score_exam(native_scorer(model, tokenizer, batch_tokens), exam, form, told)
    )
    oracle, oracle_seconds, oracle_peak = measured(
        lambda: score_exam(lm_eval_scorer(model, tokenizer, batch_tokens), exam, form, told)
    )
    return {
        "items": len(native),
        "truncated_prompts": sum(score.truncated for score in native),
        "context_tokens": context_tokens(model),
        "native_seconds": round(native_seconds, 2),
        "lm_eval_seconds": round(oracle_seconds, 2),
        "ratio": round(oracle_seconds / native_seconds, 2),
        "native_peak_gib": native_peak,
        "lm_eval_peak_gib": oracle_peak,
        **agreement(native, oracle),
    }


def measured(score: Any) -> tuple[list[ItemScore], float, float]:
    """Scores, seconds and the peak memory up to their end (of the GPU where there is one)."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    scores = score()
    seconds = time.perf_counter() - start
    peak = (
        torch.cuda.max_memory_allocated()
        if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return scores, seconds, round(peak / 2**30, 2)


def agreement(native: list[ItemScore], oracle: list[ItemScore]) -> dict[str, Any]:
    """Largest difference of a log-probability, and choices where lm-eval's top two are clear."""
    ours = np.array([score.logprobs for score in native])
    theirs = np.array([score.logprobs for score in oracle])
    ordered = np.sort(theirs, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > CLEAR_GAP
    same = ours.argmax(1) == theirs.argmax(1)
    return {
        "largest_difference": float(np.abs(ours - theirs).max()),
        "near_ties": int((~clear).sum()),
        "same_choice_of_the_rest": int(same[clear].sum()),
        "the_rest": int(clear.sum()),
    }


def told(message: str) -> None:
    """Progress to stderr."""
    print(message, file=sys.stderr)


if __name__ == "__main__":
    main()
