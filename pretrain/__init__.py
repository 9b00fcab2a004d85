"""The training run: rows by position in, verified checkpoints out.

    launch ─▶ (deepspeed launcher) ─▶ worker on every rank
    worker: Job ─▶ model + engine + rows ─▶ loop ─▶ metrics.jsonl, checkpoints/, export/

schedule.py   learning rate as a pure function of position
steps.py      which rank computes which rows of a step; pure
objective.py  summed cross-entropy, per source, with z-loss
model.py      a Hugging Face causal LM from a folder, the hub, random weights or a checkpoint
engine.py     the only file that knows DeepSpeed: set-up, state in and out
loop.py       the training loop, top to bottom
saving.py     checkpoints of a run: gather, write, publish, retain
job.py        what the ranks are told
run_folder.py what a run folder holds and whether a recipe may continue it
worker.py     entry point of one rank
launch.py     starts the ranks through the deepspeed launcher and passes signals on
"""
