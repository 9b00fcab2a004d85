"""The native scorer against plain forward passes, and the exam's numbers."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from eval_helpers import (
    ARCHITECTURES,
    random_row,
    silent,
    tiny_model,
    tiny_tokenizer,
    write_csv,
    write_exam,
)

from configs.errors import UserError
from configs.evals import MmluTask
from evals.exam.exam_records import ItemScore, item_records, score_exam, summarize_exam
from evals.exam.exam_run import generated_fields
from evals.exam.mmlu_items import MmluItem, load_exam
from evals.exam.mmlu_prompts import CONTINUATIONS, letter_prompt
from evals.exam.mmlu_scorer import native_scorer
from evals.scoring.continuations import Question, _Row, _shared_prefix, score_continuations
from evals.scoring.encoding import encode, encode_options
from evals.scoring.generate import Answer


def plain_logprob(model, context, option):
    """One option after one context alone, no cache, all positions."""
    limit = model.config.max_position_embeddings
    ids = (context + option[:-1])[-limit:]
    with torch.no_grad():
        table = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return float(table[range(len(ids) - len(option), len(ids)), option].sum())


def plain_logprobs(model, tokenizer, subject):
    """What the native scorer must equal."""
    out = []
    for item in subject.test:
        prompt = letter_prompt(subject, item)
        [ids], [letters] = encode_options(tokenizer, [prompt], [CONTINUATIONS])
        out.append([plain_logprob(model, ids, letter) for letter in letters])
    return np.array(out)


def scored(model, tokenizer, exam, batch_tokens, form="letter"):
    return score_exam(native_scorer(model, tokenizer, batch_tokens), exam, form, silent)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gpt2", "mistral"])
@pytest.mark.parametrize("shots", [0, 3])
@pytest.mark.parametrize("batch_tokens", [64, 1024])
def test_native_scorer_equals_plain_forward_passes(tmp_path, architecture, shots, batch_tokens):
    exam = load_exam(MmluTask(path=str(write_exam(tmp_path, {"a_b": 12, "c": 1})), shots=shots))
    model, tokenizer = tiny_model(architecture), tiny_tokenizer()
    scores = scored(model, tokenizer, exam, batch_tokens)
    native = np.array([score.logprobs for score in scores])
    plain = np.concatenate([plain_logprobs(model, tokenizer, s) for s in exam.subjects])
    assert plain.std(axis=0).max() > 0.05  # questions do get different answers
    np.testing.assert_allclose(native, plain, atol=2e-5)
    assert [(s.subject, s.index) for s in scores] == [(i.subject, i.index) for i in exam.items()]
    assert not any(score.truncated for score in scores)


def test_long_prompts_keep_their_end_and_are_counted(tmp_path):
    exam = load_exam(MmluTask(path=str(write_exam(tmp_path, {"a": 30})), shots=0))
    tokenizer = tiny_tokenizer()
    lengths = [
        len(encode(tokenizer, [letter_prompt(exam.subjects[0], i)])[0]) for i in exam.items()
    ]
    model = tiny_model("llama", context=int(np.median(lengths)))
    scores = scored(model, tokenizer, exam, 512)
    expected = [n > model.config.max_position_embeddings for n in lengths]
    assert [score.truncated for score in scores] == expected
    assert 5 < sum(expected) < 25
    plain = plain_logprobs(model, tokenizer, exam.subjects[0])
    np.testing.assert_allclose([score.logprobs for score in scores], plain, atol=2e-5)


def next_of_numpy():
    """The draws that numpy's global generator would give next."""
    generator = np.random.RandomState()
    generator.set_state(np.random.get_state())
    return generator.random_sample(4).tolist()


def test_scoring_leaves_the_model_as_it_was(tmp_path):
    """Also a model whose own forward draws random numbers, as some do in evaluation mode."""
    exam = load_exam(MmluTask(path=str(write_exam(tmp_path, {"a": 4})), shots=1))
    model = tiny_model("llama").train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    parameter = next(model.parameters())
    parameter.grad = torch.ones_like(parameter)
    seen = []

    def draw(*_arguments):
        torch.rand(1), random.random(), np.random.rand()
        seen.append((torch.is_grad_enabled(), model.training, model.model.layers[1].training))

    hook = model.model.layers[1].register_forward_hook(draw)
    before = torch.get_rng_state(), random.getstate(), next_of_numpy()
    scored(model, tiny_tokenizer(), exam, 512, "letter")
    scored(model, tiny_tokenizer(), exam, 512, "cloze")
    hook.remove()
    assert set(seen) == {(False, False, False)}
    assert torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(parameter.grad, torch.ones_like(parameter))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert next_of_numpy() == before[2]
    assert not model.lm_head._forward_pre_hooks
    assert model(torch.tensor([[1, 2, 3]])).logits.shape[1] == 3


