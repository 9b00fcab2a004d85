"""An axis of a chart: where a value goes, and the ticks that label it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alloy.reports.text import number


@dataclass(frozen=True, kw_only=True)
class Axis:
    """``label`` names the quantity and its unit; ``ticks`` are (value, text) inside [low, high]."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    square_root: bool = False
    inset: float = 0.0
    """Share of the axis left free before ``low`` and after ``high``."""

    def place(self, value: float, start: float, end: float) -> float:
        """Coordinate of ``value`` on a line that runs from ``start`` to ``end``."""
        low, high, at = self.low, self.high, value
        if self.square_root:
            low, high, at = math.sqrt(low), math.sqrt(high), math.sqrt(at)
        reach = self.inset + (1 - 2 * self.inset) * (at - low) / (high - low)
        return start + (end - start) * reach


def linear_axis(
    label: str, values: Iterable[float], kind: str, *, floor: float | None = None, count: int = 6
) -> Axis:
    """An axis over ``values`` with round ticks; ``floor`` keeps it from going lower.

    ``kind`` is the writing of the tick texts (``text.number``).
    """
    seen = list(values)
    low, high = min(seen), max(seen)
    span = high - low or max(abs(high) * 0.1, 1e-3)
    low, high = low - 0.07 * span, high + 0.07 * span
    if floor is not None:
        low = max(low, floor)
    step = round_step((high - low) / count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    at = [i * step for i in range(first, last + 1)]
    return Axis(
        label=label, low=low, high=high, ticks=tuple(zip(at, _texts(at, kind), strict=True))
    )


def share_axis(label: str, shares: Sequence[float]) -> Axis:
    """General shares on a square-root scale, so that 1%, 5% and 100% all have room.

    Every measured share is a tick, except where its text would run into the one before.
    """
    distinct = sorted(set(shares))
    high = max(distinct[-1], 0.01)
    kept: list[float] = []
    for share in distinct:
        if not kept or math.sqrt(share) - math.sqrt(kept[-1]) > 0.085 * math.sqrt(high):
            kept.append(share)
    ticks = tuple((share, number(share, "share")) for share in kept)
    return Axis(label=label, low=0.0, high=high, ticks=ticks, square_root=True, inset=0.05)


def round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is not under ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))


def _texts(values: Sequence[float], kind: str) -> list[str]:
    """Tick texts with as many digits as tell neighbours apart."""
    if kind in ("tokens", "lr"):
        return [number(value, kind) for value in values]
    scale, unit = (100.0, "%") if kind == "percent" else (1.0, "")
    shown = [scale * value for value in values]
    step = abs(shown[1] - shown[0]) if len(shown) > 1 else 1.0
    digits = next(d for d in range(9) if abs(round(step, d) - step) < 1e-6 * step or d == 8)
    return [_tick(value, digits, signed=kind.endswith("change")) + unit for value in shown]


def _tick(value: float, digits: int, *, signed: bool) -> str:
    if abs(value) < 1e-12:
        return "0"
    sign = "−" if value < 0 else "+" if signed else ""
    return f"{sign}{abs(value):.{digits}f}"
