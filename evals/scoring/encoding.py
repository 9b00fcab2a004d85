"""Encodes texts, cut between context and continuation exactly where lm-eval cuts."""

from collections.abc import Sequence
from typing import Any

from configs import UserError


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids as lm-eval encodes them: the tokenizer's own special tokens, unless the text starts
    with the one that would be put before it."""
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    starts = tokenizer.decode(first)
    bare = [text.startswith(starts) for text in texts]
    ids: list[list[int]] = [[] for _ in texts]
    for special in (True, False):
        rows = [row for row, is_bare in enumerate(bare) if is_bare != special]
        if rows:
            found = tokenizer([texts[row] for row in rows], add_special_tokens=special)
            for row, encoded in zip(rows, found["input_ids"], strict=True):
                ids[row] = encoded
    return ids


def encode_options(
    tokenizer: Any, contexts: Sequence[str], options: Sequence[Sequence[str]]
) -> tuple[list[list[int]], list[list[list[int]]]]:
    """(ids of each context, ids of each of its options), as lm-eval's loglikelihood has them.

    The whole is encoded and the option is what follows as many tokens as the context has alone;
    spaces at the end of a context belong to the option. Raises UserError where an option has no
    token of its own.
    """
    bare = [context.rstrip() for context in contexts]
    wholes = [
        context + option
        for context, several in zip(contexts, options, strict=True)
        for option in several
    ]
    context_ids, whole_ids = encode(tokenizer, bare), iter(encode(tokenizer, wholes))
    option_ids = []
    for context, ids, several in zip(contexts, context_ids, options, strict=True):
        tails = [next(whole_ids)[len(ids) :] for _ in several]
        empty = next((o for o, tail in zip(several, tails, strict=True) if not tail), None)
        if empty is not None:
            raise UserError(
                f"'{empty}' has no token of its own after '...{context[-20:]}'",
                "end the prompt before the answer begins",
            )
        option_ids.append(tails)
    return context_ids, option_ids
