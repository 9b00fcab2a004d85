"""Log-probabilities of given continuations, with everything that is shared computed once.

    questions ─▶ rows ─▶ the prefix of all, once ─▶ the stem of each question, once ─▶ the rests

What is shared is read off the token ids: parts of a prompt tokenized apart give other tokens (two
line breaks at the end of a string merge differently), and scores change without a word. Keys and
values of the prefix are expanded, not copied, over the batch. Stems of one batch are cut to the
same length and rests are padded on the right, so no mask is needed. The model's own forward is
used, so that scalings after the head hold; a hook hands the head the scored positions alone.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from configs import UserError
from evals.scoring.batching import cheapest_batches
from evals.scoring.model_state import context_tokens, forward_tokens

_CACHE_TOKENS = 65_536  # keys and values of one batch, prefix included: 8 GB at 128 KB a token
_SOFTMAX_POSITIONS = 256  # in fp32 at once: 128 MB at 128k words
_STEM_SPREAD = 7 / 8  # shortest stem of a batch to its longest: the rest is computed per option


@dataclass(frozen=True)
class Question:
    """A context and what may follow it, as token ids."""

    context: list[int]
    options: list[list[int]]

    def is_cut(self, limit: int) -> bool:
        """Whether the start of the context is lost in a context of ``limit`` tokens."""
        return len(self.context) + max(map(len, self.options)) > limit + 1


@dataclass(frozen=True)
class _Row:
    """One sequence: its last positions predict each of the ``targets`` (option, ids)."""

    question: int
    inputs: list[int]
    targets: list[tuple[int, list[int]]]

    @property
    def tail(self) -> int:
        """Positions at the end that are scored."""
        return len(self.targets[0][1])

    @property
    def head(self) -> int:
        """Positions before them: what may be shared."""
        return len(self.inputs) - self.tail


def score_continuations(
    model: Any,
    questions: Sequence[Question],
    batch_tokens: int,
    told: Callable[[int], None] = lambda done: None,  # noqa: ARG005 - nobody listens
) -> list[list[float]]:
    """Summed log-probability (natural log) of every option after its context.

    ``batch_tokens`` counts the tokens of one forward pass after what is shared. A row longer than
    the model's context keeps its end, as in lm-eval. ``told`` hears how many options are done.
    Call it inside ``model_state.undisturbed``. Raises UserError where an option alone is longer
    than the context.
    """
    limit = context_tokens(model)
    batch_tokens = forward_tokens(model, batch_tokens)
    fits: list[_Row] = []
    cut: list[_Row] = []
    for number, question in enumerate(questions):
        rows = _rows(number, question, limit)
        (cut if question.is_cut(limit) else fits).extend(rows)
    scores = [[0.0] * len(question.options) for question in questions]
    done = 0
    groups = ((fits, True), (cut, False))
    for rows, share in groups:
        for row, values in _score_group(model, rows, batch_tokens, share):
            for (option, _), value in zip(row.targets, values, strict=True):
                scores[row.question][option] = value
            done += len(values)
            told(done)
    return scores


def _rows(number: int, question: Question, limit: int) -> list[_Row]:
    """Options that differ in their last token alone are read off the same positions."""
    longest = max(map(len, question.options))
    if longest > limit:
        raise UserError(
            f"an answer of {longest} tokens is longer than the model's context of {limit}",
            "shorten it",
        )
    alike: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
    for option, ids in enumerate(question.options):
        alike.setdefault(tuple(ids[:-1]), []).append((option, ids))
    return [
        _Row(number, [*question.context, *before][-limit:], targets)
        for before, targets in alike.items()
    ]


Scored = Iterator[tuple[_Row, list[float]]]


def _score_group(model: Any, rows: Sequence[_Row], batch_tokens: int, share: bool) -> Scored:
    """Each row with the log-probability of each of its targets."""
    prefix, cache = 0, None
    if share and len(rows) > 1:
        prefix = _shared_prefix(rows)
        cache = _run(model, [rows[0].inputs[:prefix]], None) if prefix else None
        prefix = 0 if cache is None else prefix
    questions: dict[int, list[_Row]] = {}
    for row in rows:
        questions.setdefault(row.question, []).append(row)
    if not share or len(questions) == len(rows):
        yield from _score_rows(model, rows, prefix, cache, [0] * len(rows), batch_tokens)
        return
    for batch, length in _stem_batches(list(questions.values()), prefix, batch_tokens):
        stems = [several[0].inputs[prefix:length] for several in batch]
        stem_cache = _run(model, stems, _picked(cache, [0] * len(batch))) if stems[0] else None
        if stem_cache is None:  # nothing to share, or a cache that cannot be
            stem_cache, length, places = cache, prefix, [0] * sum(map(len, batch))
        else:
            places = [place for place, several in enumerate(batch) for _ in several]
        flat = [row for several in batch for row in several]
        yield from _score_rows(model, flat, length, stem_cache, places, batch_tokens)


def _shared_prefix(rows: Sequence[_Row]) -> int:
    """Length of the longest common prefix of all rows that leaves out every scored position."""
    if len(rows) < 2:
        return 0
    most = min(row.head for row in rows)
    # What the first and the last in order share, all share.
    low, high = min(row.inputs for row in rows), max(row.inputs for row in rows)
    return next((i for i in range(most) if low[i] != high[i]), most)


def _stem_batches(
    questions: list[list[_Row]], prefix: int, batch_tokens: int
) -> Iterator[tuple[list[list[_Row]], int]]:
    """Questions, longest stem first, in batches, and the length that all their stems have."""
    stems = [
        _shared_prefix(several) if len(several) > 1 else several[0].head for several in questions
    ]
    order = sorted(range(len(questions)), key=lambda q: -stems[q])
    start = 0
    while start < len(order):
        longest = stems[order[start]]
        own = max(1, longest - prefix)
        most = max(1, min(batch_tokens // own, _CACHE_TOKENS // max(1, longest)))
        least = prefix + _STEM_SPREAD * own
        batch = [order[start]]
        for q in order[start + 1 : start + most]:
            if stems[q] < least:
                break
            batch.append(q)
        yield [questions[q] for q in batch], stems[batch[-1]]
        start += len(batch)


def _score_rows(
    model: Any,
    rows: Sequence[_Row],
    shared: int,
    cache: Any,
    places: Sequence[int],
    batch_tokens: int,
) -> Scored:
    """Rows whose first ``shared`` inputs are in row ``places[i]`` of the cache."""
    lengths = [len(row.inputs) for row in rows]
    for batch in cheapest_batches(lengths, shared, batch_tokens, _CACHE_TOKENS):
        own = _picked(cache, [places[i] for i in batch])
        suffixes = [rows[i].inputs[shared:] for i in batch]
        logits = _tail_logits(model, suffixes, [rows[i].tail for i in batch], own)
        yield from zip(
            (rows[i] for i in batch), _values(logits, [rows[i] for i in batch]), strict=True
        )


def _values(logits: torch.Tensor, rows: Sequence[_Row]) -> list[list[float]]:
    """Summed log-probabilities from (positions, vocabulary) logits of the rows' tails."""
    positions, tokens, owners = [], [], []
    first = target = 0
    for row in rows:
        for _, ids in row.targets:
            positions += range(first, first + row.tail)
            tokens += ids
            owners += [target] * len(ids)
            target += 1
        first += row.tail
    totals = torch.cat([part.float().logsumexp(-1) for part in logits.split(_SOFTMAX_POSITIONS)])
    where = torch.tensor(positions, device=logits.device)
    chosen = logits[where, torch.tensor(tokens, device=logits.device)].float() - totals[where]
    sums = torch.zeros(target, dtype=torch.float64)
    sums.index_add_(0, torch.tensor(owners), chosen.double().cpu())
    values = iter(sums.tolist())
    return [[next(values) for _ in row.targets] for row in rows]


