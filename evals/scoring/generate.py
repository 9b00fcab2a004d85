"""Greedy answers in batches: left padding with its own positions and mask, a KV cache, and a stop
at the first line break or the end of the text."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from configs import UserError
from evals.scoring.model_state import context_tokens, require_end_of_text, undisturbed


@dataclass(frozen=True)
class Answer:
    """What a model wrote after a prompt, up to the stop.

    ``truncated``: the prompt lost its start. ``finished``: it stopped by itself. ``probability``
    is that of all its ``tokens``, the stopping one included.
    """

    text: str
    truncated: bool
    finished: bool
    probability: float
    tokens: int


@dataclass
class _Writing:
    """One answer while it is written."""

    ids: list[int]
    text: str = ""
    done: bool = False
    logprob: float = 0.0
    tokens: int = 0

    def add(self, tokenizer: Any, token: int, logprob: float, end: int, stop_at_line: bool) -> None:
        if self.done:
            return
        self.logprob += logprob
        self.tokens += 1
        if token == end:
            self.done = True
            return
        self.ids.append(token)
        # A line break may be inside a token, and a character may take several tokens.
        self.text = tokenizer.decode(self.ids)
        if stop_at_line and "\n" in self.text:
            self.text, self.done = self.text.partition("\n")[0], True


def answer_all(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    max_new_tokens: int,
    batch_tokens: int,
    progress: Callable[[str], None],
    stop: Literal["line", "end"] = "line",
) -> list[Answer]:
    """Greedy answers in the order of the prompts. The same on every run; batches do not matter
    beyond floating-point noise. ``stop``: at the first line break, or at the end of the text only.

    ``batch_tokens`` bounds rows x (prompt + answer) of one batch. A prompt longer than the
    context less the answer keeps its end. Raises UserError where the answer alone fills the
    context.
    """
    room = context_tokens(model) - max_new_tokens
    if room < 1:
        raise UserError(
            f"max_new_tokens {max_new_tokens} leaves no room for a prompt in a context of "
            f"{context_tokens(model)}",
            f"set it to at most {context_tokens(model) // 2}",
        )
    encoded = [tokenizer.encode(prompt) for prompt in prompts]
    empty = next((row for row, ids in enumerate(encoded) if not ids), None)
    if empty is not None:
        raise UserError(f"prompt {empty} has no tokens", "remove empty prompts")
    order = sorted(range(len(prompts)), key=lambda row: -len(encoded[row]))
    answers: dict[int, Answer] = {}
    with undisturbed(model):
        while order:
            longest = min(len(encoded[order[0]]), room) + max_new_tokens
            batch, order = _split(order, max(1, batch_tokens // longest))
            ids = [encoded[row][-room:] for row in batch]
            written = _generate(model, tokenizer, ids, max_new_tokens, stop == "line")
            for row, one in zip(batch, written, strict=True):
                cut, probability = len(encoded[row]) > room, math.exp(one.logprob)
                answers[row] = Answer(one.text, cut, one.done, probability, one.tokens)
            progress(f"answers: {len(answers)} of {len(prompts)}")
    return [answers[row] for row in range(len(prompts))]


def _split(rows: list[int], size: int) -> tuple[list[int], list[int]]:
    return rows[:size], rows[size:]


def _generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    stop_at_line: bool,
) -> list[_Writing]:
    """The answers to one batch; rows that are done are computed but ignored."""
    end = require_end_of_text(tokenizer, "generation")
    ids, mask = _left_padded(prompts, end, model.device)
    accepted = inspect.signature(model.forward).parameters
    written = [_Writing([]) for _ in prompts]
    cache = None
    for _ in range(max_new_tokens):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        options = {"position_ids": positions, "logits_to_keep": 1}
        output = model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **{name: value for name, value in options.items() if name in accepted},
        )
        cache = output.past_key_values
        logprobs, chosen = output.logits[:, -1].float().log_softmax(-1).max(-1)  # (rows,)
        for one, token, logprob in zip(written, chosen.tolist(), logprobs.tolist(), strict=True):
            one.add(tokenizer, token, logprob, end, stop_at_line)
        if all(one.done for one in written):
            break
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
    return written


def _left_padded(
    prompts: Sequence[list[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, width) ids that all end in the last column, and the mask of real ones."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad, device=device)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt, device=device)
        mask[row, width - len(prompt) :] = 1
    return ids, mask
