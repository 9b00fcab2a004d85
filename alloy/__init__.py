"""The command line, and the composition of the packages that it calls.

    recipe ─▶ planning ─▶ runs: built, trained, measured ─▶ sweeps ─▶ report

cli.py      the commands' names; errors to one line and an exit code
commands/   one thin file a verb: load, call, print
models/     models named in a recipe: where they are, and what is known of them
planning/   a recipe to its plan
runs/       one recipe: built, trained, extended, measured, merged
sweeps/     many runs that differ in their share
law/        a loss as a function of the share, and the share that a budget asks for
reports/    JSON records to one HTML page, JSON and Markdown
world/      the embedded world of the demo
demo.py     the embedded world through all of it
"""

__version__ = "0.1.0"
