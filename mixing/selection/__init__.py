"""Which spans of a built source may be trained on.

    SourceReader ─▶ duplicates, held-out, erased, subset, matches of eval items ─▶ Spans

subset.py         a seeded part of what may be trained on
exclude.py        duplicates and held-out documents, as spans that may be trained on
decontaminate.py  where eval items stand in a source, as spans to leave out
matches.py        those places kept in the store, by source and eval set
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
