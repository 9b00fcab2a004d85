"""Labelled tasks of the domain: rows to answers to F1.

    JSONL ─▶ domain_items ─▶ domain_run (generate, likelihood) ─▶ domain_records ─▶ domain_f1

domain_items.py    labelled JSONL of the domain to rows; prompts from a template
domain_run.py      a domain task on a model
domain_records.py  answers to one record a row
domain_f1.py       records to F1, exact match, format-free accuracy, invalid rate
labels.py          what a model wrote to the labels that it means
likelihood.py      the probability of every label after a prompt
extractive.py      exact and quasi-exact match, token F1, ROUGE of free answers
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
