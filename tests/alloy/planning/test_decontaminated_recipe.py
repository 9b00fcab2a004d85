"""``data.decontaminate`` through plans, training records and the command line."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_recipe, write_recipe

from alloy.planning.planning import Planned, plan_recipe
from alloy.runs.building import build_recipe
from alloy.runs.training import _job, corpus_receipt
from configs import UserError
from configs.load import parse_recipe
from mixing.corpus import open_corpus
from mixing.selection.matches import RULE_VERSION, read_matches

LONG = 20
"""Words of a text that are enough for an item of it to be judged."""


def quiet(_: str) -> None:
    pass


def texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


@pytest.fixture
def tree(tiny: Path, tmp_path: Path) -> dict[str, Any]:
    """The tiny recipe with two domain tasks: three rows of one stand in the corpus."""
    words = [t for t in texts(tiny / "domain.jsonl") if len(t.split()) >= LONG]
    found = [" ".join(text.split()[5:LONG]) for text in words[:3]]
    unseen = [f"question {i} about something else that stands nowhere at all" for i in range(5)]
    evals = {"domain": []}
    for name, prompts in (("leaked", found + unseen), ("clean", unseen)):
        path = tmp_path / f"{name}.jsonl"
        rows = [{"prompt": prompt, "label": "x"} for prompt in prompts]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        evals["domain"].append({"name": name, "path": str(path)})
    made = tiny_recipe(tiny, tmp_path, evals=evals)
    for source in made["data"]["sources"]:
        source["heldout"] = 0
    made["data"] |= {"decontaminate": ["leaked"], "max_contaminated": "5%"}
    return made


def planned(tree: dict[str, Any], *overrides: str) -> Planned:
    recipe = parse_recipe(tree, overrides)
    build_recipe(recipe, quiet)
    return plan_recipe(recipe)


def store_state(store: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every file of the built sources."""
    files = [p for p in store.glob("[!.]*/*") if p.is_file()]
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


