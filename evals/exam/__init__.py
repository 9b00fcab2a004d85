"""MMLU and exams in its format: items, prompts, scores, records.

    CSV | hub ─▶ mmlu_items: Exam ─▶ mmlu_prompts ─▶ mmlu_scorer ─▶ exam_run ─▶ exam_records

subjects.py      lists MMLU's 57 subjects and four categories
mmlu_items.py    reads an exam from CSV folders or from the hub's Parquet
mmlu_hub.py      fetches cais/mmlu at one commit, or reads what was fetched
mmlu_prompts.py  writes the letter and the cloze prompts as lm-eval does
mmlu_scorer.py   scores both forms without lm-eval, with the same numbers
exam_run.py      runs the exam subject by subject, written answers included
exam_records.py  writes a record for each item, and summarizes them
published.py     compares the measured score with a published one, or says why it cannot
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
