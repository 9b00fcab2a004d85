"""The verbs as functions, with results that are frozen and typed; ``import alloy`` gives them.

    Recipe | folder ─▶ verb ─▶ result: attributes, .table() for people, .to_json(), .save(), .load()

result.py       what all results have in common
text_tables.py  columns of text, and the lines that several results share
recipes.py      load: a recipe file to a Recipe
plans.py        plan: what a recipe will do, without doing it
plan_result.py  what it answers
builds.py       build: the sources of a recipe into the store
trainings.py    train: a recipe to its exported model, or to what a launcher starts
evaluations.py  evaluate: models on the recipe's exam, tasks and held-out text
ratios.py       sweep: an arm for each general share, and the share that follows
reporting.py    report: the records of sweeps to one page, JSON and Markdown
exports.py      export and merge: Hugging Face folders from checkpoints and models
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
