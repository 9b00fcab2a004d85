"""Spans of one source to rows of seq_len tokens.

    Spans ─▶ pack (best_fit) ─▶ PackedRows ─▶ packed_store

best_fit.py      best-fit-decreasing, all pieces of one length at once
pack.py          spans to rows of seq_len
packed_store.py  those rows kept in the store, by what they were packed from
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
