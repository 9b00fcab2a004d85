"""How attention is computed, and how it is kept inside documents; a choice is pure.

    asked + device + precision + what the model and the machine have ─▶ choose ─▶ implementation
    position ids that restart ─▶ transformers' masks (sdpa, eager, flex), lengths (flash)

Masks are made by transformers from position ids that restart, once for each kind of layer, so a
sliding window stays what it is inside a packed row. Flash attention takes cumulated lengths.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from transformers import PreTrainedModel
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

from configs import UserError
from evals.scoring import undisturbed
from pretrain.model.transfer import on_device

Name = Literal["sdpa", "flex", "flash", "eager"]
FLASH = ("flash_attention_3", "flash_attention_2")
_ROUNDING = {torch.float32: 4e-6, torch.bfloat16: 0.016}
"""Largest change of a document's logits that another document may cause, as a part of the largest
logit: experts in groups of other sizes round differently."""


@dataclass(frozen=True)
class Ability:
    """What a model's class says it can, and how much of its attention it drops."""

    model: str
    sdpa: bool
    flex: bool
    flash: bool
    dropout: float


@dataclass(frozen=True)
class Machine:
    """What a rank runs on."""

    device: str
    precision: Literal["bf16", "fp32"]
    flash: str | None
    """transformers' name of the flash attention that is installed."""


@dataclass(frozen=True)
class Attention:
    """An implementation by our name and by transformers', and why."""

    name: Name
    implementation: str
    reason: str


def choose(asked: str, documents: bool, machine: Machine, model: Ability) -> Attention:
    """The implementation that ``train.attention`` asks for; auto takes the first that can be had.

    ``documents``: whether attention stays inside documents. Then, on a GPU, flash or else flex
    attention skip what a mask would hide; without documents SDPA has the same kernels. Raises
    UserError where what was asked cannot be had.
    """
    missing = _missing(machine, model)
    if asked != "auto":
        reason = missing[asked]
        if reason is not None:
            usable = ", ".join(name for name, lack in missing.items() if lack is None)
            raise UserError(
                f"train.attention {asked}: {reason}", f"set train.attention to one of: {usable}"
            )
        return _chosen(asked, machine, "as asked")
    order = ("flash", "flex", "sdpa", "eager") if documents else ("flash", "sdpa", "flex", "eager")
    usable = next(name for name in order if missing[name] is None)
    passed = [f"no {name}: {missing[name]}" for name in order[: order.index(usable)]]
    return _chosen(usable, machine, "; ".join(passed) or "the fastest that there is")


def _missing(machine: Machine, model: Ability) -> dict[str, str | None]:
    """Why each implementation cannot be had; None where it can."""
    cpu = machine.device == "cpu"
    flash = {
        "on the CPU there is none": cpu,
        f"{model.model} does not support it": not model.flash,
        "it computes in bf16 only": machine.precision != "bf16",
        "the package flash-attn is not installed": machine.flash is None,
        "flash_attention_3 drops no attention, which the model asks for": (
            machine.flash == "flash_attention_3" and model.dropout > 0
        ),
    }
    flex = {
        "on the CPU it has no backward pass": cpu,
        f"{model.model} does not support it": not model.flex,
        "it drops no attention, which the model asks for": model.dropout > 0,
    }
    sdpa = {f"{model.model} does not support it": not model.sdpa}
    lacks: dict[str, Mapping[str, bool]] = {"flash": flash, "flex": flex, "sdpa": sdpa, "eager": {}}
    return {
        name: next((why for why, holds in reasons.items() if holds), None)
        for name, reasons in lacks.items()
    }


def _chosen(name: str, machine: Machine, reason: str) -> Attention:
    match name:
        case "flash":
            assert machine.flash is not None
            return Attention("flash", machine.flash, reason)
        case "flex":
            return Attention("flex", "flex_attention", reason)
        case "sdpa":
            return Attention("sdpa", "sdpa", reason)
        case _:
            return Attention("eager", "eager", reason)


