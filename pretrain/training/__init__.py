"""The training loop and everything that it calls.

    position ─▶ schedule: rate ─▶ loop ◀─ objective ◀─ batches ◀─ steps ◀─ position
    loop ─▶ watch, saving        loop ─▶ milestones ─▶ heldout (documents), replay

loop.py        trains: the loop, top to bottom
schedule.py    computes the learning rate from the position; pure
steps.py       assigns the rows of a step to ranks and micro batches; pure
batches.py     turns rows into the tensors of a forward pass
objective.py   computes summed cross-entropy, per source, with z-loss, whole or in chunks
replay.py      runs a stored batch again after loading and compares its loss
heldout.py     measures bits per byte of the live model, on all ranks together
documents.py   collects held-out and retention text to measure on
milestones.py  decides when to save and measure, and what a checkpoint says of its run
saving.py      gathers, writes, publishes and retires checkpoints
watch.py       reports progress: a line for people, metrics.jsonl, TensorBoard
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
