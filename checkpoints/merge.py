"""Weights from weights, by name: between two models, a residual added, the mean of several.

Sums run in float64 and come back in float32, so a merge does not depend on the order of its parts.
"""

from collections.abc import Mapping, Sequence

import torch

from configs import UserError

Weights = Mapping[str, torch.Tensor]


def between(base: Weights, trained: Weights, share: float) -> dict[str, torch.Tensor]:
    """base + share x (trained - base): 0 is the base and 1 the trained model, to the bit."""
    _same({"the base": base, "the trained model": trained})
    return {n: _line(t, base[n], t, share - 1) for n, t in trained.items()}


def residual(
    trained: Weights, base: Weights, tuned: Weights, share: float
) -> dict[str, torch.Tensor]:
    """trained + share x (tuned - base): what tuning made of the base, put on its continuation."""
    _same({"the base": base, "the trained model": trained, "the model to add": tuned})
    return {n: _line(t, base[n], tuned[n], share) for n, t in trained.items()}


def mean(models: Sequence[Weights]) -> dict[str, torch.Tensor]:
    """The plain mean, which stands for a linear anneal over the stretch that the models span."""
    _same({f"model {i + 1}": m for i, m in enumerate(models)})
    return {
        name: torch.stack([m[name].double() for m in models]).mean(dim=0).float()
        for name in models[0]
    }


def _line(
    start: torch.Tensor, tail: torch.Tensor, head: torch.Tensor, share: float
) -> torch.Tensor:
    return (start.double() + share * (head.double() - tail.double())).float()


def _same(models: Mapping[str, Weights]) -> None:
    """Raise UserError where parameters differ in name or shape."""
    (first, reference), *others = models.items()
    for label, weights in others:
        odd = sorted(set(reference) ^ set(weights))
        if odd:
            owner = first if odd[0] in reference else label
            raise UserError(
                f"only {owner} has '{odd[0]}', and {len(odd) - 1} more names differ",
                "merge models of one architecture",
            )
        for name, tensor in reference.items():
            if tensor.shape != weights[name].shape:
                raise UserError(
                    f"'{name}' is {tuple(tensor.shape)} in {first} and "
                    f"{tuple(weights[name].shape)} in {label}",
                    "merge models of one size and one vocabulary",
                )
