"""What DeepSpeed is told, from the recipe; pure, and checked before anything is started."""

import difflib
from typing import Any, Literal

from configs import Train, UserError

_OWNED = {
    "train_batch_size": "schedule.batch_tokens sets the batch",
    "train_micro_batch_size_per_gpu": "train.micro_batch_rows sets it",
    "gradient_accumulation_steps": "it follows from the batch, the ranks and micro_batch_rows",
    "optimizer": "train.weight_decay, beta1, beta2 and eps set AdamW",
    "scheduler": "schedule sets the learning rate by position",
    "gradient_clipping": "train.grad_clip sets it",
    "bf16": "train.precision sets it",
    "fp16": "train.precision is bf16 or fp32",
    "gradient_allreduce_op": "the loss is normalised over the global batch",
    "prescale_gradients": "the loss is normalised over the global batch",
    "checkpoint": "Alloy's checkpoints fit any number of ranks",
    **dict.fromkeys(
        ("tensor_parallel", "sequence_parallel_size", "elasticity", "amp", "sparse_gradients"),
        "every rank computes whole rows of its own with a whole model",
    ),
    "torch_autocast": "train.precision sets it",
    "activation_checkpointing": "train.activation_checkpointing sets it",
    "steps_per_print": "the run's own lines of progress say more",
    **dict.fromkeys(
        ("zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer"),
        "the optimizer is torch's AdamW",
    ),
}
_OWNED_ZERO = {
    "stage": "set train.zero",
    "mics_shard_size": "masters are partitioned over all ranks",
    "round_robin_gradients": "masters are set by the parameters' own order, which it changes",
}
_FREE = (
    *("zero_optimization", "communication_data_type", "data_types", "gradient_predivide_factor"),
    *("wall_clock_breakdown", "memory_breakdown", "comms_logger", "flops_profiler", "timers"),
    *("dump_state", "log_level", "tensorboard", "wandb", "csv_monitor", "comet", "compile"),
    *("disable_python_gc", "disable_allgather"),
)
"""DeepSpeed reads past what it does not know: a misspelt key would be lost without a word."""
_SUMS = ("fp32", "bf16")


def deepspeed_config(train: Train, rows: int, accumulation: int) -> dict[str, Any]:
    """DeepSpeed's JSON for a run of ``rows`` rows in a micro batch.

    Raises UserError for raw keys that Alloy owns or that are none, and for ZeRO 0 in bf16, where
    DeepSpeed steps its optimizer once on zero gradients while starting.
    """
    _refuse_keys(train)
    if train.zero == 0 and train.precision == "bf16":
        raise UserError(
            "train.zero 0 with bf16: DeepSpeed applies a step on zero gradients while starting",
            "set train.zero: 1, or train.precision: fp32",
        )
    if train.zero == 0 and train.offload_optimizer:
        raise UserError("train.offload_optimizer needs ZeRO", "set train.zero: 1, 2 or 3")
    zero = dict(train.deepspeed.get("zero_optimization", {}))
    for key in ("offload_optimizer", "offload_param"):
        if zero.get(key, {}).get("device") == "nvme":
            raise UserError(
                f"train.deepspeed.zero_optimization.{key}: checkpoints are written from memory",
                "offload to the cpu instead of nvme",
            )
    if train.offload_optimizer:
        zero = {"offload_optimizer": {"device": "cpu"}, **zero}
    types = {"data_types": {"grad_accum_dtype": sums_gradients_in(train)}}
    return {
        # Left to DeepSpeed, ranks would add their gradients up in bf16.
        "communication_data_type": "fp32",
        **types,
        **train.deepspeed,
        # Its own CPU Adam is a compiled extension; torch's AdamW steps offloaded masters too.
        "zero_force_ds_cpu_optimizer": False,
        "train_micro_batch_size_per_gpu": rows,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": train.grad_clip,
        "bf16": {"enabled": train.precision == "bf16"},
        "zero_optimization": {**zero, "stage": train.zero},
        "zero_allow_untested_optimizer": False,
        "steps_per_print": 10**12,
    }


def _refuse_keys(train: Train) -> None:
    raw = train.deepspeed
    for key in raw:
        if key in _OWNED:
            raise UserError(f"train.deepspeed.{key} is owned by Alloy", _OWNED[key])
        if key not in _FREE:
            near = difflib.get_close_matches(key, _FREE, n=1)
            hint = f"did you mean {near[0]}?" if near else f"valid keys: {', '.join(sorted(_FREE))}"
            raise UserError(f"train.deepspeed.{key}: no such key, or of no use here", hint)
    for key in ("zero_optimization", "data_types"):
        if not isinstance(raw.get(key, {}), dict):
            raise UserError(f"train.deepspeed.{key}: {raw[key]!r} is no mapping", "give its keys")
    for key, hint in _OWNED_ZERO.items():
        if key in raw.get("zero_optimization", {}):
            raise UserError(f"train.deepspeed.zero_optimization.{key} is owned by Alloy", hint)
    types = raw.get("data_types", {})
    if types not in ({}, *({"grad_accum_dtype": name} for name in _SUMS)):
        hint = f"give grad_accum_dtype: {' or '.join(_SUMS)}, and nothing else"
        raise UserError(f"train.deepspeed.data_types: {types}", hint)


def sums_gradients_in(train: Train) -> Literal["fp32", "bf16"]:
    """The type in which gradients of micro batches are added up. DeepSpeed would add them in that
    of the computation; for ZeRO 1 in bf16 it has fp32 only with an optimizer of another make."""
    asked = train.deepspeed.get("data_types", {}).get("grad_accum_dtype")
    if asked is not None:
        return asked
    return "bf16" if (train.zero, train.precision) == (1, "bf16") else "fp32"
