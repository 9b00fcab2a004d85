"""Built sources on disk: content-addressed folders of shards.

    encoded blocks ─▶ shards + manifest ─▶ SourceReader ─▶ ids, offsets, masks, ids of documents

shards.py    writes the files of a built source, hashing and syncing them on the way
store.py     names sources by content, opens and checks them
erasures.py  keeps the list of erased documents, as hashes
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
