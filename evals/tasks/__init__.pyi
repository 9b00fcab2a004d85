from .lm_eval_tasks import lm_eval_scorer as lm_eval_scorer
from .lm_eval_tasks import run_task as run_task
from .local_tasks import letters_caveat as letters_caveat
from .local_tasks import require_ready as require_ready
from .task_scores import headline as headline
from .task_scores import summarize_task as summarize_task
