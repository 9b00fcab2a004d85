"""A law fitted to the end points of a sweep: chosen form, noise level, bootstrap."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from alloy.law.forms import Array, Candidate, candidates
from alloy.law.projection import Fits, LeaveOneOut, Projection
from configs import UserError

FEWEST_SHARES = 4
"""Three parameters, and one run left to be wrong about."""
RESAMPLES = 1000
LEVELS = (0.025, 0.975)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """End points of runs, an entry a run: ``share`` of the text whose loss ``loss`` is."""

    share: Array
    tokens: Array
    loss: Array

    def groups(self) -> Array:
        """(n,) which runs are repeats of each other: equal share and tokens."""
        pairs = np.stack([self.share, self.tokens], axis=1)
        return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(float)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How far runs lie from the curve, as standard deviations."""

    sd: float
    """Between two runs that differ in their seed alone."""
    degrees: int
    """Degrees of freedom that ``sd`` rests on."""
    source: Literal["repeats", "residuals"]
    """Repeated seeds; without any, what the chosen curve leaves over."""
    misfit_sd: float
    """What the means of repeats stray from the curve beyond ``sd``: the curve's own error. 0
    without repeats, where the two cannot be told apart."""
    misfit_p: float | None
    """F test of that misfit; None without repeats."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A law at m shares: the curve with its 95% interval, and the interval of one further run."""

    value: Array
    low: Array
    high: Array
    upper: Array
    """One-sided 95% upper bound of the curve."""
    lower: Array
    run_low: Array
    run_high: Array
    extrapolated: np.ndarray
    """(m,) whether the share or the tokens lie outside the runs."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """A fitted curve and draws of it; ``errors`` are leave-one-out errors by form."""

    runs: Runs
    fit: Fits
    draws: tuple[Fits, ...]
    """Bootstrap fits, those of one form together."""
    draw_sd: Array
    """(B,) noise level of each draw, in the order of ``draws``."""
    noise: Noise
    errors: dict[str, float]
    seed: int

    @property
    def form(self) -> Candidate:
        return self.fit.candidate

    @property
    def share_range(self) -> tuple[float, float]:
        return float(self.runs.share.min()), float(self.runs.share.max())

    def curve(self, share: Array, tokens: float | None = None) -> Array:
        """(m,) the fitted curve; ``tokens`` is that of the longest runs where left out."""
        return self.fit.values(share, self._scaled(share, tokens))[0]

    def curve_draws(self, share: Array, tokens: float | None = None) -> Array:
        """(B, m) the bootstrap's curves."""
        scaled = self._scaled(share, tokens)
        return np.concatenate([fits.values(share, scaled) for fits in self.draws])

    def predict(self, share: Array, tokens: float | None = None) -> Prediction:
        """The curve at ``share`` with its intervals."""
        draws = self.curve_draws(share, tokens)
        low, lower, upper, high = np.quantile(draws, (0.025, 0.05, 0.95, 0.975), axis=0)
        further = np.random.default_rng(self.seed + 1).standard_normal(draws.shape)
        run_low, run_high = np.quantile(draws + self.draw_sd[:, None] * further, LEVELS, axis=0)
        least, most = self.share_range
        at = self.runs.tokens.max() if tokens is None else tokens
        outside = (
            self.form.tokens != "fixed"
            and not self.runs.tokens.min() <= at <= self.runs.tokens.max()
        )
        return Prediction(
            value=self.curve(share, tokens),
            low=low,
            high=high,
            upper=upper,
            lower=lower,
            run_low=run_low,
            run_high=run_high,
            extrapolated=(share < least) | (share > most) | outside,
        )

    def _scaled(self, share: Array, tokens: float | None) -> Array:
        at = self.runs.tokens.max() if tokens is None else tokens
        return np.full_like(share, at / np.median(self.runs.tokens))


