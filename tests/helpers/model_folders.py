"""Tiny models of random weights as others publish them, and as runs leave them."""

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from checkpoints import folder, tensors


def model(seed: int, tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 400}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_hidden_layers": 3}
    config = LlamaConfig(**shape, **heads, eos_token_id=0, tie_word_embeddings=tied)
    return LlamaForCausalLM(config)


def published(path: Path, tiny: Path, seed: int, dtype: torch.dtype, **keys: Any) -> Path:
    """A Hugging Face folder with weights of ``dtype``."""
    tied = keys.pop("tied", False)
    model(seed, tied).to(dtype).save_pretrained(path, **keys)
    PreTrainedTokenizerFast(tokenizer_file=str(tiny / "tokenizer.json")).save_pretrained(path)
    return path


def trained(root: Path, tiny: Path, steps: int, tied: bool = False) -> Path:
    """A run's folder with checkpoints, each of other weights."""
    for step in range(1, steps + 1):
        one = model(10 + step, tied)
        staging = folder.begin(root / "checkpoints", step)
        weights = {(tensors.WEIGHTS, n): p.detach() for n, p in one.named_parameters()}
        tensors.write_tensors(staging / tensors.file_name(0), weights)
        one.config.save_pretrained(staging)
        files = {path.name: folder.describe(path) for path in staging.iterdir()}
        folder.commit(staging, step, files, {})
    folder.write_json(root / folder.JOB, {"tokenizer": str(tiny / "tokenizer.json")})
    return root


def publish(root: Path, step: int) -> Path:
    staging = folder.begin(root, step)
    path = staging / tensors.file_name(0)
    tensors.write_tensors(path, {(tensors.WEIGHTS, "layer.a"): torch.arange(6.0).view(2, 3) + step})
    return folder.commit(staging, step, {path.name: folder.describe(path)}, {"note": step})
