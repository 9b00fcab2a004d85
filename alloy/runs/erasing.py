"""Erases documents, given by id, from the store of a recipe."""

from collections.abc import Callable, Sequence
from pathlib import Path

from alloy.planning import open_tokenizer
from configs import Recipe, UserError
from mixing.building import ErasedFrom, erase, find_source
from mixing.store import open_source


def erase_documents(
    recipe: Recipe, ids: Sequence[str], show: Callable[[str], None]
) -> list[ErasedFrom]:
    """Erase from the recipe's built sources, and every copy of the texts from its store.

    Raises UserError where a source is not built, as its documents could not be known, and where
    an id is in none.
    """
    tokenizer, store = open_tokenizer(recipe), Path(recipe.data.store)
    keys = {s.name: find_source(s, recipe.data, tokenizer) for s in recipe.data.sources}
    missing = sorted(name for name, key in keys.items() if key is None)
    if missing:
        raise UserError(f"not built yet: {', '.join(missing)}", "run `alloy build` first")
    sources = [(s, open_source(store, str(keys[s.name]), s.name)) for s in recipe.data.sources]
    return erase(store, sources, ids, show)
