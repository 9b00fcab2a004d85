"""The letter form without lm-eval: the few-shot prefix once a subject, the last position only.

Whole prompts are tokenized and the prefix is what their tokens share: examples and question
tokenized apart give other tokens (two line breaks at the end of a string merge differently), and
the scores change without a word. The prefix runs once; its keys and values are expanded, not
copied, over batches of the rest. The model's own forward is used, so that scalings after the head
hold; a hook hands the head the last position of each row alone.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from configs.errors import UserError
from evals.exam_records import ItemScore
from evals.mmlu_items import Exam, MmluSubject
from evals.mmlu_prompts import CONTINUATIONS, letter_prompt
from evals.model_state import context_tokens, forward_tokens, undisturbed

_CACHE_TOKENS = 65_536  # keys and values of one batch, prefix included: 8 GB at 128 KB a token
_HINT = "score with lm-eval: scorer='lm-eval'"


def score_letters(
    model: Any,
    tokenizer: Any,
    exam: Exam,
    batch_tokens: int,
    progress: Callable[[str], None],
) -> list[ItemScore]:
    """Log-probabilities of " A".." D" for every question, in the exam's order.

    The same numbers as ``lm_eval_tasks.score_exam`` (fp32: within 1e-4). ``batch_tokens`` counts
    the tokens after the prefix in one forward pass. The model may be live and in training mode.
    Raises UserError where a letter is not one token, or the cache is not plain attention.
    """
    scores = []
    batch_tokens = forward_tokens(model, batch_tokens)
    with undisturbed(model):
        for done, subject in enumerate(exam.subjects, 1):
            scores += _score_subject(model, tokenizer, subject, batch_tokens)
            progress(f"exam, letter form: {subject.name} ({done} of {len(exam.subjects)} subjects)")
    return scores


def _score_subject(
    model: Any, tokenizer: Any, subject: MmluSubject, batch_tokens: int
) -> list[ItemScore]:
    prompts = [letter_prompt(subject, item) for item in subject.test]
    encoded = encode(tokenizer, prompts)
    letters = letter_ids(tokenizer, prompts[0], encoded[0])
    limit = context_tokens(model)
    fits = [row for row, ids in enumerate(encoded) if len(ids) <= limit]
    # A prompt that is too long keeps its end, as in lm-eval, and shares no prefix.
    cut = [row for row, ids in enumerate(encoded) if len(ids) > limit]
    logprobs: dict[int, list[float]] = {}
    groups = ((fits, _shared_prefix([encoded[row] for row in fits])), (cut, 0))
    for rows, prefix_tokens in groups:
        inputs = {row: encoded[row][-limit:] for row in rows}
        logprobs |= _score_group(model, inputs, prefix_tokens, letters, batch_tokens)
    return [
        ItemScore(item.subject, item.index, tuple(logprobs[row]), len(encoded[row]) > limit)
        for row, item in enumerate(subject.test)
    ]


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids as lm-eval encodes them: the tokenizer's own special tokens, unless the text starts
    with the one that would be put before it."""
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    starts = tokenizer.decode(first)
    return [tokenizer.encode(t, add_special_tokens=not t.startswith(starts)) for t in texts]


def letter_ids(tokenizer: Any, prompt: str, prompt_ids: list[int]) -> list[int]:
    """Ids of the four continuations, from prompt + " A": alone, a letter may be another token."""
    ids = []
    for continuation, whole in zip(
        CONTINUATIONS, encode(tokenizer, [prompt + c for c in CONTINUATIONS]), strict=True
    ):
        if whole[:-1] != prompt_ids:
            raise UserError(f"'{continuation}' is not one token after a prompt", _HINT)
        ids.append(whole[-1])
    if len(set(ids)) != len(CONTINUATIONS):
        raise UserError(f"the four letters have ids {ids}, which are not distinct", _HINT)
    return ids


def _shared_prefix(rows: Sequence[list[int]]) -> int:
    """Length of the longest common prefix; one token of each row stays out of it."""
    if len(rows) < 2:
        return 0
    low, high = min(rows), max(rows)  # what these two share, all share
    most = min(len(row) for row in rows) - 1
    return next((i for i in range(most) if low[i] != high[i]), most)


