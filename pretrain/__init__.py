"""The training run: rows by position in, verified checkpoints out.

    launch ─▶ (deepspeed launcher) ─▶ ranks: worker
    worker: Job ─▶ model + engine + rows ─▶ training: loop ─▶ metrics.jsonl, checkpoints/, export/

job.py         what the ranks are told
run_folder.py  what a run folder holds and whether a recipe may continue it
model/         a base as a module
engine/        the only room that knows DeepSpeed
training/      the loop and what it calls
ranks/         one process of a run
launch/        processes, machines, and how they end
"""
