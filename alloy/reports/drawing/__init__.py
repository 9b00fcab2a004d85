"""Numbers of the report to charts, and charts to SVG.

    report ─▶ all_figures, share_figures, task_figures ─▶ Chart ─▶ charts (axis, labels) ─▶ SVG

all_figures.py    turns the report's numbers into charts
task_figures.py   draws precision over recall of the domain's answers
share_figures.py  draws charts over the general share
charts.py         writes a chart as SVG
axis.py           chooses scales and ticks
labels.py         places direct labels without overlaps
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
