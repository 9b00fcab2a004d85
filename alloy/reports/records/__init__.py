"""Files of a sweep to frozen records.

    sweep.json, evals/*, arms/* ─▶ records (inputs, task_inputs) ─▶ Records

inputs.py       the shapes of those files
task_inputs.py  the shapes of single tasks in those files, and what all are made of
records.py      files to frozen records; what is missing or damaged becomes a noted problem
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
