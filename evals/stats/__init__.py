"""Tests, intervals and verdicts on paired answers; no torch.

    records of two models ─▶ stats, bootstrap, label_counts ─▶ interval, p, verdict       curves

stats.py         computes tests, intervals, clustered errors, detectable drops, verdicts
bootstrap.py     computes bootstrap limits of accuracies, F1 and bits per byte, paired or not
curves.py        computes precision-recall curves and what to review
label_counts.py  counts hits, right labels and predictions, of labels and of sets
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
