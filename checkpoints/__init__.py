"""Checkpoints that are either whole or not there, in a form that no world size is baked into.

    named fp32 weights + Adam moments ─▶ tensors ─▶ folder (staged, hashed, renamed)
    folder ─▶ verified Checkpoint ─▶ training state | Hugging Face folder
    Hugging Face folder ─▶ base_files (looked at) ─▶ pretrained (loaded)

folder.py       stages, hashes, publishes by one rename; verifies; finds the last good
tensors.py      divides parameters among ranks; writes and reads them by name
retain.py       decides which checkpoints are kept
claims.py       notes which checkpoints branches start from, until they have their own
merge.py        blends weights: between two models, with a residual, or the mean of several
base_files.py   looks at a Hugging Face folder and refuses what cannot be loaded; no torch
model_types.py  lists the model types that transformers has as causal LMs, without importing it
pretrained.py   loads weights from a Hugging Face folder; the only place that does
export.py       writes a Hugging Face folder and proves it by reloading
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
