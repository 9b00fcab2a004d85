"""Labelled tasks of the domain: rows to answers to F1.

    JSONL ─▶ domain_items ─▶ domain_run (generate, likelihood) ─▶ domain_records ─▶ domain_f1

domain_items.py    reads labelled rows and writes prompts from a template
domain_run.py      runs a domain task on a model
domain_records.py  scores each answer: one record a row
domain_f1.py       computes F1, exact match, format-free accuracy and invalid rate from records
labels.py          finds the labels in what a model wrote
likelihood.py      scores every label after a prompt
extractive.py      scores free answers: exact match, token F1, ROUGE
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
