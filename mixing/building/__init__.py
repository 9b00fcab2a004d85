"""One source or all of a recipe, from files to the store, and documents out of it again.

    files ─▶ build: ingest ─▶ store        ids ─▶ erasing: wipe ─▶ store without them

ingest.py   reads, encodes and writes the files of a source, in order, on all cores
build.py    builds one source, or all sources of a recipe
wipe.py     removes erased documents from the files of a built source
erasing.py  removes documents, given by id, from every source of a store
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
