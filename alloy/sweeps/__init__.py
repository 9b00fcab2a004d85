"""Many runs of one recipe that differ in their share.

    Recipe ─▶ arm ─▶ repetition ─▶ sharing ─▶ sweep ─▶ sweep.json      arms ─▶ merge_points

arm.py           which runs a sweep is made of, and the recipe of each
repetition.py    arms that repeat each source as often as the full run
sharing.py       which first steps arms have in common, so that each is trained once
merge_points.py  models between a sweep's reference and its first arm
sweep.py         the runs of a sweep and the record that the report reads
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
