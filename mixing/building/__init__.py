"""One source or all of a recipe, from files to the store, and documents out of it again.

    files ─▶ build: ingest ─▶ store        ids ─▶ erasing: wipe ─▶ store without them

ingest.py   the files of a source through the processes into a writer, in order
build.py    one source or all of a recipe, from files to the store
wipe.py     erased documents out of the files of a built source
erasing.py  documents by id out of all of a store
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
