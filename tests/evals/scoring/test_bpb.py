"""Bits per byte against plain forward passes over single documents."""

import numpy as np
import pytest
import torch
from eval_helpers import ARCHITECTURES, make_documents, silent, tiny_model

from configs.errors import UserError
from evals.scoring.bpb import EvalDocument, score_documents
from evals.stats.bootstrap import FEWEST_DOCUMENTS
from evals.summarize import summarize_bpb


def bits_alone(model, ids, start_id=None):
    """Bits of a document that fits the context, one forward pass, no batch."""
    ids = torch.tensor([*([] if start_id is None else [start_id]), *ids.tolist()])
    with torch.no_grad():
        table = model(ids[None]).logits[0].log_softmax(-1)
    return float(-table[range(len(ids) - 1), ids[1:]].sum() / np.log(2))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("start_id", [None, 0])
def test_every_document_equals_its_own_forward_pass(architecture, start_id):
    model, documents = tiny_model(architecture), make_documents([5, 40, 1, 17, 90, 33])
    for batch_tokens in (1, 100, 5000):
        records = score_documents(model, documents, batch_tokens, silent, start_id=start_id)
        assert [r["id"] for r in records] == [d.id for d in documents]
        expected = [bits_alone(model, d.token_ids, start_id) for d in documents]
        assert [r["bits"] for r in records] == pytest.approx(expected, rel=1e-5)
        first = 0 if start_id is not None else 1
        assert [r["tokens"] for r in records] == [len(d.token_ids) - first for d in documents]


def test_long_documents_score_each_token_once():
    model, (document,) = tiny_model("llama"), make_documents([60])
    ids = document.token_ids
    for seq_len in (7, 16, len(ids) - 1, len(ids)):
        (record,) = score_documents(model, [document], 64, silent, seq_len=seq_len)
        expected = sum(
            bits_alone(model, ids[start : start + seq_len + 1])
            for start in range(0, len(ids) - 1, seq_len)
        )
        assert record["bits"] == pytest.approx(expected, rel=1e-5)
        assert record["tokens"] == len(ids) - 1


def test_the_context_is_the_longest_window():
    model, (document,) = tiny_model("llama", context=16), make_documents([60])
    (default,) = score_documents(model, [document], 64, silent)
    (asked,) = score_documents(model, [document], 64, silent, seq_len=16)
    assert default == asked
    with pytest.raises(UserError, match="seq_len 17 is over the model's context of 16"):
        score_documents(model, [document], 64, silent, seq_len=17)


def test_documents_without_a_prediction_are_kept():
    empty = EvalDocument("web", "general", "heldout", "none", np.array([], dtype=np.uint16), 0)
    one = EvalDocument("web", "general", "heldout", "one", np.array([5], dtype=np.uint16), 1)
    records = score_documents(tiny_model("llama"), [empty, one], 64, silent)
    assert [(r["bits"], r["tokens"], r["bytes"]) for r in records] == [(0, 0, 0), (0, 0, 1)]
    assert score_documents(tiny_model("llama"), [], 64, silent) == []


def test_a_uniform_model_costs_its_vocabulary():
    model, documents = tiny_model("llama"), make_documents([10, 20])
    torch.nn.init.zeros_(model.lm_head.weight)
    records = score_documents(model, documents, 64, silent)
    assert [r["bits"] for r in records] == pytest.approx([r["tokens"] * 9 for r in records])


def test_the_summary_is_total_bits_over_total_bytes():
    model = tiny_model("llama")
    lengths = [10, 20, 30, *range(9, 16)]
    books = make_documents([15] * (FEWEST_DOCUMENTS - 1), source="books")
    documents = [*make_documents(lengths), *books]
    records = score_documents(model, documents, 512, silent)
    summary = summarize_bpb(records, resamples=200, seed=0)
    assert list(summary) == ["books", "web"]
    web = summary["web"]
    bits = sum(bits_alone(model, d.token_ids) for d in documents[:10])
    assert web["bytes"] == sum(d.text_bytes for d in documents[:10])
    assert web["bpb"] == pytest.approx(bits / web["bytes"], rel=1e-5)
    assert web["interval"][0] <= web["bpb"] <= web["interval"][1]
    assert (web["documents"], web["role"], web["split"]) == (10, "general", "heldout")
    assert summary["books"]["interval"] is None


def test_scoring_leaves_the_model_as_it_was():
    model = tiny_model("neox", hidden_dropout=0.5).train()
    state = torch.get_rng_state()
    first = score_documents(model, make_documents([9, 12]), 64, silent)
    assert first == score_documents(model, make_documents([9, 12]), 64, silent)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
