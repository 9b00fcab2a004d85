"""Placing direct labels beside their points without overlaps."""

from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT = 12.0


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle in the chart's pixels; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Area that two boxes share."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide * high if wide > 0 and high > 0 else 0.0

    def outside(self, frame: "Box") -> float:
        """Area of this box that lies outside ``frame``."""
        area = (self.right - self.left) * (self.bottom - self.top)
        return area - self.overlap(frame)


def text_width(text: str, size: float = 12.0) -> float:
    """Estimated width in pixels; wide scripts count double."""
    return sum(1.0 if ord(c) > 0x2E7F else 0.56 for c in text) * size


def place_labels(
    points: Sequence[tuple[float, float, str]], taken: Sequence[Box], frame: Box
) -> list[tuple[float, float, str]]:
    """Greedy: each label takes the free one of sixteen places around its point, or the least bad.

    ``points`` are (x, y, text); returns (x, y of the baseline's start, text).
    """
    boxes = list(taken)
    placed = []
    for x, y, text in points:
        width = text_width(text)
        choices = _around(x, y, width)
        best = min(
            range(len(choices)),
            key=lambda i: (_cost(choices[i], boxes, frame), i),  # noqa: B023 - used at once
        )
        box = choices[best]
        boxes.append(box)
        placed.append((box.left, box.bottom - 2.5, text))
    return placed


def _cost(box: Box, taken: Sequence[Box], frame: Box) -> float:
    return sum(box.overlap(other) for other in taken) + 3 * box.outside(frame)


def _around(x: float, y: float, width: float) -> list[Box]:
    """Places right, left, above, below and at the corners, near ones first."""
    boxes = []
    for gap in (9.0, 20.0):
        for side, rise in ((1, 0), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1), (0, -1), (0, 1)):
            middle_x = x + side * (gap + width / 2)
            middle_y = y + rise * (gap + HEIGHT / 4)
            boxes.append(
                Box(
                    left=middle_x - width / 2,
                    top=middle_y - HEIGHT / 2,
                    right=middle_x + width / 2,
                    bottom=middle_y + HEIGHT / 2,
                )
            )
    return boxes
