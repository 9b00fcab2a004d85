"""Which text bits per byte are measured on, and how few documents are too few for an interval."""

import json
from pathlib import Path

import pytest
from report_sweep import load, write_sweep
from tiny import tiny_recipe
from tokenizers import Tokenizer

from alloy.planning.planning import plan_recipe
from alloy.runs.building import build_recipe
from alloy.runs.evaluation import eval_documents
from configs.load import parse_recipe
from evals.stats.bootstrap import FEWEST_DOCUMENTS
from pretrain.training.documents import PASSAGES

MOST_TOKENS = 40 * PASSAGES


def test_a_long_document_gives_its_first_passage(tiny: Path, tmp_path: Path) -> None:
    lines = (tiny / "retention.jsonl").read_text(encoding="utf-8").splitlines()
    words = " ".join(json.loads(line)["text"] for line in lines) + " déjà vu"
    texts = [words, *(f"{word} über 漢字 {words[i:]}" for i, word in enumerate(words.split()[:9]))]
    path = tmp_path / "long.jsonl"
    rows = ({"id": f"long-{i}", "text": text} for i, text in enumerate(texts))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tree = tiny_recipe(tiny, tmp_path)
    tree["data"]["sources"][2]["path"] = str(path)
    recipe = parse_recipe(tree)
    build_recipe(recipe, lambda _: None)
    planned = plan_recipe(recipe)
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    found = [d for d in eval_documents(planned, MOST_TOKENS) if d.source == "wiki"]
    assert sorted(d.id for d in found) == sorted(f"long-{i}" for i in range(len(texts)))
    for document in found:
        text = texts[int(document.id.split("-")[1])]
        assert document.token_ids.tolist() == tokenizer.encode(text).ids[:40]
        read = text.encode()[: document.text_bytes].decode(errors="replace")
        assert tokenizer.decode(document.token_ids.tolist()) == read
    whole = [d for d in eval_documents(planned, 10**9) if d.source == "wiki"]
    assert sum(d.text_bytes for d in whole) == sum(len(t.encode()) for t in texts)


@pytest.mark.parametrize("documents", [FEWEST_DOCUMENTS - 1, FEWEST_DOCUMENTS])
def test_too_few_documents_for_an_interval(documents: int, tmp_path: Path) -> None:
    folder = tmp_path / "few"
    write_sweep(folder, n=120, budget={"mmlu_points": None, "retention_bpb": 1e-6})
    for path in folder.rglob("bpb.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        kept = [r for r in rows if int(r["id"].rsplit("-", 1)[1]) < documents]
        path.write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")
    report = load(folder)
    enough = documents >= FEWEST_DOCUMENTS
    for arm in report["arms"]:
        change = arm["change"]["retention_bpb"]
        assert change["documents"] == documents
        assert (change["interval"] is not None) is enough
        assert (arm["retention_bpb_interval"] is not None) is enough
        if not enough:
            (verdict,) = [v for v in arm["verdicts"] if v["budget"] == "retention_bpb"]
            assert verdict["verdict"] == "inconclusive"
            assert f"{documents} documents" in verdict["text"]
