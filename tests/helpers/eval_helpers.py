"""Tiny random models, a tiny tokenizer and small exams for the tests of evals/."""

import csv
import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from places import SHARED_DATA
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from evals.scoring.bpb import EvalDocument

DATA = SHARED_DATA
END = "<|endoftext|>"
WORDS = ("river", "stone", "lamp", "seven", "green", "north", "table", "paper", "summer", "cloud")
SHAPE = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "initializer_range": 0.2}
ARCHITECTURES = ("llama", "qwen3", "neox")


def require_data(*parts: str) -> Path:
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the shared data folder has no {'/'.join(parts)}")
    return path


@functools.cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 500 tokens in which " A" to " D" are single tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = [f"Answer: {letter}\n\nWhich {word} is it?" for letter in "ABCD" for word in WORDS]
    lines += ["The following are multiple choice questions (with answers) about", "Question:"]
    tokenizer.train_from_iterator(lines * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


def real_tokenizer(name: str) -> PreTrainedTokenizerFast:
    file = require_data("tokenizers", f"{name}.json")
    return PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token=END)


def tiny_model(architecture: str, vocab: int = 512, context: int = 1024, **more: Any) -> Any:
    """Random weights, wide enough apart that attention decides the answers."""
    torch.manual_seed(1)
    shape = {**SHAPE, "vocab_size": vocab, "max_position_embeddings": context, **more}
    match architecture:
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**shape)).eval()
        case "qwen3":
            config = Qwen3Config(
                **shape, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True
            )
            return Qwen3ForCausalLM(config).eval()
        case "neox":
            return GPTNeoXForCausalLM(GPTNeoXConfig(**shape)).eval()
        case "gpt2":  # learned positions: a shift of all of them is seen
            options = {"n_embd": 48, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
            config = GPT2Config(vocab_size=vocab, n_positions=context, **options)
            return GPT2LMHeadModel(config).eval()
        case "mistral":
            config = MistralConfig(**shape, num_key_value_heads=2, sliding_window=32)
            return MistralForCausalLM(config).eval()
    raise ValueError(architecture)


def write_exam(folder: Path, subjects: dict[str, int], seed: int = 0) -> Path:
    """MMLU's headerless layout with random questions: {subject: questions}, five dev rows each."""
    rng = random.Random(seed)
    for subject, questions in subjects.items():
        for split, count in (("dev", 5), ("test", questions)):
            rows = [random_row(rng) for _ in range(count)]
            write_csv(folder / split / f"{subject}_{split}.csv", rows)
    return folder


def random_row(rng: random.Random) -> list[str]:
    question = f"Which {' '.join(rng.choices(WORDS, k=rng.randint(2, 12)))} is it?"
    choices = [" ".join(rng.choices(WORDS, k=rng.randint(1, 4))) for _ in range(4)]
    return [question, *choices, rng.choice("ABCD")]


def write_csv(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)


def silent(_message: str) -> None:
    """Progress that nobody reads."""


def make_documents(lengths, source="web"):
    rng = np.random.default_rng(0)
    tokenizer, documents = tiny_tokenizer(), []
    for number, words in enumerate(lengths):
        text = " ".join(rng.choice(WORDS, size=words))
        ids = np.array(tokenizer.encode(text), dtype=np.uint16)
        size = len(text.encode())
        documents.append(EvalDocument(source, "general", "heldout", f"d{number}", ids, size))
    return documents
