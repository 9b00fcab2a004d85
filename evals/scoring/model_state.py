"""What every scorer needs of a live model: its state untouched, and the length of its context."""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from configs import CheckFailed, UserError

Loader = Callable[[Path, torch.dtype], torch.nn.Module]
"""The model of a Hugging Face folder, in a type. Handed in: weights are loaded in one place of the
product, by one set of rules, and that is not here."""


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; random states and each module's mode come back."""
    modes = [(module, module.training) for module in model.modules()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    device = next(model.parameters()).device
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def context_tokens(model: Any) -> int:
    """Most tokens of one input, from the model's config. Raises UserError where it states none."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(length, int) or length < 2:
        raise UserError(
            f"{type(model).__name__}: the config states no max_position_embeddings",
            "add the length of the context to config.json",
        )
    return length


def forward_tokens(model: Any, batch_tokens: int) -> int:
    """Tokens of one forward pass: as asked on a GPU, at most 1,024 on a CPU.

    Larger batches are slower there (anatomy at 5 shots: 10.5 ms a question at 1,024 tokens, 15.4
    at 2,048), and logits of 8,192 positions over 100,000 words take 3 GB.
    """
    return min(batch_tokens, 1024) if model.device.type == "cpu" else batch_tokens


def require_finite(values: Iterable[float]) -> None:
    """A model that gives NaN has no score: argmax over NaN would make one up."""
    found = list(values)
    bad = int((~np.isfinite(found)).sum()) if found else 0
    if bad:
        raise CheckFailed(
            f"{bad} of {len(found)} log-probabilities of the model are not finite",
            "the weights hold NaN or infinity; evaluate an earlier checkpoint",
        )


def compute_dtype() -> torch.dtype:
    """bf16 on a GPU, fp32 on the CPU: the same for every model that is compared."""
    return torch.bfloat16 if torch.cuda.is_available() else torch.float32


def load_folder(folder: Path, load: Loader) -> tuple[Any, Any]:
    """(model, tokenizer) of a Hugging Face folder, in ``compute_dtype``, with SDPA attention
    where the model has it (soft-capped attention has not)."""
    model: Any = load(folder, compute_dtype())
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    require_end_of_text(tokenizer, str(folder))
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


def require_end_of_text(tokenizer: Any, where: str) -> int:
    """The id that ends a text. Raises UserError where the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{where}: the tokenizer has no eos_token", "set it in tokenizer_config.json"
        )
    return int(tokenizer.eos_token_id)
