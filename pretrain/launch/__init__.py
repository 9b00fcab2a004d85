"""Processes and machines of a run, how they are started and how they end.

    Job ─▶ launchers: command lines ─▶ launch ─▶ ranks (machines: over ssh) ─▶ verdict

launch.py     starts the ranks through the deepspeed launcher and passes signals on
launchers.py  the command lines of launchers: deepspeed, torchrun, Slurm; hostfiles
machines.py   the machines of a hostfile over ssh: do they answer, signals to their ranks
verdict.py    how a start ended: complete, stopped, which rank hangs, the first error
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
