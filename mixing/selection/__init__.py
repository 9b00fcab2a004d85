"""Which spans of a built source may be trained on.

    SourceReader ─▶ duplicates, held-out, erased, subset, matches of eval items ─▶ Spans

subset.py         chooses a seeded part of what may be trained on
exclude.py        leaves out duplicates and held-out documents
decontaminate.py  finds eval items inside a source
matches.py        stores what was found, by source and eval set
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
