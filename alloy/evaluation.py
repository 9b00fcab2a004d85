"""A model's measurements on a recipe's exam, domain tasks, and held-out and retention text."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alloy.planning import Planned
from configs import Recipe
from evals.bpb import EvalDocument
from evals.evaluate import evaluate_model
from mixing.exclude import KEPT, heldout_documents

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


def eval_documents(planned: Planned, most_tokens: int) -> Iterator[EvalDocument]:
    """Held-out text of the trained sources and all retention text, in document order.

    Of each source as many whole documents as fit into ``most_tokens``, at least one. The tokens
    that the build put around a document are left out: they stand for no byte of text. Of a
    conversation the whole rendering counts, not only what is supervised.
    """
    corpus = planned.corpus
    assert corpus is not None
    for name, source in corpus.sources.items():
        reader, reasons = corpus.readers[name], corpus.reasons[name]
        ends = reader.manifest["tokenizer"]
        begin, has_eos = int(ends["bos_id"] is not None), int(ends["eos_id"] is not None)
        retention = source.role == "retention"
        chosen = (reasons == KEPT).nonzero()[0] if retention else heldout_documents(reasons)
        total = 0
        for document in chosen:
            tokens = reader.tokens(int(document))
            tokens = tokens[begin : len(tokens) - has_eos]
            total += len(tokens)
            if total > most_tokens and total > len(tokens):
                break
            yield EvalDocument(
                source=name,
                role=source.role,
                split="retention" if retention else "heldout",
                id=reader.provenance(int(document)).id,
                token_ids=tokens,
                text_bytes=int(reader.text_bytes[document]),
            )
