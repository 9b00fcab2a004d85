"""Models named in a recipe: where they are, and what is known of them.

    name ─▶ hub: folder        name ─▶ catalog (open_models.yaml) ─▶ peak_rate

hub.py        a model named in a recipe to a folder on this machine
catalog.py    open models that publish their stages, from open_models.yaml
peak_rate.py  the rate that a recipe leaves open, with the reason
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
