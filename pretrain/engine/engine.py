"""The only file that knows DeepSpeed: set-up, one step, and the whole state in and out.

DeepSpeed's own checkpoints, scheduler and loss averaging are not used: its checkpoints bake in
the world size, are not atomic and need pickle; its scheduler drifts from the position.
"""

import datetime
import math
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from pydantic import ValidationError
from torch.distributed import distributed_c10d
from transformers import PreTrainedModel

from checkpoints import BUFFERS, EXP_AVG, EXP_AVG_SQ, KINDS, WEIGHTS, persistent_buffers
from configs import Train, UserError
from pretrain.engine.deepspeed_settings import deepspeed_config
from pretrain.engine.optimizer import adamw, freeze_other_modalities


def _accelerator() -> Any:
    return deepspeed.get_accelerator()


def device() -> torch.device:
    """The accelerator of this rank, or the CPU."""
    return torch.device(_accelerator().current_device_name())


def device_name() -> str | None:
    """The maker's name of this rank's device; None for a CPU, whose peak is not known."""
    return torch.cuda.get_device_name() if device().type == "cuda" else None


def join_ranks(timeout: datetime.timedelta) -> None:
    """Join the process group that the launcher described in the environment. Raises UserError
    where this machine has fewer GPUs than ranks."""
    local = int(os.environ["LOCAL_RANK"])
    there = _accelerator().device_count()
    if _accelerator().device_name() != "cpu" and local >= there:
        raise UserError(
            f"train.ranks: rank {local} of {socket.gethostname()} finds {there} GPUs there",
            f"set train.ranks: {there}",
        )
    # Before any collective: NCCL takes the current device, which is the first one on every rank.
    _accelerator().set_device(local)
    # The op shares memory between ranks by a compiled extension, leaks /dev/shm files, and
    # serves inference only.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # pyright: ignore
    deepspeed.init_distributed(
        dist_backend=_accelerator().communication_backend_name(),
        timeout=timeout,
        auto_mpi_discovery=False,
    )


