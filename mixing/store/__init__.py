"""Built sources on disk: content-addressed folders of shards.

    encoded blocks ─▶ shards + manifest ─▶ SourceReader ─▶ ids, offsets, masks, ids of documents

shards.py    the files of a built source, hashed and synced while they are written
store.py     content-addressed folders: keys, opening, checking
erasures.py  the list of erased documents, as hashes
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
