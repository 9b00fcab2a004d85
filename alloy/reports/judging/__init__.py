"""Records to the report: numbers, verdicts, law, recommendation, caveats.

    Records ─▶ grouping ─▶ scores, compare ─▶ budgets, laws ─▶ recommendation, caveats
    all of it ─▶ join ─▶ report ─▶ gating

compare.py         compares an arm with the base, item by item
budgets.py         judges budgets: kept, broken or inconclusive; saturation
caveats.py         collects what must be read first
recommendation.py  recommends a general share, or says what is missing
scores.py          computes one model's numbers from its own records
laws.py            fits a law to each loss of a sweep
cost.py            adds up tokens, time and money of runs
join.py            joins records into the report
grouping.py        groups the folders that may be compared
gating.py          answers yes or no for one arm, for scripts
schema.py          defines report.json, which is published
schema_tasks.py    defines its parts about single tasks
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
