"""The recipe: one YAML file that says all of a run.

    recipe.yaml + --set overrides ─▶ load ─▶ Recipe (frozen sections) ─▶ every other package

errors.py     defines the exceptions that end a command with one line and a hint
stops.py      names the signals that stop the work, and what they raise
units.py      reads "500M" as 500000000 tokens and "25%" as 0.25
section.py    is the base of all sections
evals.py      what is measured
sweep.py      a sweep over ratios
base.py       the checkpoint that training starts from
data.py       sources, and how they become rows
mix.py        how sources share the training
schedule.py   length and learning rate
train.py      how steps are computed
recipe.py     all sections together, and what must fit between them
reference.py  writes docs/recipe.md from the sections
load.py       reads YAML and --set overrides; an unknown key names the nearest one
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
