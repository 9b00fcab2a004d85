"""Finds the labels in what a model wrote: strictly, and whatever is written around them."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from configs import DomainMetric

SEPARATOR = " > "
JOINER = " | "
FLAGGED, UNFLAGGED = "Yes", "No"
NOTHING = "none"
"""What is written, and expected, where no label of a multi-label task applies."""
SETS: tuple[DomainMetric, ...] = ("multi_label", "moderation")
"""Metrics whose rows have a set of labels."""
_NOT_WORD = re.compile(r"[\W_]+")
_VERDICT = re.compile(r"\s*(yes|no)\b[\s:,.\-]*(.*)", re.IGNORECASE | re.DOTALL)
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}


def canonical(text: str, metric: DomainMetric) -> str:
    """A label as it is compared: outer spaces dropped, separators of a path evened out."""
    if metric == "label_path":
        return SEPARATOR.join(part.strip() for part in text.split(">"))
    return text.strip()


def written_labels(text: str, metric: DomainMetric) -> list[str]:
    """The labels in an answer, in order and with repetitions; none where it has not the form.

    A set of labels is a JSON list, or labels between commas, semicolons or bars. A verdict is a
    JSON object with ``flag`` and ``category`` with anything around it (but only one), or ``Yes`` or
    ``No`` at the start and the categories after it; its first label is Yes or No.
    """
    if metric == "multi_label":
        return _several(text)
    if metric == "moderation":
        return _verdict(text)
    label = canonical(text, metric)
    return [label] if label else []


def _several(text: str) -> list[str]:
    if text.strip().startswith("["):
        try:
            tree = json.loads(text)
        except ValueError:
            return []
        return [t.strip() for t in tree if t.strip()] if _all_text(tree) else []
    return _split(text)


def _split(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"[,;|\n]", text) if part.strip()]


def _all_text(tree: Any) -> bool:
    return isinstance(tree, list) and all(isinstance(item, str) for item in tree)


def _verdict(text: str) -> list[str]:
    objects = [tree for tree in _objects(text) if _flag(tree) is not None]
    if objects:
        flag, categories = _flag(objects[0]), _categories(objects[0])
        if len(objects) > 1 or categories is None:
            return []
        return [FLAGGED if flag else UNFLAGGED, *categories]
    match = _VERDICT.match(text)
    if match is None:
        return []
    flag = _FLAGS[match[1].lower()]
    categories = [part.strip(" .()[]") for part in _split(match[2])]
    return [FLAGGED if flag else UNFLAGGED, *(c for c in categories if c and c != NOTHING)]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects in a text."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            tree, end = decoder.raw_decode(text, start)
        except ValueError:
            end = start + 1
        else:
            yield tree
        start = text.find("{", end)


def _flag(tree: dict[str, Any]) -> bool | None:
    value = tree.get("flag", tree.get("flagged"))
    return value if isinstance(value, bool) else _FLAGS.get(str(value).strip().lower())


def _categories(tree: dict[str, Any]) -> list[str] | None:
    value = tree.get("category", tree.get("categories"))
    if value is None:
        return []
    if isinstance(value, str):
        return [part for part in _split(value) if part != NOTHING]
    return [item.strip() for item in value if item.strip()] if _all_text(value) else None


def normalized(text: str) -> str:
    """Words in lower case with single spaces: case, punctuation and spacing do not count."""
    return " ".join(_NOT_WORD.sub(" ", text.casefold()).split())


def search_forms(labels: Iterable[str]) -> list[str]:
    """What ``labels_found`` looks for: the labels' words, the longest label first."""
    forms = {_spaced(label) for label in labels} - {""}
    return sorted(forms, key=lambda form: (-len(form), form))


def labels_found(prediction: str, gold: Sequence[str], forms: Sequence[str]) -> bool:
    """Whether the answer names the right labels and no other, whatever is written around them.

    ``forms`` are the ``search_forms`` of all labels. Whole words count, the longest label first,
    so "late refund" is not also "refund". A label named twice, or beside a wrong one, is not an
    answer.
    """
    text, want = _spaced(prediction), sorted(_spaced(label) for label in gold)
    if "" in want:  # a label of punctuation alone
        return prediction.strip() == JOINER.join(gold)
    found = []
    for form in forms:
        pieces = text.split(form)
        found += [form] * (len(pieces) - 1)
        text = "\x00".join(pieces)  # what was matched is not matched again
    return sorted(found) == want


def _spaced(text: str) -> str:
    """Words with a space on either side of each, so that two that touch are both found."""
    return "".join(f" {word} " for word in normalized(text).split())
