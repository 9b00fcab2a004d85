"""Makes weights from weights, by name: between two models, with a residual, the mean of several.

Sums run in float64 and come back in float32, so a merge does not depend on the order of its parts.
A tensor of a merge is computed when it is asked for, and not kept: no merged model is held beside
those that it is made of.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch

from configs import UserError

Weights = Mapping[str, torch.Tensor]


class _Merged(Mapping[str, torch.Tensor]):
    """Tensors by name, each computed anew whenever it is asked for."""

    def __init__(self, names: Iterable[str], compute: Callable[[str], torch.Tensor]) -> None:
        self._names = dict.fromkeys(names)
        self._compute = compute

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._compute(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def between(base: Weights, trained: Weights, share: float) -> Weights:
    """base + share x (trained - base): 0 is the base and 1 the trained model, to the bit."""
    _same({"the base": base, "the trained model": trained})
    return _Merged(trained, lambda n: _line(trained[n], base[n], trained[n], share - 1))


def residual(trained: Weights, base: Weights, tuned: Weights, share: float) -> Weights:
    """trained + share x (tuned - base): what tuning made of the base, put on its continuation."""
    _same({"the base": base, "the trained model": trained, "the model to add": tuned})
    return _Merged(trained, lambda n: _line(trained[n], base[n], tuned[n], share))


def mean(models: Sequence[Weights]) -> Weights:
    """The plain mean, which stands for a linear anneal over the stretch that the models span."""
    _same({f"model {i + 1}": m for i, m in enumerate(models)})
    return _Merged(models[0], lambda n: _mean([m[n] for m in models]))


def _line(
    start: torch.Tensor, tail: torch.Tensor, head: torch.Tensor, share: float
) -> torch.Tensor:
    # In place, as an embedding alone may be gigabytes.
    difference = head.to(torch.float64, copy=True).sub_(tail)
    return difference.mul_(share).add_(start).float()


def _mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    first, *others = tensors
    total = first.to(torch.float64, copy=True)
    for tensor in others:
        total += tensor
    return (total / len(tensors)).float()


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