def fit_law(runs: Runs, *, resamples: int = RESAMPLES, seed: int = 0) -> Law:
    """Fit every form that the runs can tell from its rivals and keep the best.

    The form is chosen by leave-one-out error over distinct (share, tokens); repeated seeds are
    left out together. The parametric bootstrap draws losses from the fitted curve with the misfit
    and the noise level, the latter itself drawn from its uncertainty (scaled inverse chi-square),
    and chooses and fits anew each time.

    Raises UserError where there are fewer than FEWEST_SHARES shares.
    """
    count = len(np.unique(runs.share))
    if count < FEWEST_SHARES:
        raise UserError(
            f"a law needs {FEWEST_SHARES} general shares, there are {count}", "add shares"
        )
    chooser = _Chooser(runs)
    losses = runs.loss[None, :]
    errors = chooser.errors(losses)
    best = int(np.argmin(errors[:, 0]))
    fit = chooser.fit(best, losses)
    spread = _Spread(runs, fit)
    draws, drawn_sd = spread.draws(fit, resamples, np.random.default_rng(seed))
    chosen = chooser.errors(draws).argmin(axis=0)
    order = np.argsort(chosen, kind="stable")
    return Law(
        runs=runs,
        fit=fit,
        draws=tuple(chooser.fit(int(i), draws[chosen == i]) for i in np.unique(chosen)),
        draw_sd=drawn_sd[order],
        noise=spread.noise(),
        errors={c.name: float(e) for c, e in zip(chooser.candidates, errors[:, 0], strict=True)},
        seed=seed,
    )


class _Chooser:
    """Every candidate compiled for the runs' places."""

    def __init__(self, runs: Runs) -> None:
        tokens = runs.tokens / np.median(runs.tokens)
        groups = runs.groups()
        left = len(np.unique(groups)) - 1
        # Tokens that follow from the share (fixed domain tokens) are no axis of their own.
        with_tokens = left + 1 > len(np.unique(runs.share))
        found = candidates(float(runs.share.min()), with_tokens)
        self.candidates = [c for c in found if c.parameters <= left]
        if not self.candidates:
            raise UserError(
                f"a law over share and tokens needs more than {left + 1} distinct runs",
                "add shares or token budgets",
            )
        self._whole = [Projection(c, runs.share, tokens, c.shapes) for c in self.candidates]
        self._without = [LeaveOneOut(c, runs.share, tokens, groups) for c in self.candidates]

    def errors(self, losses: Array) -> Array:
        """(candidates, B)"""
        return np.stack([one.error(losses) for one in self._without])

    def fit(self, candidate: int, losses: Array) -> Fits:
        return self._whole[candidate].fit(losses)


class _Spread:
    """Mean squares of the runs about the curve, within groups of repeats and between them."""

    def __init__(self, runs: Runs, fit: Fits) -> None:
        self._runs = runs
        self._groups = np.unique(runs.groups(), return_inverse=True)[1]
        sizes = np.bincount(self._groups)
        means = np.bincount(self._groups, runs.loss) / sizes
        self._size = float(len(runs.loss) / len(sizes))
        self._repeats = int((sizes - 1).sum())
        self._left = len(sizes) - fit.candidate.parameters
        within = float(np.square(runs.loss - means[self._groups]).sum())
        between = max(float(fit.residual[0]) - within, 0.0)
        self._within = within / self._repeats if self._repeats else 0.0
        self._between = between / self._left if self._left else self._within

    def noise(self) -> Noise:
        if not self._repeats:
            return Noise(
                sd=float(np.sqrt(self._between)),
                degrees=self._left,
                source="residuals",
                misfit_sd=0.0,
                misfit_p=None,
            )
        p = None
        if self._left and self._within > 0:
            p = float(stats.f.sf(self._between / self._within, self._left, self._repeats))
        return Noise(
            sd=float(np.sqrt(self._within)),
            degrees=self._repeats,
            source="repeats",
            misfit_sd=float(np.sqrt(max(self._between - self._within, 0.0) / self._size)),
            misfit_p=p,
        )

    def draws(self, fit: Fits, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """(B, n) losses and (B,) noise levels of one run, misfit included."""
        runs = self._runs
        if self._repeats:
            noise = self.noise()
            within = noise.sd**2 * self._repeats / rng.chisquare(self._repeats, count)
            misfit = noise.misfit_sd**2
        else:
            within = self._between * self._left / rng.chisquare(self._left, count)
            misfit = 0.0
        shared = rng.standard_normal((count, self._groups.max() + 1))[:, self._groups]
        own = rng.standard_normal((count, len(runs.loss)))
        fitted = fit.values(runs.share, runs.tokens / np.median(runs.tokens))
        losses = fitted + np.sqrt(misfit) * shared + np.sqrt(within)[:, None] * own
        return losses, np.sqrt(within + misfit)
