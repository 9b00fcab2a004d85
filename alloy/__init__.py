"""The verbs as functions, the command line around them, and the composition of the packages.

    recipe ─▶ planning ─▶ runs: built, trained, measured ─▶ sweeps ─▶ report

    >>> import alloy
    >>> recipe = alloy.load("recipe.yaml")
    >>> print(alloy.plan(recipe).table())

verbs/           load, plan, build, train, evaluate, sweep, report, merge, export; their results
cli.py           the commands' names; errors to one line and an exit code
commands/        one thin file a verb: read the options, call, print
models/          models named in a recipe: where they are, and what is known of them
planning/        a recipe to its plan
runs/            one recipe: built, trained, extended, measured, merged
sweeps/          many runs that differ in their share
law/             a loss as a function of the share, and the share that a budget asks for
sweep_record.py  what a sweep writes and a report reads
reports/         JSON records to one HTML page, JSON and Markdown
world/           the embedded world of the demo
demo.py          the embedded world through all of it
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