class Engine:
    """A DeepSpeed engine with the few operations that the loop needs."""

    def __init__(
        self,
        model: PreTrainedModel,
        train: Train,
        rows: int,
        accumulation: int,
        timeout: datetime.timedelta,
    ) -> None:
        freeze_other_modalities(model)
        self.names = dict(model.named_parameters())
        self.trained = {n: p for n, p in self.names.items() if p.requires_grad}
        # As they came: under bf16 the model's own are rounded, and they have no masters.
        self._frozen = {
            n: p.detach().to("cpu", torch.float32, copy=True)
            for n, p in self.names.items()
            if n not in self.trained
        }
        self.config = model.config.get_text_config()
        self._zero = train.zero
        self._norm = math.nan
        self._balancing = float(getattr(self.config, "router_aux_loss_coef", None) or 0.0)
        self._imbalance: torch.Tensor | None = None
        self._optimizer = adamw(model, train)
        config = deepspeed_config(train, rows, accumulation)
        self._engine = _initialized(model, self._optimizer, train, config)
        self.module: torch.nn.Module = self._engine.module
        if train.compile:
            self._engine.compile()
        _limit_waiting(timeout)
        self._create_adam_state()

    def forward(self, **inputs: torch.Tensor | int | None) -> torch.Tensor:
        """Logits (rows, seq_len, vocab)."""
        routed = {"output_router_logits": True} if self._balancing and self.module.training else {}
        found = self._engine(**inputs, **routed, use_cache=False)
        self._imbalance = found.aux_loss if routed else None
        return found.logits

    def balancing(self) -> torch.Tensor | None:
        """What a mixture of experts adds to its mean loss so that all experts are used, of the last
        training pass: the model's own load-balancing loss (Fedus et al. 2021, equation 4) times its
        configured weight. None for other models."""
        return None if self._imbalance is None else self._balancing * self._imbalance

    def backward(self, loss_share: torch.Tensor) -> None:
        """Accumulate gradients of this rank's part of the global mean loss.

        DeepSpeed averages over ranks, so the part is scaled by their number; nothing is divided
        by the accumulation, because the part already is a share of the whole batch.
        """
        self._engine.backward(loss_share * dist.get_world_size(), scale_wrt_gas=False)

    def advance(self) -> None:
        """End a micro batch that is not the last of its step."""
        self._engine.step()

    def step(self, lr: float) -> bool:
        """Apply the accumulated gradients with ``lr``; False where they were not finite."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        if self._zero == 0:
            self._norm = self._local_norm()
        if self._zero == 0 and not math.isfinite(self._norm):
            # Plain AdamW would apply them. They are not taken away, because DeepSpeed's clipping
            # fails where no parameter has a gradient.
            self._optimizer.step = _no_step
            self._engine.step()
            del self._optimizer.step
            return False
        self._engine.step()
        return self._engine.was_step_applied()

    def lr(self) -> set[float]:
        """The learning rates in force, one if all is well."""
        return {group["lr"] for group in self._engine.optimizer.param_groups}

    def grad_norm(self) -> float | None:
        """Global gradient norm of the last step, before clipping."""
        if self._zero == 0:
            return self._norm
        norm = self._engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    def export_state(self, owned: set[str]) -> Iterator[tuple[tuple[str, str], torch.Tensor]]:
        """All ranks together: yield {(kind, name): fp32 tensor} of the ``owned`` names; frozen
        parameters have weights alone."""
        yield from (((WEIGHTS, n), t) for n, t in self._frozen.items() if n in owned)
        self._link()
        for name, parameter in self.trained.items():
            for kind in KINDS:
                full = self._full(parameter, kind)
                if name in owned:
                    yield (kind, name), full.detach().to("cpu", torch.float32, copy=True)

    def buffers(self) -> dict[tuple[str, str], torch.Tensor]:
        """{(kind, name): tensor} of the model's persistent buffers as it computes with them, the
        same on every rank; floats in fp32."""
        return {
            (BUFFERS, name): (b.float() if b.is_floating_point() else b).detach().clone()
            for name, b in persistent_buffers(self.module).items()
        }

    def adam_step(self) -> int:
        return max(
            (int(s["step"]) for s in self._optimizer.state.values() if "step" in s), default=0
        )

    def import_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Set the fp32 masters to ``weights``, in any float type: DeepSpeed makes them from weights
        already rounded to bf16."""
        if self._zero == 0:
            return  # fp32 without masters: the model was given these weights
        for name, parameter in self.trained.items():
            self._set(parameter, weights[name], WEIGHTS)

    def import_moments(
        self, kind: str, moments: Iterable[tuple[str, torch.Tensor]], adam_step: int
    ) -> None:
        """Set one Adam moment of every trained parameter ((name, tensor), in the same order on all
        ranks) and the step of the bias correction."""
        missing = set(self.trained)
        for name, moment in moments:
            if name in self.trained:
                self._set(self.trained[name], moment, kind)
                missing.discard(name)
        if missing:
            raise RuntimeError(f"no {kind} of {sorted(missing)[0]} and {len(missing) - 1} others")
        for state in self._optimizer.state.values():
            state["step"].fill_(float(adam_step))

    def _local_norm(self) -> float:
        """The global norm where every rank holds the whole gradient."""
        gradients = [p.grad for p in self.names.values() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def _full(self, parameter: torch.nn.Parameter, kind: str) -> torch.Tensor:
        if self._zero == 0:
            return parameter if kind == WEIGHTS else self._optimizer.state[parameter][kind]
        if kind == WEIGHTS:
            return _found(safe_get_full_fp32_param(parameter))
        return _found(safe_get_full_optimizer_state(parameter, kind))

    def _set(self, parameter: torch.nn.Parameter, value: torch.Tensor, kind: str) -> None:
        if self._zero == 0:
            self._optimizer.state[parameter][kind].copy_(value)
        elif self._zero == 3:
            self._set_partition(parameter, value, kind)
        elif kind == WEIGHTS:
            safe_set_full_fp32_param(parameter, value)
        else:
            safe_set_full_optimizer_state(parameter, value, kind)

    def _set_partition(self, parameter: Any, value: torch.Tensor, kind: str) -> None:
        """This rank's slice; DeepSpeed's own whole-tensor setter fails on odd sizes."""
        size = parameter.ds_tensor.numel()
        flat = torch.zeros(size * dist.get_world_size())
        flat[: value.numel()] = value.flatten()
        mine = flat[size * dist.get_rank() :][:size]
        if kind == WEIGHTS:
            safe_set_local_fp32_param(parameter, mine)
        else:
            safe_set_local_optimizer_state(parameter, mine, kind)

    def _create_adam_state(self) -> None:
        """Give AdamW now the state that it would make in its first applied step.

        A checkpoint can be due before: after steps that were all skipped.
        """
        zero = self._engine.optimizer
        if self._zero == 0:
            flats = list(self.trained.values())
        elif self._zero == 3:
            flats = zero.fp32_partitioned_groups_flat
        else:
            flats = zero.single_partition_of_fp32_groups
        for flat in flats:
            self._optimizer.state[flat] = {
                "step": torch.zeros((), device=flat.device),  # where fused AdamW wants it
                EXP_AVG: torch.zeros_like(flat),
                EXP_AVG_SQ: torch.zeros_like(flat),
            }
        self._link()

    def _link(self) -> None:
        """Let the moments be found by parameter: DeepSpeed links the first group's only."""
        if self._zero in (1, 2):
            zero = self._engine.optimizer
            zero._hp_optimizer_states_linked = False
            zero._lazy_init_hp_params_optimizer_state()


def _initialized(
    model: PreTrainedModel, optimizer: torch.optim.AdamW, train: Train, config: dict[str, Any]
) -> Any:  # DeepSpeed's optimizers have no common type
    try:
        _place(model, train, config)
        return deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
    except ValidationError as error:
        odd = error.errors()[0]
        raise UserError(
            f"train.deepspeed: {error.title}.{'.'.join(map(str, odd['loc']))}: {odd['msg']}",
            "DeepSpeed's configuration page says what the key takes",
        ) from None


def _place(model: PreTrainedModel, train: Train, config: dict[str, Any]) -> None:
    """Give every parameter to the device in the type of the computation, one at a time: what they
    were before, as a rule views of mapped files, is never in memory as a whole. At ZeRO 3 each is
    partitioned at once, because DeepSpeed would first put the whole model on every GPU."""
    computed_in = torch.bfloat16 if train.precision == "bf16" else torch.float32
    parameters: list[Any] = list(model.parameters())  # Any: partitioned ones have more methods
    for parameter in parameters:
        parameter.data = parameter.data.to(device(), computed_in, copy=True)
        if train.zero == 3 and parameter is parameters[0]:
            lone = torch.nn.ParameterList([parameter])
            deepspeed.zero.Init(lone, dtype=computed_in, config_dict_or_path=config)
        elif train.zero == 3:
            parameters[0].convert_to_zero_parameters(param_list=[parameter])
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device())


def _no_step(*_: Any, **__: Any) -> None:
    """In the place of an optimizer's step that is left out."""


def _found(tensor: torch.Tensor | None) -> torch.Tensor:
    if tensor is None:
        raise RuntimeError("DeepSpeed holds no such state for a parameter")
    return tensor


def _limit_waiting(timeout: datetime.timedelta) -> None:
    """Set the time-out on every group: DeepSpeed's own groups ignore the one given at the start."""
    for group in list(distributed_c10d._world.pg_map):
        distributed_c10d._set_pg_timeout(timeout, group)
