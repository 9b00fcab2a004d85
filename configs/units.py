"""Numbers as people write them: counts with a suffix, shares in per cent."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_SUFFIX = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_COUNT = re.compile(r"^\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([KMBT]?)\s*$", re.IGNORECASE)
_PERCENT = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*$")


def parse_count(value: Any) -> Any:
    """Turn ``"1.5M"`` into ``1500000``; suffixes K, M, B, T are powers of 1,000."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    match = _COUNT.match(value)
    if match is None:
        raise ValueError(f"'{value}' is not a count such as 2000000, 500M or 2B")
    scaled = float(match[1].replace("_", "")) * _SUFFIX[match[2].upper()]
    if scaled != int(scaled):
        raise ValueError(f"'{value}' is not a whole number")
    return int(scaled)


def parse_share(value: Any) -> Any:
    """Turn ``"25%"`` into ``0.25``; plain numbers pass through."""
    if not isinstance(value, str):
        return value
    match = _PERCENT.match(value)
    if match is None:
        raise ValueError(f"'{value}' is not a share such as 0.25 or 25%")
    return float(match[1]) / 100


Count = Annotated[int, BeforeValidator(parse_count)]
Share = Annotated[float, BeforeValidator(parse_share)]
