"""What a model knows: MMLU, in-domain F1, bits-per-byte, and statistics to compare models with.

    Hugging Face folder + recipe's evals + held-out documents
        ─▶ evaluate ─▶ per-item records (JSONL) ─▶ summary.json ─▶ stats (paired) ─▶ report

    mmlu_items ─▶ Exam ─▶ mmlu_scorer | lm_eval_tasks ─▶ ItemScore ─▶ exam_records
    domain_items ─▶ DomainRow ─▶ generate, likelihood ─▶ domain_records ─▶ domain_f1
    EvalDocument ─▶ bpb

subjects.py       MMLU's 57 subjects and their four categories
mmlu_items.py     CSV folders in either published layout, or the hub's Parquet, to an Exam
mmlu_hub.py       cais/mmlu's files from the hub, at one commit, or from where they were kept
mmlu_prompts.py   the templates of the letter and the cloze form, as lm-eval has them
encode.py         texts to ids, cut between context and continuation where lm-eval cuts
batching.py       which rows share a forward pass
continuations.py  log-probabilities of options: shared tokens once, scored positions only
mmlu_scorer.py    both forms without lm-eval, the same numbers
lm_eval_tasks.py  the exam and named tasks through lm-eval (the only file that imports it)
local_tasks.py    lm-eval's usual tasks from local files
task_scores.py    the headline of a task of lm-eval, row by row, from its records
exam_run.py       the exam on a model, subject by subject, the written answers too
exam_records.py   scores to one record an item, records to the exam's summary
domain_items.py   labelled JSONL of the domain to rows; prompts from a template
labels.py         what a model wrote to the labels that it means
domain_records.py answers to one record a row
domain_run.py     a domain task on a model
domain_f1.py      records to F1, exact match, format-free accuracy, invalid rate
label_counts.py   hits, right labels and predictions of single labels and of sets
extractive.py     exact and quasi-exact match, token F1, ROUGE of free answers
curves.py         precision-recall curve, recall at a precision, what to review
generate.py       greedy answers in batches, up to the first line break or the end
likelihood.py     the probability of every label after a prompt
bpb.py            bits per byte, a record a document
model_state.py    what a scorer must leave as it was; length of the context; loading a folder
published.py      the measured exam beside published scores, or why they are not comparable
stats.py          McNemar, intervals, clustered errors, Holm, detectable drop, verdicts
bootstrap.py      bootstrap limits of accuracies, F1 and bits per byte, paired or not
records.py        hashes, atomic records, and when an evaluation may be reused
parts.py          finished parts of an evaluation that was interrupted
summarize.py      records to every number of the summary
evaluate.py       all of it on one model

stats, bootstrap, records, summarize and what they import need no torch, transformers or lm_eval,
so that reports can be rebuilt without them.
"""
