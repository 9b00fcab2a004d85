"""Text of records made safe to show, and numbers written the same way everywhere.

Names, notes and labels come from files that anyone may have written. Escaping for HTML is done by
``escape`` (charts) and by jinja2 (page); what is done here besides is to take out characters that
break a line of a terminal or turn the reading direction of what follows.
"""

import html
import math
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Any

MISSING = "–"
_UNSHOWN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: object, limit: int | None = None) -> str:
    """One line of text: control, direction and surrogate characters become U+FFFD.

    ``limit`` cuts to so many characters, the last of them an ellipsis.
    """
    line = " ".join(str(text).split())
    if limit is not None and len(line) > limit:
        line = line[: limit - 1] + "…"
    return "".join("\ufffd" if unicodedata.category(c) in _UNSHOWN else c for c in line)


def escape(text: object) -> str:
    """``visible`` text for an HTML or SVG element or a quoted attribute."""
    return html.escape(visible(text))


def aligned(rows: Sequence[Sequence[str]], left: Collection[int]) -> list[str]:
    """Lines of a table, its columns two spaces apart, as wide as their widest cell.

    Columns in ``left`` are aligned to the left, the others to the right. Every row has as many
    cells as the first.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def number(value: Any, kind: str) -> str:
    """A number as the page, the Markdown and the terminal write it; a missing one is a dash."""
    if value is None:
        return MISSING
    return _WRITERS[kind](value)


def _share(value: float) -> str:
    return f"{100 * value:.4g}%"


def _signed(value: float, digits: int) -> str:
    """A signed number with a real minus; zero after rounding has no sign."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "−") + text


def _probability(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _tokens(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def _learning_rate(value: float) -> str:
    if value == 0:
        return "0"
    power = math.floor(math.log10(value))
    return f"{value / 10**power:.3g}e{power}"


_WRITERS: dict[str, Callable[[Any], str]] = {
    "percent": lambda v: f"{100 * v:.1f}%",
    "share": _share,
    "near_share": lambda v: "<0.1%" if 0 < v < 0.0005 else f"{100 * v:.1f}%",
    "points": lambda v: _signed(100 * v, 1),
    "signed_points": lambda v: _signed(v, 1),
    "plain_points": lambda v: f"{v:.1f}",
    "f1": lambda v: f"{v:.3f}",
    "f1_change": lambda v: _signed(v, 3),
    "bpb": lambda v: f"{v:.4f}",
    "bpb_change": lambda v: _signed(v, 4),
    "count": lambda v: f"{v:,.0f}",
    "tokens": _tokens,
    "epochs": lambda v: f"{v:.2f}",
    "rows": lambda v: f"{v:.2f}",
    "p": _probability,
    "lr": _learning_rate,
    "seconds": lambda v: f"{v:,.0f} s",
    "hours": lambda v: f"{v:,.3f}",
    "money": lambda v: f"{v:,.2f}",
}
KINDS = tuple(_WRITERS)


def with_interval(value: float, interval: Sequence[float] | None, kind: str) -> str:
    """A number and, where there are any, its two limits in brackets."""
    if interval is None:
        return number(value, kind)
    low, high = (number(limit, kind) for limit in interval)
    return f"{number(value, kind)} ({low} to {high})"
