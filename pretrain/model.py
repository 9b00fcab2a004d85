"""A Hugging Face causal LM to train: from the hub, a folder, an Alloy run or random weights."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import GENERATION_CONFIG_NAME

from checkpoints.folder import Checkpoint, chosen, is_alloy
from checkpoints.tensors import BUFFERS, WEIGHTS, persistent_buffers, read
from configs import Base, UserError
from pretrain.architecture import architecture_config, refused

_RESIDUAL_OUTPUTS = (
    *("o_proj.weight", "down_proj.weight"),  # Llama and its kin
    *("attention.dense.weight", "dense_4h_to_h.weight"),  # GPT-NeoX
    "c_proj.weight",  # GPT-2
)


@dataclass(frozen=True)
class Start:
    """A model with fp32 weights, and the checkpoint whose moments go with them, if any."""

    model: PreTrainedModel
    moments: Checkpoint | None
    described: str


def load_start(base: Base, vocab_size: int, eos_id: int, seed: int) -> Start:
    """Load what ``base`` says; weights are fp32 whatever they are stored as."""
    if base.architecture is not None:
        model = _random(base.architecture, vocab_size, eos_id, seed)
        _rescale(model, base.embedding_std, base.residual_scale)
        return Start(model, None, f"random weights, seed {seed}")
    assert base.model is not None
    if is_alloy(Path(base.model)):
        return _from_run(base, chosen(Path(base.model), base.step), vocab_size)
    if base.start == "weights+moments":
        raise UserError(
            f"base.start weights+moments: {base.model} is no Alloy run and holds no moments",
            "set base.start: weights",
        )
    return Start(_check(pretrained_model(base.model), vocab_size, base.model), None, _named(base))


def resume_start(checkpoint: Checkpoint, vocab_size: int) -> Start:
    """The state in which an interrupted run goes on."""
    model = _from_checkpoint(checkpoint, vocab_size)
    return Start(model, checkpoint, f"this run's step {checkpoint.step}")


def model_from(checkpoint: Checkpoint) -> PreTrainedModel:
    """The model of a checkpoint, with its fp32 weights and its buffers, on the default device.

    Raises UserError where tensors are missing or do not fit; checkpoints of before buffers were
    stored open where the model has none.
    """
    config = AutoConfig.from_pretrained(checkpoint.path)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    _fill(dict(model.named_parameters()), checkpoint, WEIGHTS)
    _fill(persistent_buffers(model), checkpoint, BUFFERS)
    if (checkpoint.path / GENERATION_CONFIG_NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(checkpoint.path)
    return model


def _fill(targets: Mapping[str, torch.Tensor], checkpoint: Checkpoint, kind: str) -> None:
    missing = set(targets)
    with torch.no_grad():
        for name, tensor in read(checkpoint, kind):
            _copy(targets, name, tensor, checkpoint)
            missing.discard(name)
    if missing:
        raise UserError(
            f"{checkpoint.path}: no {kind} for '{min(missing)}' and {len(missing) - 1} more",
            "the checkpoint is of another architecture"
            if kind == WEIGHTS
            else "it was written before buffers were stored: train it again from its base",
        )


def _random(
    architecture: dict[str, Any], vocab_size: int, eos_id: int, seed: int
) -> PreTrainedModel:
    config = architecture_config(architecture, vocab_size, eos_id)
    torch.manual_seed(seed)
    try:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (ValueError, KeyError) as error:  # heads that do not divide, an unknown activation
        raise refused(error) from None
    return _check(model, vocab_size, "base.architecture")


def _rescale(
    model: PreTrainedModel, embedding_std: float | None, residual_scale: float | None
) -> None:
    """Change the spread of random weights, drawn already: the draws stay those of the seed."""
    with torch.no_grad():
        if embedding_std is not None:
            weight = model.get_input_embeddings().weight
            assert isinstance(weight, torch.Tensor)
            weight.mul_(embedding_std / weight.std())
        for name, parameter in model.named_parameters():
            if residual_scale is not None and name.endswith(_RESIDUAL_OUTPUTS):
                parameter.mul_(residual_scale)


def _from_run(base: Base, checkpoint: Checkpoint, vocab_size: int) -> Start:
    model = _from_checkpoint(checkpoint, vocab_size)
    keep = base.start == "weights+moments"
    described = f"{base.start.replace('+', ' and ')} of {base.model}, step {checkpoint.step}"
    return Start(model, checkpoint if keep else None, described)


def _from_checkpoint(checkpoint: Checkpoint, vocab_size: int) -> PreTrainedModel:
    return _check(model_from(checkpoint), vocab_size, str(checkpoint.path))


def pretrained_model(name: str) -> PreTrainedModel:
    """A Hugging Face folder, in fp32 whatever it is stored as.

    Raises UserError where it cannot be loaded as a causal LM, and where weights are missing or of
    another shape than the config says: transformers would draw them at random and go on.
    """
    try:
        # Any: its stubs do not know of the second value.
        pair: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
        model, loaded = pair
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"base.model {name}: {first}", "check the name, revision or folder"
        ) from None
    _require_whole(name, loaded["missing_keys"], loaded["mismatched_keys"])
    return model


def _require_whole(
    name: str,
    missing: Collection[str],
    mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]],
) -> None:
    """``mismatched`` are (weight, shape in the file, shape of the config)."""
    odd = [
        f"'{weight}' is {tuple(stored)}, the config says {tuple(expected)}"
        for weight, stored, expected in sorted(mismatched)
    ] or [f"no weights for '{weight}'" for weight in sorted(missing)]
    if odd:
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        raise UserError(f"base.model {name}: {odd[0]}{more}", "download or save it again, whole")


def _copy(
    targets: Mapping[str, torch.Tensor],
    name: str,
    tensor: torch.Tensor,
    checkpoint: Checkpoint,
) -> None:
    if name not in targets or targets[name].shape != tensor.shape:
        raise UserError(
            f"{checkpoint.path}: '{name}' of shape {tuple(tensor.shape)} does not fit the model",
            "the checkpoint is of another architecture",
        )
    targets[name].copy_(tensor)


def _check(model: PreTrainedModel, vocab_size: int, name: str) -> PreTrainedModel:
    rows = embedding_rows(model)
    if vocab_size > rows:
        raise UserError(
            f"the tokenizer has ids up to {vocab_size - 1}, the embedding of {name} {rows} rows",
            "use the base's own tokenizer",
        )
    return model


def embedding_rows(model: PreTrainedModel) -> int:
    """Ids that the model knows."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight.shape[0]