def _score_group(
    model: Any,
    inputs: dict[int, list[int]],
    prefix_tokens: int,
    letters: list[int],
    batch_tokens: int,
) -> dict[int, list[float]]:
    """Row to four log-probabilities; every row starts with the same ``prefix_tokens`` ids."""
    if not inputs:
        return {}
    rows = sorted(inputs, key=lambda row: -len(inputs[row]))
    cache = None
    if prefix_tokens:
        cache = _run_prefix(model, inputs[rows[0]][:prefix_tokens])
    scores = {}
    for batch in _batches(rows, inputs, prefix_tokens, batch_tokens):
        suffixes = [inputs[row][prefix_tokens:] for row in batch]
        logits = _last_logits(model, suffixes, _expanded(cache, len(batch)))
        logprobs = logits.float().log_softmax(-1)[:, letters]  # (rows, 4)
        scores |= dict(zip(batch, logprobs.tolist(), strict=True))
    return scores


def _batches(
    rows: list[int], inputs: dict[int, list[int]], prefix_tokens: int, batch_tokens: int
) -> Iterator[list[int]]:
    """Rows, longest first, in batches within both budgets (one row may exceed them)."""
    start = 0
    while start < len(rows):
        longest = len(inputs[rows[start]])
        most = min(batch_tokens // (longest - prefix_tokens), _CACHE_TOKENS // longest)
        yield rows[start : start + max(1, most)]
        start += max(1, most)


def _run_prefix(model: Any, prefix: list[int]) -> Any:
    ids = torch.tensor([prefix], device=model.device)
    with _head_sees(model, torch.tensor([len(prefix) - 1], device=model.device)):
        cache = model(input_ids=ids, use_cache=True).past_key_values
    kinds = {type(layer) for layer in getattr(cache, "layers", [])}
    if not kinds or kinds - {DynamicLayer, DynamicSlidingWindowLayer}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds)) or type(cache).__name__
        raise UserError(f"{type(model).__name__}: cannot share a cache of {names}", _HINT)
    return cache


def _expanded(cache: Any, rows: int) -> Any:
    """The cache for ``rows`` rows. A forward pass changes the layer objects, so they are copied;
    it concatenates keys and values, so those stay views of the one prefix."""
    if cache is None:
        return None
    layers = []
    for layer in cache.layers:
        twin = copy.copy(layer)
        if layer.keys is not None and layer.values is not None:
            twin.keys = layer.keys.expand(rows, -1, -1, -1)
            twin.values = layer.values.expand(rows, -1, -1, -1)
        layers.append(twin)
    expanded = copy.copy(cache)
    expanded.layers = layers
    return expanded


def _last_logits(model: Any, suffixes: Sequence[list[int]], cache: Any) -> torch.Tensor:
    """(rows, vocabulary) logits at the end of each suffix.

    Padding is on the right and needs no mask: no real position sees it.
    """
    width = max(len(suffix) for suffix in suffixes)
    padded = [suffix + [0] * (width - len(suffix)) for suffix in suffixes]
    ids = torch.tensor(padded, device=model.device)
    last = torch.tensor([len(suffix) - 1 for suffix in suffixes], device=model.device)
    with _head_sees(model, last):
        logits = model(input_ids=ids, past_key_values=cache, use_cache=cache is not None).logits
    if logits.shape[1] != 1:  # the model does not call its head as a module
        logits = logits[torch.arange(len(suffixes), device=model.device), last][:, None]
    return logits[:, 0]


@contextmanager
def _head_sees(model: Any, last: torch.Tensor) -> Iterator[None]:
    """Hand the head one position of each row: (rows, width, d) becomes (rows, 1, d)."""

    def select(_module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = arguments[0]
        chosen = hidden[torch.arange(len(last), device=hidden.device), last]
        return (chosen[:, None], *arguments[1:])

    head = model.get_output_embeddings()
    if head is None:
        raise UserError(f"{type(model).__name__}: has no output embeddings", _HINT)
    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()
