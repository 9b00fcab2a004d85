"""Every example of a verb's docstring and of docs/python.md runs and says what it shows."""

import doctest
import re
from pathlib import Path

import pytest
from places import ROOT

import alloy

VERBS = ("load", "plan", "build", "train", "export", "merge", "evaluate", "sweep", "report")
"""In the order in which one uses what another has written."""


@pytest.fixture(scope="module")
def told(workshop: Path) -> dict[str, tuple[int, str]]:
    """How many examples each verb has, and what went wrong; one trained run serves them all."""
    assert workshop == Path.cwd()
    found = {}
    for verb in VERBS:
        (test,) = doctest.DocTestFinder(recurse=False).find(getattr(alloy, verb), verb)
        lines: list[str] = []
        doctest.DocTestRunner().run(test, out=lines.append)
        found[verb] = len(test.examples), "".join(lines)
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_of_a_verb(told: dict[str, tuple[int, str]], verb: str) -> None:
    examples, problems = told[verb]
    assert examples >= 2
    assert not problems, problems


def test_the_page_runs_from_its_top(told: dict[str, tuple[int, str]], workshop: Path) -> None:
    """After the examples, whose trained run and sweep it finds done."""
    assert told
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    parts = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(parts) >= 6
    names: dict[str, object] = {}
    for part in parts:
        exec(compile(part, "docs/python.md", "exec"), names)
    assert (workshop / "runs" / "tiny_sweep" / "report.html").is_file()


def test_the_page_names_every_verb() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `alloy\.(\w+)\(", page, re.MULTILINE)) == set(VERBS)
