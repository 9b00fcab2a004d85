"""What DeepSpeed is told, from the recipe; pure, and checked before anything is started."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
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
    "activation_checkpointing": "train.activation_checkpointing sets it",
    "compile": "train.compile sets it",
    "zero_allow_untested_optimizer": "the optimizer is AdamW",
    "zero_force_ds_cpu_optimizer": "torch's AdamW steps offloaded masters too",
    "steps_per_print": "progress is Alloy's own",
    **dict.fromkeys(
        ("tensor_parallel", "sequence_parallel_size", "elasticity", "amp", "sparse_gradients"),
        "every rank computes whole rows of its own with a whole model",
    ),
    "torch_autocast": "train.precision sets it",
}
_OWNED_ZERO = {
    "stage": "set train.zero",
    "mics_shard_size": "masters are partitioned over all ranks",
    "round_robin_gradients": "DeepSpeed then looks for masters where it does not keep them",
}
_FREE = {
    "communication_data_type",
    "comms_logger",
    "data_types",
    "dump_state",
    "flops_profiler",
    "memory_breakdown",
    "timers",
    "wall_clock_breakdown",
    "zero_optimization",
}
_FREE_ZERO = {
    "allgather_bucket_size",
    "allgather_partitions",
    "contiguous_gradients",
    "enable_sanity_checks",
    "log_trace_cache_warnings",
    "memory_efficient_linear",
    "offload_optimizer",
    "offload_param",
    "overlap_comm",
    "reduce_bucket_size",
    "reduce_scatter",
    "stage3_allgather_sequential",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_model_persistence_threshold",
    "stage3_module_granularity_threshold",
    "stage3_param_persistence_threshold",
    "stage3_prefetch_bucket_size",
    "stage3_use_all_reduce_for_fetch_params",
    "sub_group_size",
    "use_multi_rank_bucket_allreduce",
}
"""Raw keys that change time and memory, and were seen to leave the result as it is. DeepSpeed
itself passes over top-level keys that it does not know."""
ROUNDING_KEYS = ("communication_data_type", "data_types")
"""Of the raw keys, those by which a run's numbers change."""
_FREE_TYPES = {"grad_accum_dtype"}
_TYPES = ("fp32", "bf16")


def deepspeed_config(train: Train, rows: int, accumulation: int) -> dict[str, Any]:
    """DeepSpeed's JSON for a run of ``rows`` rows in a micro batch.

    Raises UserError for raw keys that Alloy owns or was not tried with, and for ZeRO 0 in bf16,
    where DeepSpeed steps its optimizer once on zero gradients while starting.
    """
    zero = _checked(train.deepspeed)
    if train.zero == 0 and train.precision == "bf16":
        raise UserError(
            "train.zero 0 with bf16: DeepSpeed applies a step on zero gradients while starting",
            "set train.zero: 1, or train.precision: fp32",
        )
    if train.zero == 0 and train.offload_optimizer:
        raise UserError("train.offload_optimizer needs ZeRO", "set train.zero: 1, 2 or 3")
    if train.offload_optimizer:
        zero = {"offload_optimizer": {"device": "cpu"}, **zero}
    types = {"data_types": {"grad_accum_dtype": sums_gradients_in(train)}}
    return {
        # Left to DeepSpeed, ranks would add their gradients up in bf16.
        "communication_data_type": "fp32",
        **types,
        # Its timers wait for the GPU twice in every micro batch, and nobody reads them.
        "timers": {"throughput": {"enabled": False}},
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


def sums_gradients_in(train: Train) -> Literal["fp32", "bf16"]:
    """The type in which gradients of micro batches are added up. DeepSpeed would add them in that
    of the computation; for ZeRO 1 in bf16 it has fp32 only with an optimizer of another make."""
    asked = train.deepspeed.get("data_types", {}).get("grad_accum_dtype")
    if asked is not None:
        return asked
    return "bf16" if (train.zero, train.precision) == (1, "bf16") else "fp32"


def _checked(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of ``zero_optimization``, after all that a recipe may not say is refused."""
    section = "train.deepspeed"
    _require_free(raw, section, _OWNED, _FREE)
    zero = _section(raw, "zero_optimization", section)
    _require_free(zero, f"{section}.zero_optimization", _OWNED_ZERO, _FREE_ZERO)
    for key in ("offload_optimizer", "offload_param"):
        if _section(zero, key, f"{section}.zero_optimization").get("device") == "nvme":
            raise UserError(
                f"{section}.zero_optimization.{key}: checkpoints are written from memory",
                "offload to the cpu instead of nvme",
            )
    types = _section(raw, "data_types", section)
    _require_free(types, f"{section}.data_types", {}, _FREE_TYPES)
    named = {"communication_data_type": raw, "data_types.grad_accum_dtype": types}
    for key, where in named.items():
        value = where.get(key.rpartition(".")[2], _TYPES[0])
        if value not in _TYPES:
            raise UserError(f"{section}.{key} is '{value}'", f"set it to {' or '.join(_TYPES)}")
    return zero


def _section(keys: Mapping[str, Any], name: str, place: str) -> dict[str, Any]:
    found = keys.get(name, {})
    if not isinstance(found, dict):
        raise UserError(f"{place}.{name}: {found!r} is no mapping", "give its keys")
    return found


def _require_free(
    keys: Iterable[str], section: str, owned: Mapping[str, str], free: Collection[str]
) -> None:
    for key in keys:
        if key in owned:
            raise UserError(f"{section}.{key} is owned by Alloy", owned[key])
        if key not in free:
            near = get_close_matches(key, free, 1)
            raise UserError(
                f"{section}.{key} is no key that Alloy was tried with",
                f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(free))}",
            )
