"""Many runs of one recipe that differ in their share.

    Recipe ─▶ arm ─▶ repetition ─▶ sharing ─▶ sweep ─▶ sweep.json      arms ─▶ merge_points

arm.py           lists the arms of a sweep and the recipe of each
repetition.py    makes arms repeat each source as often as the full run would
sharing.py       finds the first steps that arms have in common, to train them once
merge_points.py  makes models between the reference and the first arm
sweep.py         trains and measures the arms, and writes sweep.json
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
