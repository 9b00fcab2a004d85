"""One process of a run: from its job to the end of its training.

    worker: signals, exit codes ─▶ assembly ─▶ prepare ─▶ the loop

worker.py      is the entry point of a rank: signals, errors, exit codes
assembly.py    puts the parts of a job together on a rank, trains, exports
prepare.py     loads checkpoint, model, attention and engine, and refuses what does not fit
one_folder.py  checks that all ranks see the same run folder
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
