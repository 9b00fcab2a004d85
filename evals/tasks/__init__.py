"""Tasks of lm-eval, from the hub or from local files.

    name ─▶ lm_eval_tasks (local_tasks) ─▶ records ─▶ task_scores

lm_eval_tasks.py  runs the exam and named tasks through lm-eval; the only file that imports it
local_tasks.py    reads lm-eval's usual tasks from local files
task_scores.py    computes the headline of a task from its records
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