def test_shared_prefix():
    rng = random.Random(0)
    for _ in range(200):
        rows = [
            [rng.randint(0, 1) for _ in range(rng.randint(2, 6))] for _ in range(rng.randint(2, 5))
        ]
        tails = [rng.randint(1, 2) for _ in rows]
        most = min(len(row) - tail for row, tail in zip(rows, tails, strict=True))
        expected = 0
        while expected < most and len({row[expected] for row in rows}) == 1:
            expected += 1
        assert expected == _shared_prefix(
            [_Row(0, row, [(0, [1] * tail)]) for row, tail in zip(rows, tails, strict=True)]
        )
    assert _shared_prefix([_Row(0, [1, 2, 3], [(0, [1])])]) == 0


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gpt2", "mistral"])
@pytest.mark.parametrize("batch_tokens", [16, 300, 1024])
def test_options_of_any_length_equal_plain_forward_passes(architecture, batch_tokens):
    """Shared prefixes, contexts and options of all kinds, contexts that are cut, one that is
    the start of another, questions with a single option."""
    rng = random.Random(batch_tokens)
    model = tiny_model(architecture, context=48)
    prefix = [rng.randrange(500) for _ in range(9)]
    questions = []
    for n in range(24):
        context = prefix + [rng.randrange(500) for _ in range(rng.choice((1, 2, 12, 13, 30, 60)))]
        options = [
            [rng.randrange(500) for _ in range(rng.choice((1, 1, 2, 3, 8)))]
            for _ in range(rng.randint(1, 5))
        ]
        questions.append(Question(context, options + [options[0] + [7]] * (n % 2)))
    done = []
    with torch.no_grad():
        scores = score_continuations(model, questions, batch_tokens, done.append)
    for question, found in zip(questions, scores, strict=True):
        plain = [plain_logprob(model, question.context, option) for option in question.options]
        np.testing.assert_allclose(found, plain, atol=5e-5)
    assert done[-1] == sum(len(question.options) for question in questions)
    assert [q.is_cut(48) for q in questions] == [
        len(q.context) + max(map(len, q.options)) > 49 for q in questions
    ]
    with pytest.raises(UserError, match="49 tokens is longer than the model's context of 48"):
        score_continuations(model, [Question([1], [[2] * 49])], batch_tokens)


def test_a_cache_that_cannot_be_shared_gives_the_same_scores(tmp_path, monkeypatch):
    exam = load_exam(MmluTask(path=str(write_exam(tmp_path, {"a": 6})), shots=2))
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    shared = [scored(model, tokenizer, exam, 512, form) for form in ("letter", "cloze")]
    monkeypatch.setattr("evals.scoring.continuations.DynamicLayer", type(None))
    alone = [scored(model, tokenizer, exam, 512, form) for form in ("letter", "cloze")]
    for ours, theirs in zip(shared, alone, strict=True):
        np.testing.assert_allclose(
            [s.logprobs for s in ours], [s.logprobs for s in theirs], atol=2e-5
        )


def test_options_are_cut_off_the_whole():
    tokenizer = tiny_tokenizer()
    prompt = "Which river is it?\nAnswer:"
    [ids], [letters] = encode_options(tokenizer, [prompt], [CONTINUATIONS])
    assert ids == tokenizer.encode(prompt) == encode(tokenizer, [prompt])[0]
    assert [tokenizer.decode(i) for i in letters] == [" A", " B", " C", " D"]
    # The pitfall: after a space, the letter is another token.
    bare = tokenizer.encode("A")
    assert letters[0] != bare
    # A space at the end of a prompt belongs to the option.
    assert encode_options(tokenizer, [prompt + " "], [list("ABCD")]) == ([ids], [letters])
    with pytest.raises(UserError, match="no token of its own"):
        encode_options(tokenizer, [prompt], [[""]])


def planted(exam, right, probability=0.9):
    """Letter and cloze scores that pick the right answer exactly for the keys in ``right``."""
    scores = []
    for item in exam.items():
        choice = item.answer if (item.subject, item.index) in right else (item.answer + 1) % 4
        p = np.full(4, (1 - probability) / 3)
        p[choice] = probability
        scores.append(ItemScore(item.subject, item.index, tuple(np.log(p).tolist()), False))
    return scores


