"""The eval texts of a recipe, and where they stand in its sources.

recipe ─▶ EvalSet (plain texts) ─▶ matches in the store ─▶ exclusions at packing
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs import Evals, Recipe
from evals.domain import load_rows
from evals.exam import load_exam
from mixing.corpus import Removed
from mixing.selection import EvalSet, find_items, stored_items
from mixing.store import load_erasures, open_source
from mixing.tokens import Decoder, TokenizerFile


def eval_sets(recipe: Recipe) -> list[EvalSet]:
    """The texts of the evals that ``data.decontaminate`` names: question and choices, or prompt
    and label. Raises UserError where an eval cannot be read."""
    return [_eval_set(recipe.evals, name) for name in recipe.data.decontaminate]


def _eval_set(evals: Evals, name: str) -> EvalSet:
    task = next((task for task in evals.domain if task.name == name), None)
    if task is not None:
        return EvalSet(name, tuple(f"{row.prompt}\n{row.label}" for row in load_rows(task)))
    assert evals.mmlu is not None
    items = load_exam(evals.mmlu).items()
    return EvalSet(name, tuple("\n".join([item.question, *item.choices]) for item in items))


def eval_hashes(sets: Sequence[EvalSet]) -> dict[str, str]:
    return {wanted.name: wanted.content_hash for wanted in sets}


def search(
    recipe: Recipe,
    keys: Mapping[str, str],
    tokenizer: TokenizerFile,
    show: Callable[[str], None],
) -> None:
    """Look for the recipe's eval sets in every trained source in which nobody has yet."""
    store, sets = Path(recipe.data.store), eval_sets(recipe)
    decoder: Decoder | None = None
    for source in recipe.data.sources:
        key = keys[source.name]
        new = [s for s in sets if stored_items(store, key, s.content_hash) is None]
        if source.role == "retention" or not new:
            continue
        reader = open_source(store, key, source.name)
        names = ", ".join(s.name for s in new)
        show(f"{source.name}: looking for items of {names} in {reader.documents:,} documents")
        decoder = decoder or Decoder(tokenizer)
        erased = load_erasures(store).documents(reader)
        documents = np.setdiff1d(np.arange(reader.documents), erased)
        find_items(reader, documents, decoder, new, store)


def by_task(evals: Evals, removed: Sequence[Removed]) -> dict[str, dict[str, Any] | None]:
    """For each eval of the recipe its hash and what it took from all sources; None where the
    corpus was not decontaminated against it."""
    found: dict[str, dict[str, Any] | None] = dict.fromkeys(evals.names)
    for name in evals.names:
        own = [r for r in removed if r.eval == name]
        if own:
            found[name] = {
                "hash": own[0].hash,
                "documents_removed": sum(r.documents_removed for r in own),
                "passages_removed": sum(r.passages_removed for r in own),
                "tokens_removed": sum(r.tokens_removed for r in own),
            }
    return found
