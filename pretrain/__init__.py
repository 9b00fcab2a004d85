"""The training run: rows by position in, verified checkpoints out.

    launch ─▶ (deepspeed launcher) ─▶ worker on every rank
    worker: Job ─▶ prepare ─▶ model + engine + rows ─▶ loop ─▶ metrics.jsonl, checkpoints/, export/

schedule.py   learning rate as a pure function of position
steps.py      which rank computes which rows of a step; pure
batches.py    rows of arrays to the tensors of a forward pass
transfer.py   arrays to a device, without waiting for it
attention.py  which implementation of attention, and documents kept apart
objective.py  summed cross-entropy, per source, with z-loss; whole or in chunks
pretrained.py  a Hugging Face folder as a model, whole or refused
architecture.py  the config of random weights, with no key that its class does not know
model.py      a Hugging Face causal LM from a folder, the hub, random weights or a checkpoint
optimizer.py  AdamW: which parameters are frozen, and which are decayed
deepspeed_config.py  what DeepSpeed is told; which raw keys are refused
states.py     what weights, gradients and AdamW take of a rank's memory; pure
engine.py     the only file that knows DeepSpeed: set-up, state in and out
loop.py       the training loop, top to bottom
documents.py  held-out and retention text to measure on
heldout.py    bits per byte on the live model, all ranks together
flops.py      what the model needs against what the device could do
watch.py      a line for people, metrics.jsonl, TensorBoard
replay.py     a stored batch, run again after loading
milestones.py  when a run saves and measures, what a checkpoint says besides its tensors
saving.py     checkpoints of a run: gather, write, publish, retain
job.py        what the ranks are told
positions.py  whether rows are within a model's positions; pure
run_folder.py what a run folder holds and whether a recipe may continue it
one_folder.py whether all ranks see the folder that rank 0 writes to
worker.py     entry point of one rank: signals, errors, exit codes
prepare.py    checkpoint, model, attention and engine of a rank, and what it refuses
assembly.py   the parts of a job on one rank put together, trained, exported
launchers.py  the command lines of launchers: deepspeed, torchrun, Slurm; hostfiles
machines.py   the machines of a hostfile over ssh: do they answer, signals to their ranks
launch.py     starts the ranks through the deepspeed launcher and passes signals on
verdict.py    how a start ended: complete, stopped, which rank hangs, the first error
"""
