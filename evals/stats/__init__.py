"""Tests, intervals and verdicts on paired answers; no torch.

    records of two models ─▶ stats, bootstrap, label_counts ─▶ interval, p, verdict       curves

stats.py         McNemar, intervals, clustered errors, Holm, detectable drop, verdicts
bootstrap.py     bootstrap limits of accuracies, F1 and bits per byte, paired or not
curves.py        precision-recall curve, recall at a precision, what to review
label_counts.py  hits, right labels and predictions of single labels and of sets
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
