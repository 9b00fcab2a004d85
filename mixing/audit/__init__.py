"""What the shards say was trained on, and what was left out and why.

    PackedRows ─▶ packing_ledgers      Plan + shards ─▶ tally ─▶ receipts
    step ◀─▶ document: trace        kept documents ─▶ megatron

packing_ledgers.py  what became of the stored documents when they were packed
tally.py            every position of a phase, counted
receipts.py         what the shards say was trained: asked against realised
trace.py            documents of a step, steps of a document
megatron.py         kept documents to Megatron's .bin and .idx
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