def _run(model: Any, rows: list[list[int]], cache: Any) -> Any:
    """The cache after rows of one length; None where the model's cache cannot be shared (its
    layers are not plain attention): then nothing is shared and the numbers are the same."""
    ids = torch.tensor(rows, device=model.device)
    last = torch.full((len(rows),), ids.shape[1] - 1, device=model.device)
    with _head_sees(model, torch.arange(len(rows), device=model.device), last):
        cache = model(input_ids=ids, past_key_values=cache, use_cache=True).past_key_values
    kinds = {type(layer) for layer in getattr(cache, "layers", [])}
    return cache if kinds and not kinds - {DynamicLayer, DynamicSlidingWindowLayer} else None


def _picked(cache: Any, places: Sequence[int]) -> Any:
    """The cache with one row for each of ``places``. A forward pass changes the layer objects, so
    they are copied; it concatenates keys and values, so those of a single row stay views."""
    if cache is None:
        return None
    layers = []
    for layer in cache.layers:
        twin = copy.copy(layer)
        if layer.keys is not None and layer.values is not None:
            twin.keys, twin.values = (_pick(t, places) for t in (layer.keys, layer.values))
        layers.append(twin)
    picked = copy.copy(cache)
    picked.layers = layers
    return picked


def _pick(tensor: torch.Tensor, places: Sequence[int]) -> torch.Tensor:
    if tensor.shape[0] == 1:
        return tensor.expand(len(places), -1, -1, -1)
    return tensor.index_select(0, torch.tensor(places, device=tensor.device))


def _tail_logits(
    model: Any, suffixes: Sequence[list[int]], tails: Sequence[int], cache: Any
) -> torch.Tensor:
    """(positions, vocabulary) logits at the last ``tails[i]`` positions of each suffix.

    Padding is on the right and needs no mask: no real position sees it.
    """
    width = max(len(suffix) for suffix in suffixes)
    padded = [suffix + [0] * (width - len(suffix)) for suffix in suffixes]
    rows = [row for row, tail in enumerate(tails) for _ in range(tail)]
    columns = [
        column
        for suffix, tail in zip(suffixes, tails, strict=True)
        for column in range(len(suffix) - tail, len(suffix))
    ]
    ids, at_row, at_column = (
        torch.tensor(values, device=model.device) for values in (padded, rows, columns)
    )
    with _head_sees(model, at_row, at_column):
        logits = model(input_ids=ids, past_key_values=cache, use_cache=cache is not None).logits
    if logits.shape[:2] != (1, len(rows)):  # the model does not call its head as a module
        return logits[at_row, at_column]
    return logits[0]


@contextmanager
def _head_sees(model: Any, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[None]:
    """Hand the head the given positions: (rows, width, d) becomes (1, positions, d)."""

    def select(_module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (arguments[0][rows, columns][None], *arguments[1:])

    head = model.get_output_embeddings()
    if head is None:
        raise UserError(
            f"{type(model).__name__}: has no output embeddings", "give a language model"
        )
    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()