def test_an_eval_changes_packing_and_nothing_that_is_built(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    before = planned(tree, "data.decontaminate=[]")
    state = store_state(tmp_path / "store")
    after = planned(tree)
    assert store_state(tmp_path / "store") == state
    assert after.keys == before.keys
    assert after.plan.hash != before.plan.hash
    assert before.corpus is not None
    assert after.corpus is not None
    gone = before.corpus.packed["own"].tokens - after.corpus.packed["own"].tokens
    own, web = after.corpus.removed
    assert (own.source, own.documents_removed, own.passages_removed) == ("own", 3, 3)
    assert (web.source, web.documents_removed, web.passages_removed, web.tokens_removed) == (
        "web",
        0,
        0,
        0,
    )
    assert (
        own.tokens_removed <= gone <= own.tokens_removed + 2 * own.passages_removed
    )  # single tokens at the edges
    assert after.corpus.packed["web"].hash == before.corpus.packed["web"].hash
    was, ledger = before.corpus.ledgers["own"], after.corpus.ledgers["own"]
    assert was.balanced
    assert ledger.balanced
    assert was.tokens["contaminated"] == 0
    assert ledger.tokens["contaminated"] == gone
    assert sum(was.tokens.values()) == sum(ledger.tokens.values())


def test_matching_runs_once_for_a_source_and_an_eval_set(tree: dict[str, Any]) -> None:
    planned(tree)
    told: list[str] = []
    build_recipe(parse_recipe(tree), told.append)
    assert not [line for line in told if "looking for" in line]
    build_recipe(parse_recipe(tree, ["data.decontaminate=[leaked, clean]"]), told.append)
    assert [line for line in told if "looking for" in line] == [
        "own: looking for items of clean in 120 documents",
        "web: looking for items of clean in 200 documents",
    ]


def test_one_search_for_two_evals_finds_what_two_searches_find(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    planned(tree)
    both = planned(tree, "data.decontaminate=[leaked, clean]", f"data.store={tmp_path}/other")
    one = planned(tree, "data.decontaminate=[leaked, clean]")
    assert one.corpus is not None
    assert both.corpus is not None
    assert [asdict(r) | {"matches": ""} for r in one.corpus.removed] == [
        asdict(r) | {"matches": ""} for r in both.corpus.removed
    ]


def test_the_files_for_review_hold_the_passages(tree: dict[str, Any], tiny: Path) -> None:
    corpus = planned(tree).corpus
    assert corpus is not None
    path = Path(corpus.removed[0].matches)
    key, eval_hash = corpus.readers["own"].key, corpus.removed[0].hash
    assert path.name == f"{key}-{eval_hash}-r{RULE_VERSION}.jsonl"
    header, rows = read_matches(path)
    assert (header["items"], header["matches"], len(rows)) == (8, 3, 3)
    domain = texts(tiny / "domain.jsonl")
    for row in rows:
        assert row["passage"].strip() in domain[row["line"] - 1]
        assert row["id"] == f"domain-{row['line'] - 1}"
    path.write_bytes(path.read_bytes().replace(b'"item": ', b'"item":  ', 1))
    with pytest.raises(UserError, match="not what was written"):
        planned(tree)


def test_too_much_must_be_acknowledged(tree: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"source 'own': \d+ of its [\d,]+ tokens") as refused:
        planned(tree, "data.max_contaminated=0.1%")
    assert "leaked" in refused.value.message
    assert "data.max_contaminated is 0.10%" in refused.value.message
    assert "agree with data.max_contaminated: " in refused.value.hint
    planned(tree, "data.max_contaminated=" + refused.value.hint.rpartition(" ")[2])


def test_unknown_names_are_refused_with_the_valid_ones(tree: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="'mmlu'; valid names: leaked, clean"):
        parse_recipe(tree, ["data.decontaminate=mmlu"])
    with pytest.raises(UserError, match="the recipe has no evals"):
        parse_recipe({**tree, "evals": {}})
    with pytest.raises(UserError, match="named twice"):
        parse_recipe(tree, ["data.decontaminate=[leaked, leaked]"])


def test_a_corpus_that_was_not_searched_is_not_planned_on(tree: dict[str, Any]) -> None:
    done = planned(tree, "data.decontaminate=[]")
    assert done.corpus is not None
    waiting = plan_recipe(parse_recipe(tree))
    assert waiting.plan.estimated
    with pytest.raises(UserError, match="was not searched for the items of leaked"):
        open_corpus(parse_recipe(tree).data, waiting.keys, waiting.eval_hashes)


def test_lineage_and_receipt_name_the_evals(tree: dict[str, Any], tmp_path: Path) -> None:
    recipe = parse_recipe(tree)
    made = planned(tree)
    assert recipe.base is not None
    job = _job(recipe, tmp_path, made)
    said = job.lineage["decontaminated"]
    assert said["clean"] is None
    assert said["leaked"]["hash"] == made.eval_hashes["leaked"] == job.eval_hashes["leaked"]
    assert said["leaked"]["documents_removed"] == 3
    found = corpus_receipt(made)
    assert found["ok"]
    assert [(r["source"], r["eval"], r["documents_removed"]) for r in found["decontaminated"]] == [
        ("own", "leaked", 3),
        ("web", "leaked", 0),
    ]
    again = open_corpus(job.data, job.keys, job.eval_hashes)
    assert {n: p.hash for n, p in again.packed.items()} == {
        source.name: source.pack_hash for source in made.plan.sources
    }


def test_the_command_says_what_was_left_out(
    tree: dict[str, Any], tmp_path: Path, alloy: Callable[..., Any]
) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tree)
    too_early = alloy("corpus", "verify", recipe)
    assert too_early.returncode == 2
    built = alloy("build", recipe)
    assert built.returncode == 0, built.stderr
    assert "own: 3 passages" in built.stdout
    assert "they repeat leaked" in built.stdout
    entries = json.loads(alloy("build", recipe, "--json").stdout)["decontaminated"]
    verified = json.loads(alloy("corpus", "verify", recipe, "--json").stdout)
    assert verified["decontaminated"] == entries
    assert [e["documents_removed"] for e in entries] == [3, 0]
    assert all(len(e["hash"]) == 32 for e in entries)


def test_the_exam_is_looked_for_with_its_choices(
    tree: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    words = next(t for t in texts(tiny / "general.jsonl") if len(t.split()) >= LONG).split()
    row = [" ".join(words[:12]), *words[12:16], "A"]
    (tmp_path / "exam/test").mkdir(parents=True)
    (tmp_path / "exam/test/rivers_test.csv").write_text(",".join(row) + "\n")
    exam = f"evals.mmlu={{path: {tmp_path}/exam, shots: 0}}"
    corpus = planned(tree, exam, "data.decontaminate=mmlu").corpus
    assert corpus is not None
    own, web = corpus.removed
    assert (own.documents_removed, web.documents_removed, web.eval) == (0, 1, "mmlu")
    _, rows = read_matches(Path(web.matches))
    assert rows[0]["passage"].split() == words[:16]
