"""Runs a domain task on a model: answers, probabilities of the labels, one record for each row."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from configs import DomainTask
from evals.domain.domain_items import DomainRow, load_labels
from evals.domain.domain_records import domain_records
from evals.domain.likelihood import label_likelihoods
from evals.scoring import answer_all, require_finite


def run_domain(
    model: Any,
    tokenizer: Any,
    task: DomainTask,
    rows: Sequence[DomainRow],
    batch_tokens: int,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The records of ``domain_records``, each with how its answer came about.

    ``certainty`` is the probability of the whole answer.
    """

    def told(message: str) -> None:
        progress(f"{task.name}, {message}")

    prompts = [row.prompt for row in rows]
    answers = answer_all(
        model, tokenizer, prompts, task.max_new_tokens, batch_tokens, told, task.stop
    )
    require_finite(answer.probability for answer in answers)
    labels = load_labels(task, rows)
    records = domain_records(rows, [answer.text for answer in answers], task.metric, labels)
    for record, row, answer in zip(records, rows, answers, strict=True):
        record["prompt_hash"] = hashlib.sha256(row.prompt.encode()).hexdigest()[:16]
        record["truncated"] = answer.truncated
        record["finished"] = answer.finished
        record["certainty"] = answer.probability
        record["answer_tokens"] = answer.tokens
    if task.likelihood:
        found = label_likelihoods(
            model, tokenizer, prompts, labels, task.metric, batch_tokens, told
        )
        require_finite(fields["likelihood_logprob"] for fields in found)
        for record, fields in zip(records, found, strict=True):
            record |= fields
    return records
