"""Build what a recipe needs into the store."""

import os
from collections.abc import Callable

from alloy.tokenizing import open_tokenizer
from configs import Recipe
from mixing.build import SourceReport, build_corpus
from mixing.corpus import open_corpus
from mixing.packing_ledger import PackingLedger


def build_recipe(recipe: Recipe, show: Callable[[str], None]) -> list[SourceReport]:
    """Tokenize the sources that are not in the store yet, on all cores."""
    tokenizer = open_tokenizer(recipe.base, recipe.data)
    return build_corpus(recipe.data, tokenizer, cores(), show)


def packing_ledgers(recipe: Recipe, reports: list[SourceReport]) -> dict[str, PackingLedger]:
    """What becomes of conversations when they are packed; empty where all sources are plain text,
    of which packing loses nothing."""
    if all(source.format == "text" for source in recipe.data.sources):
        return {}
    return open_corpus(recipe.data, {r.name: r.key for r in reports}).ledgers


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
