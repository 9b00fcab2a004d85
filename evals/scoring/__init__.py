"""Text to log-probabilities, answers and bits per byte, by a model in memory.

    texts ─▶ encoding ─▶ batching ─▶ continuations | generate | bpb

encoding.py       encodes texts, cut between context and continuation where lm-eval cuts
batching.py       chooses which rows share a forward pass
continuations.py  scores options: shared tokens once, scored positions only
generate.py       writes greedy answers in batches, up to a line break or the end
model_state.py    loads a folder; leaves a live model as it was
bpb.py            measures bits per byte, a record for each document
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
