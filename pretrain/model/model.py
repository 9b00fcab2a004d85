"""A Hugging Face causal LM to train: from the hub, a folder, an Alloy run or random weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights
from transformers.utils import GENERATION_CONFIG_NAME

from checkpoints import (
    BUFFERS,
    WEIGHTS,
    Checkpoint,
    chosen,
    is_alloy,
    persistent_buffers,
    pretrained_model,
    read_tensors,
)
from configs import Base, UserError
from pretrain.model.architecture import architecture_config, refused

_RESIDUAL_OUTPUTS = (
    *("o_proj.weight", "down_proj.weight"),  # Llama and its kin
    *("attention.dense.weight", "dense_4h_to_h.weight"),  # GPT-NeoX
    "c_proj.weight",  # GPT-2
)


@dataclass(frozen=True)
class Start:
    """A model, its weights as they are stored, and the checkpoint whose moments go with them, if
    any. Weights of files are views of them, which every rank of a machine shares."""

    model: PreTrainedModel
    moments: Checkpoint | None
    described: str


def base_checkpoint(base: Base) -> Checkpoint | None:
    """The checkpoint that ``base`` names, every byte of it verified; None where it is no run."""
    if base.model is None or not is_alloy(Path(base.model)):
        return None
    return chosen(Path(base.model), base.step)


def load_start(base: Base, vocab_size: int, eos_id: int, seed: int) -> Start:
    """Load a ``base`` that is no run."""
    if base.architecture is not None:
        model = _random(base.architecture, vocab_size, eos_id, seed)
        _rescale(model, base.embedding_std, base.residual_scale)
        return Start(model, None, f"random weights, seed {seed}")
    assert base.model is not None
    if base.start == "weights+moments":
        raise UserError(
            f"base.start weights+moments: {base.model} is no Alloy run and holds no moments",
            "set base.start: weights",
        )
    model = _as_stored(base.model)
    return Start(_check(model, vocab_size, base.model), None, _named(base))


def run_start(base: Base, checkpoint: Checkpoint, vocab_size: int) -> Start:
    """Load what ``base`` says of its run's ``checkpoint``."""
    model = _from_checkpoint(checkpoint, vocab_size)
    keep = base.start == "weights+moments"
    described = f"{base.start.replace('+', ' and ')} of {base.model}, step {checkpoint.step}"
    return Start(model, checkpoint if keep else None, described)


def resume_start(checkpoint: Checkpoint, vocab_size: int) -> Start:
    """The state in which an interrupted run goes on."""
    model = _from_checkpoint(checkpoint, vocab_size)
    return Start(model, checkpoint, f"this run's step {checkpoint.step}")


def model_from(checkpoint: Checkpoint) -> PreTrainedModel:
    """The model of a checkpoint, with its fp32 weights, which are views of its files, and its
    buffers.

    Raises UserError where tensors are missing or do not fit; checkpoints of before buffers were
    stored open where the model has none.
    """
    model = unfilled_model(checkpoint)
    _fill(dict(model.named_parameters()), checkpoint, WEIGHTS)
    _fill(persistent_buffers(model), checkpoint, BUFFERS)
    return model


def _as_stored(name: str) -> PreTrainedModel:
    """A Hugging Face folder's weights in their own type, in a model that computed its tables in
    fp32: transformers would compute them too in the type of the weights."""
    loaded = pretrained_model(name, dtype=None)
    model = _unfilled(loaded.config)
    model.generation_config = loaded.generation_config
    weights, buffers = dict(loaded.named_parameters()), persistent_buffers(loaded)
    for key, parameter in model.named_parameters():
        parameter.data = weights[key].data
    for key, buffer in persistent_buffers(model).items():
        buffer.data = buffers[key].to(buffer.dtype)
    return model


def unfilled_model(checkpoint: Checkpoint) -> PreTrainedModel:
    """The model of a checkpoint before its weights are in it; on torch's meta device, only what is
    known of it: config, names and shapes of weights, settings of generation."""
    model = _unfilled(AutoConfig.from_pretrained(checkpoint.path))
    if (checkpoint.path / GENERATION_CONFIG_NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(checkpoint.path)
    return model


def _unfilled(config: PretrainedConfig) -> PreTrainedModel:
    with no_init_weights():  # a core draws a minute for 7B weights, all of which are then replaced
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.tie_weights()
    return model


def _fill(targets: Mapping[str, torch.Tensor], checkpoint: Checkpoint, kind: str) -> None:
    missing = set(targets)
    for name, tensor in read_tensors(checkpoint, kind):
        if name not in targets or targets[name].shape != tensor.shape:
            raise UserError(
                f"{checkpoint.path}: '{name}' of shape {tuple(tensor.shape)} does not fit the "
                "model",
                "the checkpoint is of another architecture",
            )
        targets[name].data = tensor.to(targets[name].dtype)
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


def _from_checkpoint(checkpoint: Checkpoint, vocab_size: int) -> PreTrainedModel:
    return _check(model_from(checkpoint), vocab_size, str(checkpoint.path))


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