def test_summary_counts_planted_answers(tmp_path):
    exam = load_exam(
        MmluTask(path=str(write_exam(tmp_path, {"anatomy": 10, "sociology": 30})), shots=0)
    )
    keys = [(item.subject, item.index) for item in exam.items()]
    right = set(keys[:4] + keys[10:36])
    exam = replace(exam, replayed={key: key[1] % 2 == 0 for key in keys})
    cloze = planted(exam, set(keys[:7]))
    summary = summarize_exam(item_records(exam, planted(exam, right), cloze), 0)
    assert summary["n"] == 40
    assert summary["accuracy"] == 30 / 40
    assert summary["by_subject"]["anatomy"] == {"n": 10, "accuracy": 0.4}
    assert summary["by_category"]["social_sciences"] == {"n": 30, "accuracy": 26 / 30}
    assert summary["accuracy_replayed"] == len([k for k in right if k[1] % 2 == 0]) / 20
    assert summary["n_replayed"] == summary["n_unreplayed"] == 20
    assert summary["cloze_accuracy"] == 7 / 40
    assert not summary["at_chance"]
    low = summarize_exam(item_records(exam, planted(exam, set(keys[:14])), cloze), 0)
    assert low["at_chance"]
    assert low["chance_band"][0] < 0.25 < low["chance_band"][1]


def test_records_follow_the_definitions(tmp_path):
    rows = [["q", "yes", "no", "a much longer answer", "\u00e9\u00e9", "D"]]
    write_csv(tmp_path / "test" / "s_test.csv", rows)
    exam = load_exam(MmluTask(path=str(tmp_path), shots=0))
    letter = ItemScore("s", 0, (-1.0, -1.0, -2.0, -3.0), True)
    cloze = ItemScore("s", 0, (-1.5, -2.9, -12.0, -1.6), False)
    (record,) = item_records(exam, [letter], [cloze])
    assert record["choice"] == 0  # the first of two equal maxima
    assert record["cloze_choice"] == 0
    # per byte: -0.5, -1.45, -0.6, -0.4 (two characters, four bytes)
    assert record["cloze_choice_norm"] == 3
    assert record["cloze_correct_norm"]
    assert record["gold_bits"] == pytest.approx(1.6 / np.log(2))
    assert record["gold_bytes"] == 4
    assert record["truncated"]
    assert not record["cloze_truncated"]
    assert "replayed" not in record
    with pytest.raises(ValueError, match="order"):
        item_records(exam, [replace(letter, index=1)], [cloze])


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        (" A", 0),
        ("(b).", 1),
        ("C", 2),
        ("  d ", 3),
        ("The answer is A", None),
        ("AB", None),
        ("A )", None),
        ("", None),
        ("E", None),
        ('{"label": "A"}', None),
    ],
)
def test_written_letters(text, choice):
    item = MmluItem("s", 0, "q", ("a", "b", "c", "d"), 0)
    fields = generated_fields(item, Answer(text, False, True, 0.5, 2))
    assert fields["generated_choice"] == choice
    assert fields["generated_correct"] == (choice == 0)


def test_format_collapse_is_told_from_lost_knowledge(tmp_path):
    exam = load_exam(MmluTask(path=str(write_exam(tmp_path, {"a": 100, "b": 100})), shots=0))
    keys = [(item.subject, item.index) for item in exam.items()]
    records = item_records(exam, planted(exam, set(keys[:150])), planted(exam, set()))

    def written(right):
        fields = [
            {"generated_choice": r["answer"] if n < right else None, "generated_correct": n < right}
            for n, r in enumerate(records)
        ]
        whole = [r | f for r, f in zip(records, fields, strict=True)]
        return summarize_exam(whole, 0)

    collapsed, sound = written(20), written(148)
    assert collapsed["generative_gap"]["gap"] == pytest.approx(130 / 200)
    assert collapsed["generative_invalid_rate"] == pytest.approx(180 / 200)
    assert collapsed["format_collapse"] is True
    assert sound["generative_gap"]["gap"] == pytest.approx(2 / 200)
    assert sound["format_collapse"] is False


def test_always_the_commonest_letter_is_chance(tmp_path):
    rng = random.Random(0)
    rows = [[*random_row(rng)[:5], "D" if n % 5 < 2 else "ABC"[n % 3]] for n in range(1000)]
    write_csv(tmp_path / "test" / "s_test.csv", rows)
    exam = load_exam(MmluTask(path=str(tmp_path), shots=0))
    scores = [ItemScore("s", i, (-2.0, -2.0, -2.0, -1.0), False) for i in range(1000)]
    summary = summarize_exam(item_records(exam, scores, scores), 0)
    assert summary["accuracy"] > summary["chance_band"][1]
    assert summary["at_chance"]
    assert summary["choice_shares"] == [0, 0, 0, 1]
