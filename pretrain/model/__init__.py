"""A base checkpoint as a module, and what its architecture allows and costs.

    Base ─▶ architecture ─▶ model ─▶ attention      config ─▶ positions, flops, memory

architecture.py  the config of random weights, with no key that its class does not know
model.py         a Hugging Face causal LM from a folder, the hub, random weights or a checkpoint
attention.py     which implementation of attention, and documents kept apart
positions.py     whether rows are within a model's positions; pure
flops.py         what the model needs against what the device could do
memory.py        what weights, gradients and AdamW take of a rank's memory; pure
transfer.py      arrays to a device, without waiting for it
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
