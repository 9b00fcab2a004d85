"""One process of a run: from its job to the end of its training.

    worker: signals, exit codes ─▶ assembly ─▶ prepare ─▶ the loop

worker.py      entry point of one rank: signals, errors, exit codes
assembly.py    the parts of a job on one rank put together, trained, exported
prepare.py     checkpoint, model, attention and engine of a rank, and what it refuses
one_folder.py  whether all ranks see the folder that rank 0 writes to
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
