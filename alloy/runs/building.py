"""Builds what a recipe needs into the store."""

import os
import sys
from collections.abc import Callable, Mapping

from alloy.planning import eval_hashes, eval_sets, open_tokenizer, search
from configs import Recipe, UserError
from mixing.building import SourceReport, build_corpus
from mixing.corpus import Corpus, open_corpus


def build_recipe(recipe: Recipe, show: Callable[[str], None]) -> list[SourceReport]:
    """Tokenize the sources that are not in the store yet, on all cores, and look for the items
    of the recipe's evals in them. Raises UserError for a script without a main guard."""
    _refuse_unguarded_script()
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


def _refuse_unguarded_script() -> None:
    """A worker process runs the script of its parent again before it starts. A script that builds
    there would wait for the lock that its own parent holds."""
    again = sys.modules.get("__mp_main__")
    if again is not None and again is not sys.modules["__main__"]:
        raise UserError(
            "a worker process runs this script again, and the script builds at its top level",
            'call Alloy below `if __name__ == "__main__":`',
        )
