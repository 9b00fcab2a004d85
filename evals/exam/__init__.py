"""MMLU and exams in its format: items, prompts, scores, records.

    CSV | hub ─▶ mmlu_items: Exam ─▶ mmlu_prompts ─▶ mmlu_scorer ─▶ exam_run ─▶ exam_records

subjects.py      MMLU's 57 subjects and their four categories
mmlu_items.py    CSV folders in either published layout, or the hub's Parquet, to an Exam
mmlu_hub.py      cais/mmlu's files from the hub, at one commit, or from where they were kept
mmlu_prompts.py  the templates of the letter and the cloze form, as lm-eval has them
mmlu_scorer.py   both forms without lm-eval, the same numbers
exam_run.py      the exam on a model, subject by subject, the written answers too
exam_records.py  scores to one record an item, records to the exam's summary
published.py     the measured exam beside published scores, or why they are not comparable
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
