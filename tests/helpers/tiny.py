"""A tiny recipe over a tiny corpus and its tokenizer; what `tiny` of conftest.py is made of."""

import json
import random
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WORDS = [
    "stone",
    "river",
    "cloud",
    "amber",
    "window",
    "paper",
    "signal",
    "garden",
    "winter",
    "copper",
    "lantern",
    "harbor",
    "velvet",
    "thunder",
    "meadow",
    "cipher",
    "orbit",
    "marble",
    "canyon",
    "willow",
]


def train_tokenizer(path: Path) -> None:
    """A byte-level BPE over WORDS; id 0 ends a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    tokenizer.save(str(path))


def write_base(folder: Path, **config: Any) -> None:
    """A base that can be planned but not trained: a config, and a file of one weight."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    save_file({"lm_head.weight": torch.zeros(1, 1)}, folder / "model.safetensors")


def random_row(name: str, index: int, rng: random.Random, longest: int) -> dict[str, str]:
    words = rng.choices(WORDS, k=rng.randint(2, longest))
    return {"id": f"{name}-{index}", "text": " ".join(words)}


def tiny_recipe(folder: Path, run_dir: Path, **sections: Any) -> dict[str, Any]:
    """A recipe over the tiny corpus: 12 steps of 8 rows of 32; ``sections`` replace whole ones."""
    recipe: dict[str, Any] = {
        "name": "tiny",
        "run_dir": str(run_dir),
        "base": {
            "architecture": {
                "model_type": "llama",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "tie_word_embeddings": True,
            }
        },
        "data": {
            "tokenizer": str(folder / "tokenizer.json"),
            "store": str(run_dir / "store"),
            "seq_len": 32,
            "sources": [
                {"name": "own", "role": "domain", "path": str(folder / "domain.jsonl")},
                {"name": "web", "role": "general", "path": str(folder / "general.jsonl")},
                {"name": "wiki", "role": "retention", "path": str(folder / "retention.jsonl")},
            ],
        },
        "mix": {"general": 0.25},
        "schedule": {
            "tokens": 12 * 8 * 32,
            "batch_tokens": 8 * 32,
            "peak_lr": 0.003,
            "warmup": 0.25,
            "anneal": 0.25,
        },
        "train": {"zero": 2, "precision": "fp32", "ranks": 2, "micro_batch_rows": 2},
    }
    return {**recipe, **sections}


def long_recipe(
    folder: Path, run_dir: Path, name: str, steps: int, train: dict[str, Any]
) -> dict[str, Any]:
    """As ``tiny_recipe``, of so many steps of 8 rows: its sources are read as often as it takes."""
    schedule = {"tokens": steps * 256, "batch_tokens": 256, "peak_lr": 0.003}
    schedule |= {"warmup": 0.1, "anneal": 0.3}
    tree = tiny_recipe(folder, run_dir, schedule=schedule, train=train)
    for source in tree["data"]["sources"]:
        source["max_epochs"] = 10_000
    return {**tree, "name": name}


def write_recipe(path: Path, recipe: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path
