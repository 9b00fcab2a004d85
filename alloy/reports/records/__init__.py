"""Files of a sweep to frozen records.

    sweep.json, evals/*, arms/* ─▶ records (inputs, task_inputs) ─▶ Records

inputs.py       defines what is read of evaluations, receipts, lineage and metrics
task_inputs.py  defines what is read of single tasks
records.py      reads the files; what is missing or damaged becomes a noted problem
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
