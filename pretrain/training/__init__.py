"""The training loop and everything that it calls.

    position ─▶ schedule: rate ─▶ loop ◀─ objective ◀─ batches ◀─ steps ◀─ position
    loop ─▶ watch, saving        loop ─▶ milestones ─▶ heldout (documents), replay

loop.py        the training loop, top to bottom
schedule.py    learning rate as a pure function of position
steps.py       which rank computes which rows of a step; pure
batches.py     rows of arrays to the tensors of a forward pass
objective.py   summed cross-entropy, per source, with z-loss; whole or in chunks
replay.py      a stored batch, run again after loading
heldout.py     bits per byte on the live model, all ranks together
documents.py   held-out and retention text to measure on
milestones.py  when a run saves and measures, what a checkpoint says besides its tensors
saving.py      checkpoints of a run: gather, write, publish, retain
watch.py       a line for people, metrics.jsonl, TensorBoard
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
