"""The command line, and the composition of the packages that it calls.

    recipe ─▶ planning ─▶ building ─▶ training ─▶ evaluation ─▶ sweep ─▶ report

cli.py         the commands' names; errors to one line and an exit code
commands/      one thin file a verb: load, call, print
tokenizing.py  which tokenizer a recipe means, and whether it is the base's
hub.py         a model named in a recipe to a folder on this machine
planning.py    recipe to plan, exact where the sources are built, estimated where not
open_models.py open models that publish their stages, from open_models.yaml
peak_rate.py   the rate that a recipe leaves open, with the reason
start_matrix.py  what a start keeps and what begins anew, in words
starting.py    the base and the rate of a recipe made definite; what is carried on
extending.py   whether a recipe may go on in a run folder, perhaps with another future
merging.py     models from models: between two, a residual added, a mean of checkpoints
erasing.py     documents by id out of the store of a recipe
footprint.py   what a run takes of disk and memory, from its plan and its base
estimate.py    sizes of sources that are not built yet, from a sample
training.py    a recipe's run folder, from the plan to the exported model
building.py    the sources of a recipe into the store
decontamination.py  the recipe's eval texts, looked for in its sources
evaluation.py  a model's measurements: exam, domain tasks, bits-per-byte
stages.py      a run measured at the ends of its stages
arms.py        which runs a sweep is made of, and the recipe of each
repetition.py  arms that repeat each source as often as the full run
sharing.py     which first steps arms have in common, so that each is trained once
adopting.py    a run that begins with the checkpoint of another
merge_points.py  models between a sweep's reference and its first arm
sweep.py       the runs of a sweep and the record that the report reads
demo.py        the embedded world through all of it
world/         the embedded world
law/           a loss as a function of the share, and the share that a budget asks for
report/        JSON records to one HTML page, JSON and Markdown
"""

__version__ = "0.1.0"
