"""Probabilities of labels against plain forward passes; prompts from templates."""

import json
import random

import numpy as np
import pytest
import torch
from eval_helpers import ARCHITECTURES, WORDS, silent, tiny_model, tiny_tokenizer

from configs.errors import UserError
from configs.evals import DomainTask
from configs.load import parse_recipe
from evals.domain.domain_f1 import summarize_domain
from evals.domain.domain_items import load_labels, load_rows, template_use
from evals.domain.domain_run import run_domain
from evals.domain.likelihood import label_likelihoods

LABELS = ["river", "river stone", "lamp", "north table", "seven"]
PROMPTS = [" ".join(random.Random(n).choices(WORDS, k=1 + n % 9)) + "\nLabel:" for n in range(12)]


def plain(model, tokenizer, prompt, text, end=None):
    """log P(text | prompt), with the whole encoded at once."""
    start = len(tokenizer.encode(prompt))
    ids = tokenizer.encode(prompt + text) + ([] if end is None else [end])
    with torch.no_grad():
        table = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return float(table[range(start - 1, len(ids) - 1), ids[start:]].sum())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_labels_count_with_either_end(architecture):
    model, tokenizer = tiny_model(architecture), tiny_tokenizer()
    end = tokenizer.eos_token_id
    found = label_likelihoods(model, tokenizer, PROMPTS, LABELS, "exact_label", 300, silent)
    for prompt, fields in zip(PROMPTS, found, strict=True):
        scores = np.array(
            [
                np.logaddexp(
                    plain(model, tokenizer, prompt, f" {label}\n"),
                    plain(model, tokenizer, prompt, f" {label}", end),
                )
                for label in LABELS
            ]
        )
        shares = np.exp(scores) / np.exp(scores).sum()
        assert fields["likelihood_label"] == LABELS[int(shares.argmax())]
        assert fields["likelihood_certainty"] == pytest.approx(shares.max(), abs=1e-4)
    assert len({round(fields["likelihood_certainty"], 3) for fields in found}) > 3


def test_a_verdict_is_yes_against_no():
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    found = label_likelihoods(model, tokenizer, PROMPTS, ["spam"], "moderation", 300, silent)
    for prompt, fields in zip(PROMPTS, found, strict=True):
        yes, no = (np.exp(plain(model, tokenizer, prompt, f" {v}")) for v in ("Yes", "No"))
        assert fields["flag_probability"] == pytest.approx(yes / (yes + no), abs=1e-4)
        assert fields["likelihood_label"] == ("Yes" if yes > no else "No")


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


def test_a_task_with_everything(tmp_path):
    """Answers, certainties and label probabilities in records; curves and lists in the summary."""
    rows = [{"prompt": p, "label": random.Random(n).choice(LABELS)} for n, p in enumerate(PROMPTS)]
    path = write_rows(tmp_path / "test.jsonl", rows)
    (tmp_path / "labels.txt").write_text("lamp\nnever seen\n\n")
    task = DomainTask(
        name="t", path=path, likelihood=True, max_new_tokens=6, labels=str(tmp_path / "labels.txt")
    )
    loaded = load_rows(task)
    assert "never seen" in load_labels(task, loaded)
    records = run_domain(tiny_model("llama"), tiny_tokenizer(), task, loaded, 512, silent)
    summary = summarize_domain(records, "exact_label", 20)
    hits = [r["likelihood_label"] == r["gold"] for r in records]
    assert summary["likelihood"]["accuracy"] == np.mean(hits)
    points = summary["precision_recall"]["points"]
    assert points[0][1] == pytest.approx(np.mean(hits))
    assert [r["id"] for r in summary["review"]] == [
        r["id"] for r in sorted(records, key=lambda r: (r["likelihood_certainty"], r["id"]))
    ]
    assert 1 <= summary["answer_tokens"]["min"] <= summary["answer_tokens"]["max"] <= 6
    assert all(0 < r["certainty"] <= 1 for r in records)


def test_gold_in_every_form(tmp_path):
    def gold(metric, *cells):
        rows = [{"prompt": "x", "label": cell} for cell in cells]
        task = DomainTask(name="t", path=write_rows(tmp_path / "t.jsonl", rows), metric=metric)
        return [row.gold for row in load_rows(task)]

    assert gold("label_path", "a>b", ["a", "b c"]) == [("a > b",), ("a > b c",)]
    assert gold("multi_label", "b, a, b", ["b", "a"], [], "none") == [
        ("a", "b"), ("a", "b"), ("none",), ("none",),
    ]  # fmt: skip
    assert gold("extractive", "one", ["one", "1"]) == [("one",), ("one", "1")]
    verdicts = gold("moderation", "No", "Yes: b, a", {"flag": True, "category": ["b"]}, True)
    assert verdicts == [("No",), ("Yes", "a", "b"), ("Yes", "b"), ("Yes",)]
    with pytest.raises(UserError, match=r"t\.jsonl:1: no verdict in 'label'"):
        gold("moderation", "perhaps")
    with pytest.raises(UserError, match="no text in 'label'"):
        gold("extractive", [])


def test_templates(tmp_path):
    rows = [{"comment": "late {fee}", "who": "Ann"}, {"comment": "two\u2028lines", "who": "Bo"}]
    path = write_rows(tmp_path / "t.jsonl", [{**row, "label": "a"} for row in rows])
    task = DomainTask(name="t", path=path, template='{who}: {comment} {{"flag": ')
    assert [row.prompt for row in load_rows(task)] == [
        'Ann: late {fee} {"flag": ', 'Bo: two\u2028lines {"flag": ',
    ]  # fmt: skip
    with pytest.raises(UserError, match="no text in 'other'"):
        load_rows(DomainTask(name="t", path=path, template="{other}"))
    texts = ["Say: x\nLabel: y", "x", "\nLabel: Say: "]
    used = template_use("Say: {who}\nLabel:", [], texts)
    assert (used.parts, used.texts, used.holding) == (("Say: ", "\nLabel:"), 3, 1)
    assert template_use(None, ["Say: a\nLabel:", "Say: b\nLabel:"], texts) == used
    assert template_use(None, ["one", "two"], texts).holding == 3  # nothing to look for


@pytest.mark.parametrize(
    "task",
    [
        {"template": "no column"},
        {"template": "{open"},
        {"template": "{a.b}"},
        {"template": "{a!r}"},
        {"template": "{0}"},
        {"likelihood": True, "metric": "extractive"},
        {"likelihood": True, "metric": "multi_label"},
        {"fixed_precision": 0},
    ],
)
def test_tasks_that_cannot_be_scored_are_refused(task):
    tree = {
        "name": "x",
        "data": {"tokenizer": "t", "sources": [{"name": "s", "role": "domain", "path": "p"}]},
        "schedule": {"tokens": "2M", "peak_lr": 1e-4},
        "evals": {"domain": [{"name": "t", "path": "p", **task}]},
    }
    with pytest.raises(UserError):
        parse_recipe(tree)
    tree["evals"]["domain"] = [{"name": "t", "path": "p"}]
    assert parse_recipe(tree).evals.domain[0].metric == "exact_label"
