"""A domain task in a form that its model was not trained on is told apart from one that was."""

import json
from pathlib import Path

import pytest
from tiny import tiny_recipe

from alloy.planning.planning import plan_recipe
from alloy.runs import evaluation
from alloy.runs.building import build_recipe
from alloy.runs.evaluation import template_caveats
from configs import UserError
from configs.load import parse_recipe


def test_prompts_unlike_all_training_rows_are_a_caveat(tiny: Path, tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": f"Note: stone {n}\nKind: river\n"} for n in range(40)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    test = [{"note": f"cloud {n}", "label": "river"} for n in range(4)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in test))
    tree = tiny_recipe(tiny, tmp_path)
    tree["data"]["sources"][0]["path"] = str(tmp_path / "own.jsonl")
    tree["data"]["sources"][0]["max_epochs"] = 1000
    tasks = {"same": "Note: {note}\nKind:", "other": "{note} is a"}
    tree["evals"] = {
        "domain": [
            {"name": name, "path": str(tmp_path / "test.jsonl"), "template": template}
            for name, template in tasks.items()
        ]
    }
    recipe = parse_recipe(tree)
    build_recipe(recipe, lambda _: None)
    [caveat] = template_caveats(recipe, plan_recipe(recipe))
    assert caveat.startswith("other: none of the first ")
    assert caveat.endswith("has the form of its prompts ('is a')")


def test_ids_that_cannot_be_decoded_are_a_caveat_too(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test.jsonl").write_text('{"prompt": "a", "label": "b"}\n')
    tree = tiny_recipe(tiny, tmp_path)
    tree["evals"] = {"domain": [{"name": "t", "path": str(tmp_path / "test.jsonl")}]}
    recipe = parse_recipe(tree)
    build_recipe(recipe, lambda _: None)

    def refuse(_: object) -> None:
        raise UserError("stored ids cannot be decoded: no BPE")

    monkeypatch.setattr(evaluation, "Decoder", refuse)
    [caveat] = template_caveats(recipe, plan_recipe(recipe))
    assert "cannot be decoded" in caveat
