"""Models named in a recipe: where they are, and what is known of them.

    name ─▶ hub: folder        name ─▶ catalog (open_models.yaml) ─▶ peak_rate

hub.py        finds the folder of a model that a recipe names
catalog.py    lists open models that publish their stages (open_models.yaml)
peak_rate.py  chooses the rate that a recipe leaves open, and says why
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
