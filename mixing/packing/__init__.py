"""Spans of one source to rows of seq_len tokens.

    Spans ─▶ pack (best_fit) ─▶ PackedRows ─▶ packed_store

best_fit.py      packs by best-fit-decreasing, all pieces of one length at once
pack.py          packs spans into rows of seq_len tokens
packed_store.py  caches packed rows in the store, keyed by what they were packed from
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
