"""Records to the report: numbers, verdicts, law, recommendation, caveats.

    Records ─▶ grouping ─▶ scores, compare ─▶ budgets, laws ─▶ recommendation, caveats
    all of it ─▶ join ─▶ report ─▶ gating

compare.py         an arm against the base, item by item
budgets.py         budgets to verdicts, arms to a recommendation, saturation
caveats.py         what follows from the data and must be read first
recommendation.py  the general share that a report recommends, and why
scores.py          one model's numbers from its own records
laws.py            a law for each loss of a sweep
cost.py            tokens, time and devices of a run
join.py            records to the report; every number of every view is looked up in it
grouping.py        entries of a sweep by what they stand for
gating.py          whether a report passes its budgets
schema.py          the shape of report.json, which is published
schema_tasks.py    the part of that shape that single tasks have
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
