"""What a model knows: MMLU, in-domain F1, bits per byte, and statistics to compare models with.

    Hugging Face folder + recipe's evals + held-out documents
        ─▶ evaluate: exam, domain, tasks (scoring) ─▶ per-item records ─▶ summarize ─▶ summary.json
    records of two models ─▶ stats (paired) ─▶ report

records.py    hashes, atomic records, and when an evaluation may be reused
parts.py      finished parts of an evaluation that was interrupted
scoring/      text to log-probabilities, answers and bits per byte
exam/         MMLU and exams in its format
domain/       labelled tasks of the domain
tasks/        lm-eval's tasks
stats/        tests, intervals, verdicts
summarize.py  records to every number of the summary
evaluate.py   all of it on one model

stats, records, summarize and what they import need no torch, transformers or lm_eval, so that
reports can be rebuilt without them.
"""
