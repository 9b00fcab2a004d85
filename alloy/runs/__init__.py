"""One recipe after its plan: built, trained, extended, measured, merged.

    Recipe ─▶ building ─▶ training (extending, adopting) ─▶ evaluation, stages     models ─▶ merging

building.py    the sources of a recipe into the store
training.py    a recipe's run folder, from the plan to the exported model
extending.py   whether a recipe may go on in a run folder, perhaps with another future
adopting.py    a run that begins with the checkpoint of another
evaluation.py  a model's measurements: exam, domain tasks, bits-per-byte
stages.py      a run measured at the ends of its stages
merging.py     models from models: between two, a residual added, a mean of checkpoints
erasing.py     documents by id out of the store of a recipe
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
