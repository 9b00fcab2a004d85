"""Processes and machines of a run, how they are started and how they end.

    Job ─▶ launchers: command lines ─▶ launch ─▶ ranks (machines: over ssh) ─▶ verdict

launch.py     starts the ranks and passes signals on
launchers.py  writes command lines for deepspeed, torchrun and Slurm; reads hostfiles
machines.py   reaches the machines of a hostfile over ssh
verdict.py    tells how a start ended: complete, stopped, failed, or which rank hangs
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
