"""A recipe to its plan, before anything is built or trained.

    Recipe ─▶ tokenizing, starting ─▶ planning (estimate) ─▶ Planned ─▶ start_matrix, resources

decontamination.py  collects the texts of the recipe's evals and searches the sources for them
estimate.py         estimates the size of sources that are not built yet, from a sample
resources.py        computes disk and memory of a run from its plan and its base
planning.py         plans a recipe: exact where the sources are built, else estimated
start_matrix.py     says what a start keeps and what begins anew; refuses bad starts
starting.py         resolves the base and the rate of a recipe, and what is carried on from a parent
tokenizing.py       finds the tokenizer of a recipe and checks it against the base's
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
