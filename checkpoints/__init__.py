"""Checkpoints that are either whole or not there, in a form that no world size is baked into.

    named fp32 weights + Adam moments ─▶ tensors ─▶ folder (staged, hashed, renamed)
    folder ─▶ verified Checkpoint ─▶ training state | Hugging Face folder
    Hugging Face folder ─▶ base_files (looked at) ─▶ pretrained (loaded)

folder.py   staging folder, manifest with sizes and sha256, one rename; verification; last good one
tensors.py  which rank writes which parameter, buffers, and reading them back by name
retain.py   which checkpoints a policy keeps
claims.py   which of them branches that have saved nothing yet start from
merge.py    weights between two models, a residual added, the mean of several
base_files.py   the files of a Hugging Face folder: what can be loaded, without torch
model_types.py  which model_types are causal LMs of transformers, without importing it
pretrained.py   weights from a Hugging Face folder, the only place that loads them
export.py   Hugging Face folder from a checkpoint's fp32 weights, proved by reloading it
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
