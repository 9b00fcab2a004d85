"""A base checkpoint as a module, and what its architecture allows and costs.

    Base ─▶ architecture ─▶ model ─▶ attention      config ─▶ positions, flops, memory

architecture.py  makes the config of random weights; refuses keys that its class does not know
model.py         loads a causal LM from a folder, the hub, a checkpoint, or at random
attention.py     chooses an implementation of attention and keeps documents apart
positions.py     checks that rows fit the positions of a model; pure
flops.py         computes FLOPs a token and the share of the device's peak (MFU)
memory.py        computes what weights, gradients and AdamW take of a rank's memory; pure
transfer.py      copies arrays to a device without waiting for it
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
