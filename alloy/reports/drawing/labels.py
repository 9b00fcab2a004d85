"""Placing direct labels beside their points without overlaps."""

import itertools
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
    return sum(1.0 if ord(c) > 0x2E7F else 0.65 for c in text) * size


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text and the boxes that it may take, the preferred one first."""

    text: str
    choices: tuple[Box, ...]


def place_labels(
    labels: Sequence[Label], taken: Sequence[Box], frame: Box
) -> list[tuple[float, float, str]]:
    """Greedy: each label takes its first free box, or the one that covers least.

    Returns (x, y of the baseline's start, text).
    """
    boxes = list(taken)
    placed = []
    for label in labels:
        costs = [_cost(choice, boxes, frame) for choice in label.choices]
        box = label.choices[costs.index(min(costs))]
        boxes.append(box)
        placed.append((box.left, box.bottom - 2.5, label.text))
    return placed


def beside_point(x: float, y: float, text: str) -> Label:
    """Sixteen boxes around a point: sides and corners, near ones first."""
    return Label(text=text, choices=tuple(_around(x, y, text_width(text))))


def along_line(frame: Box, at: float, text: str, *, upright: bool) -> Label:
    """Boxes on either side of a reference line, from its far end back."""
    width = text_width(text)
    choices = []
    for part in (0.98, 0.86, 0.74, 0.62, 0.5, 0.38, 0.26, 0.14, 0.02):
        for side in (-1, 1):
            if upright:
                left = at + 5 if side > 0 else at - 5 - width
                bottom = frame.top + HEIGHT + part * (frame.bottom - frame.top - HEIGHT)
            else:
                left = frame.left + part * (frame.right - frame.left - width)
                bottom = at - 3 if side < 0 else at + 3 + HEIGHT
            choices.append(Box(left=left, top=bottom - HEIGHT, right=left + width, bottom=bottom))
    return Label(text=text, choices=tuple(choices))


def along_curve(points: Sequence[tuple[float, float]], step: float = 8.0) -> list[Box]:
    """Small boxes that cover a polyline, so that labels keep off it."""
    boxes = []
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        pieces = max(1, int(max(abs(x2 - x1), abs(y2 - y1)) / step))
        for i in range(pieces + 1):
            x, y = x1 + (x2 - x1) * i / pieces, y1 + (y2 - y1) * i / pieces
            boxes.append(Box(left=x - 2, top=y - 2, right=x + 2, bottom=y + 2))
    return boxes


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
