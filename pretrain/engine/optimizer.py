"""AdamW over what is trained: which parameters are frozen, and which are decayed."""

import torch
from transformers import PreTrainedModel

from configs import Train


def adamw(model: PreTrainedModel, train: Train) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over the parameters that are not frozen. Its rate is 0
    until somebody sets one."""
    return torch.optim.AdamW(
        _groups(model, train.weight_decay),
        lr=0.0,
        betas=(train.beta1, train.beta2),
        eps=train.eps,
        fused=True,  # a pass over memory where the plain one makes ten, on CPUs and on GPUs
    )


def freeze_other_modalities(model: PreTrainedModel) -> None:
    """Take the towers and projectors of images or sound out of training: no text passes through
    them, so they have no gradient, and weight decay alone would wear them down."""
    if model.config.get_text_config() is model.config:
        return
    parts = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    text = {id(p) for part in parts if part is not None for p in part.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in text)


def _groups(model: PreTrainedModel, weight_decay: float) -> list[dict[str, object]]:
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
