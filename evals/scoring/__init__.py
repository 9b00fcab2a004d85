"""Text to log-probabilities, answers and bits per byte, by a model in memory.

    texts ─▶ encoding ─▶ batching ─▶ continuations | generate | bpb

encoding.py       texts to ids, cut between context and continuation where lm-eval cuts
batching.py       which rows share a forward pass
continuations.py  log-probabilities of options: shared tokens once, scored positions only
generate.py       greedy answers in batches, up to the first line break or the end
model_state.py    what a scorer must leave as it was; length of the context; loading a folder
bpb.py            bits per byte, a record a document
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
