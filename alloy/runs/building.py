"""Build what a recipe needs into the store."""

import os
from collections.abc import Callable, Mapping

from alloy.planning import eval_hashes, eval_sets, open_tokenizer, search
from configs import Recipe
from mixing.building import SourceReport, build_corpus
from mixing.corpus import Corpus, open_corpus


def build_recipe(recipe: Recipe, show: Callable[[str], None]) -> list[SourceReport]:
    """Tokenize the sources that are not in the store yet, on all cores, and look for the items
    of the recipe's evals in them."""
    tokenizer = open_tokenizer(recipe)
    reports = build_corpus(recipe.data, tokenizer, cores(), show)
    search(recipe, {report.name: report.key for report in reports}, tokenizer, show)
    return reports


def open_built(recipe: Recipe, keys: Mapping[str, str]) -> Corpus:
    """What was built, with its exclusions. Raises UserError where they take too much."""
    return open_corpus(recipe.data, keys, eval_hashes(eval_sets(recipe)))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
