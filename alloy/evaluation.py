"""A model's measurements on a recipe's exam, domain tasks, and held-out and retention text."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alloy.planning import Planned
from configs import Recipe
from evals.bpb import EvalDocument
from evals.evaluate import evaluate_model
from pretrain.heldout import corpus_documents

_PROGRESS_SECONDS = 10.0


def evaluate(
    recipe: Recipe, planned: Planned, model: Path, out: Path, name: str, show: Callable[[str], None]
) -> dict[str, Any]:
    """Measure a Hugging Face folder; base and arms go the same way."""
    tokenizer = planned.tokenizer
    return evaluate_model(
        model,
        recipe.evals,
        eval_documents(planned, recipe.evals.bpb_tokens),
        out,
        name,
        _sparsely(name, show),
        seq_len=recipe.data.seq_len,
        start_id=tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id,
    )


def _sparsely(name: str, show: Callable[[str], None]) -> Callable[[str], None]:
    """Progress of long work: a line when some seconds have passed since the last one."""
    last = time.monotonic()

    def tell(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            show(f"{name}: {line}")

    show(f"{name}: evaluating")
    return tell


def eval_documents(planned: Planned, most_tokens: int, has_eos: bool) -> Iterator[EvalDocument]:
    """Held-out text of the trained sources and all retention text; see ``corpus_documents``."""
    assert planned.corpus is not None
    has_bos = planned.tokenizer.bos_id is not None
    return corpus_documents(planned.corpus, most_tokens, has_bos, has_eos)
