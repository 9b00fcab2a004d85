"""What a model knows: MMLU, in-domain F1, bits per byte, and statistics to compare models with.

    Hugging Face folder + recipe's evals + held-out documents
        ─▶ evaluate: exam, domain, tasks (scoring) ─▶ per-item records ─▶ summarize ─▶ summary.json
    records of two models ─▶ stats (paired) ─▶ report

records.py    hashes evaluations, writes records atomically, decides when one may be reused
parts.py      keeps the finished parts of an interrupted evaluation
scoring/      text to log-probabilities, answers and bits per byte
exam/         MMLU and exams in its format
domain/       labelled tasks of the domain
tasks/        lm-eval's tasks
stats/        tests, intervals, verdicts
summarize.py  computes every number of the summary from the records
evaluate.py   measures one model on everything that a recipe asks

stats, records, summarize and what they import need no torch, transformers or lm_eval, so that
reports can be rebuilt without them.
"""
