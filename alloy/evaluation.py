"""A model's measurements on a recipe's exam, domain tasks, and held-out and retention text."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alloy.decontamination import by_task
from alloy.planning import Planned
from configs import Recipe, UserError
from evals.bpb import EvalDocument
from evals.domain_items import load_rows, template_use
from evals.evaluate import evaluate_model
from mixing.exclude import KEPT, heldout_documents
from mixing.tokenizer import Decoder

_PROGRESS_SECONDS = 10.0
_TEMPLATE_DOCUMENTS = 500
_TEMPLATE_TOKENS = 4000
PASSAGES = 32
"""A document gives at most the 32nd part of its source's tokens: intervals are over documents."""


def evaluate(
    recipe: Recipe, planned: Planned, model: Path, out: Path, name: str, show: Callable[[str], None]
) -> dict[str, Any]:
    """Measure a Hugging Face folder; base and arms go the same way."""
    tokenizer, corpus = planned.tokenizer, planned.corpus
    assert corpus is not None
    return evaluate_model(
        model,
        recipe.evals,
        eval_documents(planned, recipe.evals.bpb_tokens),
        out,
        name,
        _sparsely(name, show),
        seq_len=recipe.data.seq_len,
        start_id=tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id,
        decontaminated=by_task(recipe.evals, corpus.removed),
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
    """Held-out text of the trained sources and all retention text, in document order.

    Of each source as many documents as fit into ``most_tokens``, at least one; of a document at
    most its first ``most_tokens / PASSAGES`` tokens, so that a few long ones do not stand for the
    source (whole where the tokenizer is not BPE: the bytes of a part are not known then). The
    tokens that the build put around a document are left out: they stand for no byte of text. Of
    a conversation the whole rendering counts, not only what is supervised.
    """
    longest = max(1, most_tokens // PASSAGES)
    decoder = _bpe_decoder(planned)
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
            text_bytes = int(reader.text_bytes[document])
            if len(tokens) > longest and decoder is not None:
                tokens = tokens[:longest]
                text_bytes = int(decoder.token_ends(tokens)[-1])
            total += len(tokens)
            if total > most_tokens and total > len(tokens):
                break
            yield EvalDocument(
                source=name,
                role=source.role,
                split="retention" if retention else "heldout",
                id=reader.provenance(int(document)).id,
                token_ids=tokens,
                text_bytes=text_bytes,
            )


def _bpe_decoder(planned: Planned) -> Decoder | None:
    try:
        return Decoder(planned.tokenizer)
    except UserError:
        return None
