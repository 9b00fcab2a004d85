"""Least squares over a grid of shapes, compiled once for where the runs lie.

With the shapes given a fit is linear, so that for all draws of the losses at once it is a product
of matrices; the shape of each draw is the one with the least residual.
"""

from dataclasses import dataclass

import numpy as np

from alloy.law.forms import COARSE, Array, Candidate


@dataclass(frozen=True, kw_only=True)
class Fits:
    """One fit a draw: ``shapes`` is (B, shape parameters), ``coefficients`` (B, p)."""

    candidate: Candidate
    shapes: Array
    coefficients: Array
    residual: Array
    """(B,) sums of squares."""

    def values(self, share: Array, tokens: Array) -> Array:
        """(B, m) at m pairs of share and tokens (over their median)."""
        basis = self.candidate.basis(share, tokens, self.shapes)  # (B, m, p)
        return np.einsum("bmp,bp->bm", basis, self.coefficients)


class Projection:
    """The least-squares maps of one candidate for one set of runs."""

    def __init__(self, candidate: Candidate, share: Array, tokens: Array, shapes: Array) -> None:
        self._candidate, self._shapes = candidate, shapes
        # (G, n, p), (G, p, p)
        self._q, r = np.linalg.qr(candidate.basis(share, tokens, shapes))
        # A singular shape (two columns alike on these runs) gets no coefficients of its own.
        diagonal = np.abs(np.diagonal(r, axis1=1, axis2=2))
        self._singular = diagonal.min(axis=1) < 1e-9 * diagonal.max(axis=1)
        r[self._singular] = np.eye(r.shape[1])
        self._solve = np.linalg.inv(r)  # (G, p, p)

    def fit(self, losses: Array) -> Fits:
        """The best shape and its coefficients for each row of ``losses`` (B, n)."""
        shapes, n, p = self._q.shape
        maps = self._q.transpose(0, 2, 1).reshape(shapes * p, n)
        # The constant is in every basis: without the mean, squares of residuals keep their digits.
        mean = losses.mean(axis=1, keepdims=True)
        centred = losses - mean
        explained = np.square(maps @ centred.T).reshape(shapes, p, -1).sum(axis=1)  # (G, B)
        explained[self._singular] = -np.inf
        best = explained.argmax(axis=0)  # (B,)
        projected = np.einsum("bnp,bn->bp", self._q[best], centred)
        coefficients = np.einsum("bpq,bq->bp", self._solve[best], projected)
        coefficients[:, 0] += mean[:, 0]
        residual = np.square(centred).sum(axis=1) - np.square(projected).sum(axis=1)
        return Fits(
            candidate=self._candidate,
            shapes=self._shapes[best],
            coefficients=coefficients,
            residual=np.maximum(residual, 0.0),
        )


class LeaveOneOut:
    """Fits of one candidate without each group of runs, and how far off that group they are."""

    def __init__(self, candidate: Candidate, share: Array, tokens: Array, groups: Array) -> None:
        self._share, self._tokens = share, tokens
        shapes = candidate.shapes[::COARSE]
        self._parts = []
        for group in np.unique(groups):
            held = groups == group
            kept = Projection(candidate, share[~held], tokens[~held], shapes)
            self._parts.append((held, kept))

    def error(self, losses: Array) -> Array:
        """(B,) root mean square over the groups of what a fit without each says of its mean."""
        squares = np.zeros(len(losses))
        for held, projection in self._parts:
            fits = projection.fit(losses[:, ~held])
            first = np.flatnonzero(held)[:1]
            told = fits.values(self._share[first], self._tokens[first])[:, 0]
            squares += np.square(told - losses[:, held].mean(axis=1))
        return np.sqrt(squares / len(self._parts))
