"""One recipe after its plan: built, trained, extended, measured, merged.

    Recipe ─▶ building ─▶ training (extending, adopting) ─▶ evaluation, stages     models ─▶ merging

building.py    builds the sources of a recipe
training.py    trains a recipe: from its plan to the exported model
extending.py   decides whether a recipe may go on in a run folder, perhaps with another future
adopting.py    begins a run with the checkpoint of another
evaluation.py  measures a model on the recipe's evals
stages.py      measures a run at the ends of its stages
merging.py     makes models from models: between two, with a residual, or a mean
erasing.py     erases documents from the store of a recipe
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
