"""Measures a model on a recipe's exam, domain tasks, held-out and retention text."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from alloy.models import published_scores
from alloy.planning import Planned, by_task
from checkpoints import pretrained_model
from configs import Recipe, UserError
from evals.domain import load_rows, template_use
from evals.evaluate import evaluate_model
from evals.scoring import EvalDocument
from mixing.selection import KEPT
from mixing.tokens import Decoder
from pretrain.training import corpus_documents

_PROGRESS_SECONDS = 10.0
_TEMPLATE_DOCUMENTS = 500
_TEMPLATE_TOKENS = 4000


def measure(
    recipe: Recipe,
    planned: Planned,
    model: Path,
    out: Path,
    name: str,
    show: Callable[[str], None],
    published_as: tuple[str, str | None] | None = None,
) -> dict[str, Any]:
    """Measure a Hugging Face folder; base and arms go the same way.

    ``published_as``: the hub id and revision of a model that the catalog may know scores of.
    """
    tokenizer, corpus = planned.tokenizer, planned.corpus
    assert corpus is not None
    transformers_logging.disable_progress_bar()  # lines of their own, between those of Alloy
    return evaluate_model(
        model,
        recipe.evals,
        eval_documents(planned, recipe.evals.bpb_tokens),
        out,
        name,
        _sparsely(name, show),
        pretrained_model,
        seq_len=recipe.data.seq_len,
        start_id=tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id,
        decontaminated=by_task(recipe.evals, corpus.removed),
        published=published_scores(*published_as) if published_as else (),
        caveats=template_caveats(recipe, planned),
    )


def template_caveats(recipe: Recipe, planned: Planned) -> list[str]:
    """A line for each domain task whose prompts look like none of the first training documents:
    a model is asked there in a form that it has not been shown."""
    if not recipe.evals.domain:
        return []
    try:
        texts = list(_domain_texts(planned))
    except UserError as error:
        return [f"whether training rows look like the prompts is not known: {error.message}"]
    found = []
    for task in recipe.evals.domain:
        used = template_use(task.template, [row.prompt for row in load_rows(task)], texts)
        if texts and not used.holding:
            found.append(
                f"{task.name}: none of the first {used.texts} domain documents has the form of "
                f"its prompts ('{used.parts[-1].strip()[-40:]}')"
            )
    return found


def _domain_texts(planned: Planned) -> Iterator[str]:
    """The first training documents of each domain source, their first tokens. Raises UserError
    where stored ids cannot be decoded."""
    corpus = planned.corpus
    assert corpus is not None
    decoder = Decoder(planned.tokenizer)
    for name, source in corpus.sources.items():
        if source.role == "domain":
            for document in (corpus.reasons[name] == KEPT).nonzero()[0][:_TEMPLATE_DOCUMENTS]:
                tokens = corpus.readers[name].tokens(int(document))
                yield decoder.text(tokens[:_TEMPLATE_TOKENS])


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
    """Held-out text of the trained sources and all retention text; see ``corpus_documents``."""
    assert planned.corpus is not None
    return corpus_documents(planned.corpus, planned.tokenizer, most_tokens)
