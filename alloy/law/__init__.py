"""The law of a ratio sweep: a loss as a function of the share, and what a budget asks of it.

    runs (share, tokens, loss) ─▶ forms + projection ─▶ fit ─▶ Law (curve, noise, draws)
    Law + budget ─▶ critical share, recommendation

forms.py         the curves of the literature, linear in all but one or two parameters
projection.py    fits many draws of the same runs at once, by variable projection on a grid
fit.py           chooses the form by leave-one-out error; noise level and bootstrap
critical.py      finds the share at which a law crosses a level
budget_share.py  finds the smallest share that keeps a budget, or what is missing to name one
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
