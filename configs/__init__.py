"""The recipe: one YAML file that says all of a run.

    recipe.yaml + --set overrides ─▶ load ─▶ Recipe (frozen sections) ─▶ every other package

errors.py   the exceptions that end a command with one line and a hint
units.py    "500M" -> 500000000 tokens, "25%" -> 0.25
section.py  what all sections share
evals.py    the section of what is measured
sweep.py    the section of a ratio sweep
base.py     the section of the checkpoint that training starts from
data.py     the sections of sources, and of how they become rows
mix.py      the sections of how sources share the training
schedule.py  the section of length and learning rate
train.py    the section of how steps are computed
recipe.py   all sections together, and what must fit between them
reference.py  docs/recipe.md, from the sections
load.py     YAML and --set overrides to a Recipe; unknown keys name the nearest one
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
