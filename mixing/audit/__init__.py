"""What the shards say was trained on, and what was left out and why.

    PackedRows ─▶ packing_ledgers      Plan + shards ─▶ tally ─▶ receipts
    step ◀─▶ document: trace        kept documents ─▶ megatron

packing_ledgers.py  accounts for every stored document when it is packed
tally.py            counts every position of a phase
receipts.py         compares what the shards hold with what was asked
trace.py            finds the documents of a step, and the steps of a document
megatron.py         exports kept documents as Megatron's .bin and .idx
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
