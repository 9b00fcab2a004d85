"""Curves that losses of continued pretraining follow over the share of a body of text.

Every curve is linear in its coefficients once one or two shape parameters are given: the fit scans
the shapes and solves for the rest (variable projection, Golub and Pereyra 1973).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COARSE = 10
"""Of the shapes, every so many are enough to choose a form by its leave-one-out error."""
_POWERS = np.concatenate([-np.geomspace(0.02, 3, 500)[::-1], np.geomspace(0.02, 3, 500)])
_RATES = np.geomspace(0.05, 200, 1000)
_SCALES = np.geomspace(0.05, 1e4, 1000)
_SHIFTED = [(b, a) for a in np.geomspace(0.2, 3, 12) for b in np.geomspace(0.3, 1e4, 150)]
_TOKEN_EXPONENTS = np.geomspace(0.05, 2, 10)


def _power(share: Array, exponent: Array) -> Array:
    with np.errstate(divide="ignore"):  # a falling power is infinite at a share of 0
        return np.power(share, exponent)


@dataclass(frozen=True, kw_only=True)
class Form:
    """One curve: ``curve(share, *shape)`` times a coefficient, plus a constant.

    ``shapes`` is the grid (G, number of shape parameters) that the fit scans.
    """

    name: str
    formula: str
    source: str
    curve: Callable[..., Array]
    shapes: Array

    def usable_shapes(self, least_share: float) -> Array:
        """The shapes at which the curve is finite from ``least_share`` on."""
        if self.name == "power" and least_share <= 0:
            return self.shapes[self.shapes[:, 0] > 0]
        return self.shapes


FORMS = (
    Form(
        name="power",
        formula="c + k r^s",
        source="CMR law (Gu et al. 2024)",
        curve=_power,
        shapes=_POWERS[:, None],
    ),
    Form(
        name="exponential",
        formula="c + k exp(-t r)",
        source="data mixing laws (Ye et al. 2024)",
        curve=lambda r, t: np.exp(-t * r),
        shapes=_RATES[:, None],
    ),
    Form(
        name="logarithmic",
        formula="c + k ln(1 + b r)",
        source="a + b ln r, moved so that a share of 0 has a value",
        curve=lambda r, b: np.log1p(b * r),
        shapes=_SCALES[:, None],
    ),
    Form(
        name="shifted_power",
        formula="c + k (1 + b r)^-a",
        source="D-CPT law (Que et al. 2024) at fixed tokens; Bethune et al. 2025",
        curve=lambda r, b, a: np.power(1 + b * r, -a),
        shapes=np.array(_SHIFTED),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A form, and how tokens enter it: not, beside the share, or scaling what the share does."""

    form: Form
    tokens: str
    """fixed, added (c + k f(r) + m T^-b) or scaled (c + f(r) (k + m T^-b)), T over its median."""
    shapes: Array
    """(G, shape parameters), the last of them b where tokens enter."""

    @property
    def name(self) -> str:
        return self.form.name if self.tokens == "fixed" else f"{self.form.name}, {self.tokens}"

    @property
    def parameters(self) -> int:
        """Coefficients and shapes together."""
        return (2 if self.tokens == "fixed" else 3) + self.shapes.shape[1]

    def basis(self, share: Array, tokens: Array, shapes: Array) -> Array:
        """(G, n, coefficients) at n pairs of share and tokens (over their median), for G shapes."""
        inner = shapes if self.tokens == "fixed" else shapes[:, :-1]
        columns = inner.T[:, :, None]  # (shape parameters, G, 1)
        curve = self.form.curve(share[None, :], *columns)  # (G, n)
        one = np.ones_like(curve)
        if self.tokens == "fixed":
            return np.stack([one, curve], axis=2)
        decay = np.power(tokens[None, :], -shapes[:, -1:])
        third = decay if self.tokens == "added" else curve * decay
        return np.stack([one, curve, third], axis=2)


def candidates(least_share: float, with_tokens: bool) -> list[Candidate]:
    """Every curve that may describe runs from ``least_share`` on, with tokens where they vary."""
    found = []
    for form in FORMS:
        shapes = form.usable_shapes(least_share)
        if not with_tokens:
            found.append(Candidate(form=form, tokens="fixed", shapes=shapes))
            continue
        coarse = shapes[::5]
        crossed = np.array([[*shape, b] for shape in coarse for b in _TOKEN_EXPONENTS])
        found += [Candidate(form=form, tokens=how, shapes=crossed) for how in ("added", "scaled")]
    return found
