"""Numbers of the report to charts, and charts to SVG.

    report ─▶ all_figures, share_figures, task_figures ─▶ Chart ─▶ charts (axis, labels) ─▶ SVG

all_figures.py    the report's numbers to charts
task_figures.py   precision over recall of the domain's answers
share_figures.py  charts over the general share
charts.py         a chart to SVG text
axis.py           scales and ticks
labels.py         direct labels without overlaps
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
