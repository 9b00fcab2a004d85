"""Results of verbs: the JSON and the text that commands printed before, files, errors, the door."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from places import python_path
from rooms import exported
from workshop import ANSWERS, steady, write_answered, write_examples

import alloy
from alloy.commands.plan import command as plan_command
from alloy.runs.building import cores
from alloy.verbs.result import Result
from configs import CheckFailed, UserError

VERBS = {"load", "plan", "build", "train", "evaluate", "sweep", "report", "merge", "export"}


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What `alloy plan` and `alloy build` printed at commit b1891e7, where they built dicts."""
    return json.loads(ANSWERS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The same recipe, planned before and after it is built."""
    folder = tmp_path_factory.mktemp("answered")
    write_answered(tiny, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # The base of then had no weights, which is refused now.
        patch.setattr("alloy.verbs.plans.weights_of", lambda *_: None)
        recipe = alloy.load("answered.yaml")
        before, built = alloy.plan(recipe), alloy.build(recipe, quiet)
        again = alloy.build(recipe, quiet)
        yield {"before_build": before, "build": built, "again": again, "plan": alloy.plan(recipe)}


def quiet(_: str) -> None:
    """No progress."""


def as_printed(result: Result) -> str:
    """With the order of its keys."""
    return json.dumps(steady(result.to_json()), indent=1)


def test_json_and_tables_are_those_of_before(
    answers: dict[str, Any], results: dict[str, Any]
) -> None:
    for told, found in (
        (answers["before_build"]["plan"], results["before_build"]),
        (answers["build"], results["build"]),
        (answers["after_build"]["plan"], results["plan"]),
    ):
        assert as_printed(found) == json.dumps(told, indent=1)
    assert results["before_build"].table() + "\n" == answers["before_build"]["table"]
    assert results["plan"].table() + "\n" == answers["after_build"]["table"]
    assert results["again"].table() + "\n" == answers["build_again"]["table"]


def test_the_command_prints_the_result(results: dict[str, Any]) -> None:
    found = results["plan"]
    printed = CliRunner().invoke(plan_command, ["answered.yaml", "--json"])
    assert steady(json.loads(printed.stdout)) == steady(found.to_json())
    assert CliRunner().invoke(plan_command, ["answered.yaml"]).stdout == found.table() + "\n"


def test_results_come_back_from_their_files(results: dict[str, Any], tmp_path: Path) -> None:
    for name in ("before_build", "build", "plan"):
        found, path = results[name], tmp_path / f"{name}.json"
        found.save(path)
        assert type(found).load(path) == found
    printed = tmp_path / "printed.json"
    printed.write_text(json.dumps(results["plan"].to_json()))
    assert alloy.PlanResult.load(printed) == dataclasses.replace(results["plan"], remarks=())


def test_what_is_no_result_is_refused(results: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        alloy.PlanResult.load(tmp_path / "none.json")
    results["build"].save(tmp_path / "build.json")
    with pytest.raises(UserError, match="is no PlanResult"):
        alloy.PlanResult.load(tmp_path / "build.json")
    (tmp_path / "cut.json").write_text("{")
    with pytest.raises(UserError, match="is no BuildResult"):
        alloy.BuildResult.load(tmp_path / "cut.json")


def test_results_are_frozen_down_to_their_parts(results: dict[str, Any]) -> None:
    plan = results["plan"]
    for part in (plan, plan.phases[0], plan.phases[0].sources[0], plan.sweep.arms[0], plan.start):
        name = dataclasses.fields(part)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, None)


def test_checks_of_results(results: dict[str, Any]) -> None:
    results["build"].require_balanced()
    off = dataclasses.replace(results["build"], ledger_balanced=False)
    with pytest.raises(CheckFailed, match="does not balance"):
        off.require_balanced()


def test_the_door_gives_the_verbs_and_their_results() -> None:
    names = exported("alloy")
    assert {name for name in names if name.islower()} == VERBS | {"__version__"}
    assert names - {"__version__"} <= set(dir(alloy))
    for name in names:
        assert getattr(alloy, name) is not None
    for verb in VERBS - {"load"}:
        assert f"{verb.capitalize()}Result" in names


def test_importing_loads_no_verb() -> None:
    heavy = ("torch", "transformers", "numpy", "pydantic", "alloy.verbs")
    code = f"import sys, alloy; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_planning_and_building_load_no_torch(results: dict[str, Any]) -> None:
    """``results`` has built the recipe, and it is the working directory."""
    code = (
        "import sys, alloy\n"
        "recipe = alloy.load('answered.yaml')\n"
        "alloy.plan(recipe), alloy.build(recipe)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert results
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(cores() < 2, reason="one core tokenizes in the process itself")
def test_a_script_without_a_guard_is_told_so(tiny: Path, tmp_path: Path) -> None:
    """Its worker processes run it again: it waited for itself."""
    write_examples(tiny, tmp_path)
    body = "print(alloy.build(alloy.load('recipe.yaml')).ledger_balanced)\n"
    guard = 'if __name__ == "__main__":\n    '
    (tmp_path / "bare.py").write_text("import alloy\n" + body)
    (tmp_path / "guarded.py").write_text("import alloy\n" + guard + body)

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, name]
        environment = {**os.environ, "PYTHONPATH": python_path()}
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    bare = run("bare.py")
    assert bare.returncode != 0
    assert "the script builds at its top level" in bare.stderr
    assert run("guarded.py").stdout == "True\n"