def ability(model: PreTrainedModel) -> Ability:
    config = model.config.get_text_config()
    dropped = [getattr(config, key, None) for key in ("attention_dropout", "attn_pdrop")]
    return Ability(
        model=type(model).__name__,
        sdpa=model._supports_sdpa,
        flex=model._supports_flex_attn,
        flash=model._supports_flash_attn,
        dropout=max(float(value or 0.0) for value in dropped),
    )


def machine(device: torch.device, precision: Literal["bf16", "fp32"]) -> Machine:
    there = {
        "flash_attention_3": is_flash_attn_3_available,
        "flash_attention_2": is_flash_attn_2_available,
    }
    return Machine(device.type, precision, next((name for name in FLASH if there[name]()), None))


def use(model: PreTrainedModel, attention: Attention) -> None:
    """Let ``model`` compute so. Raises UserError where transformers takes another one instead."""
    if attention.name == "flex":
        _let_compile_often()
    model.set_attn_implementation(attention.implementation)
    found = model.config._attn_implementation
    if found != attention.implementation:
        raise UserError(
            f"train.attention {attention.name}: {type(model).__name__} computes with {found}",
            f"set train.attention: {found}",
        )


def _let_compile_often() -> None:
    """torch stops compiling a function after 8 kinds of calls, and flex attention that is not
    compiled holds all scores. Training, replay and measuring make more: with and without gradients
    and documents, one row or several, for each kind of layer. Beyond the limit it fails."""
    # Imported where it is used: it takes seconds that other runs do not want to spend.
    from torch._dynamo import config as dynamo_config

    dynamo_config.recompile_limit = 64
    dynamo_config.fail_on_recompile_limit_hit = True


def document_lengths(position_ids: np.ndarray) -> tuple[np.ndarray, int]:
    """Of rows (rows, seq_len) laid end to end: where documents begin and the last one ends,
    int32 (documents + 1,), and the tokens of the longest. A position 0 begins a document."""
    begins = np.flatnonzero(position_ids.reshape(-1) == 0)
    bounds = np.append(begins, position_ids.size).astype(np.int32)
    return bounds, int(np.diff(bounds).max())


def lengths_inputs(
    position_ids: np.ndarray, device: torch.device
) -> dict[str, torch.Tensor | int | None]:
    """What flash attention over packed rows is told, under transformers' names."""
    bounds, longest = document_lengths(position_ids)
    cumulated = on_device(bounds, device)
    return {
        "cu_seq_lens_q": cumulated,
        "cu_seq_lens_k": cumulated,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def require_documents_apart(
    forward: Callable[[np.ndarray, np.ndarray], torch.Tensor],
    module: torch.nn.Module,
    shape: tuple[int, int],
    vocab_size: int,
) -> None:
    """All ranks together: change the first half of each row, a document of its own, and see that
    the logits of the other half stay.

    ``forward`` turns ids and positions, each of ``shape`` (rows, seq_len), into logits. Raises
    UserError for models that look across documents, such as recurrent ones.
    """
    rows, seq_len = shape
    half = seq_len // 2
    positions = np.tile(np.append(np.arange(half), np.arange(seq_len - half)), (rows, 1))
    ids = np.arange(rows * seq_len).reshape(shape) % (vocab_size - 1)
    other = ids.copy()
    other[:, :half] += 1
    with undisturbed(module):
        logits = forward(ids, positions)[:, half:]
        change = (forward(other, positions)[:, half:].float() - logits.float()).abs()
    leaked, largest = float(change.max()), float(logits.abs().max())
    allowed = _ROUNDING[next(module.parameters()).dtype] * largest
    # Without finite logits nothing can be compared: such a model fails by its gradients.
    seen = torch.tensor([float(leaked > allowed)], device=change.device)
    dist.all_reduce(seen)
    if bool(seen.item() > 0):
        raise UserError(
            f"data.document_mask: a document changes the logits of the next one in its row by "
            f"{leaked:.3g} of {largest:.3g}: {type(module).__name__} looks across documents",
            "set data.document_mask: false, or train another architecture",
        )
