"""The recipe: one YAML file that says all of a run.

    recipe.yaml + --set overrides ─▶ load ─▶ Recipe (frozen sections) ─▶ every other package

errors.py   the exceptions that end a command with one line and a hint
units.py    "500M" -> 500000000 tokens, "25%" -> 0.25
section.py  what all sections share
evals.py    the section of what is measured
sweep.py    the section of a ratio sweep
recipe.py   the other sections and their checks
reference.py  docs/recipe.md, from the sections
load.py     YAML and --set overrides to a Recipe; unknown keys name the nearest one
"""

from configs.errors import AlloyError, CheckFailed, UserError
from configs.evals import DomainTask, Evals, MmluTask
from configs.load import load_recipe
from configs.recipe import (
    LR_PHASES,
    Base,
    Budget,
    Data,
    Mix,
    PhaseMix,
    Recipe,
    Schedule,
    Source,
    Train,
)
from configs.sweep import Sweep

__all__ = [
    "LR_PHASES",
    "AlloyError",
    "Base",
    "Budget",
    "CheckFailed",
    "Data",
    "DomainTask",
    "Evals",
    "Mix",
    "MmluTask",
    "PhaseMix",
    "Recipe",
    "Schedule",
    "Source",
    "Sweep",
    "Train",
    "UserError",
    "load_recipe",
]