def matrix_weights(parameters: Mapping[str, Any], config: PretrainedConfig) -> int:
    """Weights that take part in a matrix product for each token: all but the table that ids are
    looked up in, unless it is the output head too."""
    total = sum(int(getattr(p, "ds_numel", p.numel())) for p in parameters.values())
    if config.tie_word_embeddings:
        return total
    return total - config.vocab_size * config.hidden_size


def _named(base: Base) -> str:
    revision = f" at {base.revision}" if base.revision else ""
    return f"weights of {base.model}{revision}"


def freeze_other_modalities(model: PreTrainedModel) -> None:
    """Take the towers and projectors of images or sound out of training: no text passes through
    them, so they have no gradient, and weight decay alone would wear them down."""
    if model.config.get_text_config() is model.config:
        return
    parts = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    text = {id(p) for part in parts if part is not None for p in part.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in text)


def parameter_groups(model: PreTrainedModel, weight_decay: float) -> list[dict[str, object]]:
    """Two AdamW groups: matrices are decayed; norms, biases and embeddings are not. Frozen
    parameters are in neither."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    decayed, plain = [], []
    for parameter in (p for p in model.parameters() if p.requires_grad):
        small = parameter.ndim < 2 or id(parameter) in embeddings
        (plain if small else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return [g for g in groups if g["params"]]
