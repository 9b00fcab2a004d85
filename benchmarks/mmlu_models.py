"""What the MMLU benchmarks share: models with random weights, and how two scorers agree.

Random weights are several times wider than usual, so that attention decides the answers: with
small ones all four letters are about as likely whatever the question says.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from evals.exam.exam_records import NEAR_TIE, ItemScore
from evals.exam.mmlu_items import Exam, load_exam

ARCHITECTURES = ("llama", "qwen3", "neox")
SHAPES: dict[str, dict[str, Any]] = {
    "proof": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    "tiny": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6},
    # SmolLM2-135M's: 30 narrow layers, three queries a key, one matrix for embedding and head
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
}
_SPREAD = {"proof": 0.25, "tiny": 0.08, "135m": 0.06}
END = "<|endoftext|>"


def random_model(
    architecture: str, shape: str, vocab: int, context: int, dtype: torch.dtype
) -> Any:
    """A model in evaluation mode on the GPU where there is one, always the same."""
    options: dict[str, Any] = {
        "num_attention_heads": 4,
        **SHAPES[shape],
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "initializer_range": _SPREAD[shape],
    }
    match architecture:
        case "llama":
            config: Any = LlamaConfig(**options)
        case "qwen3":
            heads = options["num_attention_heads"]
            options = {"num_key_value_heads": heads // 2, "tie_word_embeddings": True} | options
            config = Qwen3Config(**options, head_dim=options["hidden_size"] // heads)
        case "neox":
            config = GPTNeoXConfig(**options)
        case _:
            raise ValueError(architecture)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return AutoModelForCausalLM.from_config(config, dtype=dtype).to(device).eval()


def head_share(model: Any) -> float:
    """Share of a token's multiplications that the head makes up, attention scores left out."""
    head = model.get_output_embeddings().weight.numel()
    embedding = model.get_input_embeddings().weight
    tied = embedding is model.get_output_embeddings().weight
    body = sum(p.numel() for p in model.parameters()) - head - (0 if tied else embedding.numel())
    return round(head / (head + body), 3)


def load_tokenizer(file: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token=END)


def some_subjects(
    folder: Path, shots: int, subjects: Sequence[str] | None, limit: int | None
) -> Exam:
    """The exam, or some of its subjects, or the first ``limit`` questions of each."""
    exam = load_exam(MmluTask(path=str(folder), shots=shots, limit_per_subject=limit))
    if subjects is None:
        return exam
    unknown = set(subjects) - {subject.name for subject in exam.subjects}
    if unknown:
        raise SystemExit(f"{folder} has no subject {', '.join(sorted(unknown))}")
    return replace(exam, subjects=tuple(s for s in exam.subjects if s.name in subjects))


def agreement(
    native: Sequence[ItemScore], oracle: Sequence[ItemScore], dtype: str = "float32"
) -> dict[str, Any]:
    """Largest difference of a log-probability, and choices where lm-eval's top two are clear.

    ``spread`` is the standard deviation of lm-eval's log-probabilities over the questions, the
    widest of the four letters: where it is near 0, agreement shows nothing.
    """
    ours = np.array([score.logprobs for score in native])
    theirs = np.array([score.logprobs for score in oracle])
    ordered = np.sort(theirs, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > NEAR_TIE[dtype]
    same = ours.argmax(1) == theirs.argmax(1)
    told_alike = [(s.subject, s.index, s.truncated) for s in native] == [
        (s.subject, s.index, s.truncated) for s in oracle
    ]
    return {
        "items": len(native),
        "truncated_prompts": sum(score.truncated for score in native),
        "truncated_alike": told_alike,
        "largest_difference": float(np.abs(ours - theirs).max()),
        "spread": round(float(theirs.std(axis=0).max()), 3),
        "near_tie_band": NEAR_TIE[dtype],
        "near_ties": int((~clear).sum()),
        "near_ties_turned": int((~same & ~clear).sum()),
        "other_choices_turned": int((~same & clear).sum()),
    }


def told(message: str) -> None:
    """Progress to stderr."""
    print(message, file=sys.stderr, flush=True)
