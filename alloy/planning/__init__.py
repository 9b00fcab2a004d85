"""A recipe to its plan, before anything is built or trained.

    Recipe ─▶ tokenizing, starting ─▶ planning (estimate) ─▶ Planned ─▶ start_matrix, resources

decontamination.py  the recipe's eval texts, looked for in its sources
estimate.py         sizes of sources that are not built yet, from a sample
resources.py        what a run takes of disk and memory, from its plan and its base
planning.py         recipe to plan, exact where the sources are built, estimated where not
start_matrix.py     what a start keeps and what begins anew, in words
starting.py         the base and the rate of a recipe made definite; what is carried on
tokenizing.py       which tokenizer a recipe means, and whether it is the base's
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
