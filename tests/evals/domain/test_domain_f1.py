"""In-domain scores against scikit-learn and brute force; greedy answers against single forwards."""

import json
import random

import numpy as np
import pytest
import torch
from eval_helpers import ARCHITECTURES, WORDS, silent, tiny_model, tiny_tokenizer
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from configs.errors import UserError
from configs.evals import DomainTask
from evals.domain.domain_f1 import summarize_domain
from evals.domain.domain_items import DomainRow, load_rows
from evals.domain.domain_records import domain_records
from evals.domain.labels import canonical, labels_found, search_forms
from evals.scoring.generate import answer_all

LABELS = ["refund", "late refund", "invoice", "Wrong Item", "card-declined"]
PATHS = ["a > b > c", "a > b > d", "a > e", "f > b > c", "f > g > h > i"]


def scored(pairs, metric, known=(), resamples=10):
    rows = [DomainRow(str(n), "", (canonical(gold, metric),)) for n, (gold, _) in enumerate(pairs)]
    records = domain_records(rows, [guess for _, guess in pairs], metric, known)
    return records, summarize_domain(records, metric, resamples)


def random_pairs(rng, labels, junk, n):
    return [(rng.choice(labels), rng.choice([*labels, *junk])) for _ in range(n)]


@pytest.mark.parametrize(
    ("metric", "labels", "junk"),
    [
        ("exact_label", LABELS, ["", "nonsense", "refund refund", "refund, invoice", "REFUND"]),
        (
            "label_path",
            PATHS,
            ["", "a", "a > b", "a > b > c > d", "x > y", "a > b > c > a > b > c"],
        ),
    ],
)
@pytest.mark.parametrize("cases", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_scores_equal_scikit_learn_on_random_cases(metric, labels, junk, cases):
    rng = random.Random(0)
    for _ in range(cases):
        pairs = random_pairs(rng, labels, junk, rng.randint(1, 40))
        records, summary = scored(pairs, metric, resamples=2)
        gold = [g for g, _ in pairs]
        known = set(gold)
        guess = [p if p in known else "(none)" for _, p in pairs]
        seen = sorted(known)
        for average, values in (("weighted", seen), ("macro", seen), ("micro", None)):
            expected = f1_score(gold, guess, labels=values, average=average, zero_division=0)
            assert summary[f"f1_{average}"] == pytest.approx(expected, abs=1e-12)
        options = {"labels": seen, "average": "weighted", "zero_division": 0}
        assert summary["precision_weighted"] == pytest.approx(
            precision_score(gold, guess, **options)
        )
        assert summary["recall_weighted"] == pytest.approx(recall_score(gold, guess, **options))
        assert summary["exact_match"] == accuracy_score(gold, [p for _, p in pairs])
        assert summary["invalid_rate"] == guess.count("(none)") / len(pairs)
        assert [r["correct"] for r in records] == [g == p for g, p in pairs]


def test_levels_of_a_path_by_brute_force():
    rng = random.Random(1)
    for _ in range(50):
        pairs = random_pairs(rng, PATHS, ["a", "a > b", "zzz", ""], rng.randint(2, 30))
        _, summary = scored(pairs, "label_path", known=["a"], resamples=2)
        valid = {gold for gold, _ in pairs} | {"a"}
        depth = max(gold.count(">") for gold, _ in pairs) + 1
        assert len(summary["per_level_f1"]) == depth
        for level in range(1, depth + 1):
            golds, guesses = [], []
            for gold, guess in pairs:
                parts, written = gold.split(" > "), guess.split(" > ")
                if len(parts) < level:
                    continue
                golds.append(" > ".join(parts[:level]))
                whole = guess in valid and len(written) >= level
                guesses.append(" > ".join(written[:level]) if whole else "(none)")
            labels = sorted(set(golds))
            expected = f1_score(golds, guesses, labels=labels, average="weighted", zero_division=0)
            assert summary["per_level_f1"][level - 1] == pytest.approx(expected, abs=1e-12)
    perfect = scored([(p, p) for p in PATHS], "label_path")[1]
    assert perfect["per_level_f1"] == [1.0, 1.0, 1.0, 1.0]


def test_the_right_branch_with_the_wrong_leaf_scores_above_it():
    _, summary = scored([("a > b > c", "a > b > d"), ("a > b > d", "a > b > d")], "label_path")
    assert summary["per_level_f1"][:2] == [1.0, 1.0]
    assert summary["per_level_f1"][2] == summary["f1_weighted"] == pytest.approx(1 / 3)


def test_wrong_extra_and_repeated_labels_cost():
    rng = random.Random(2)
    gold = [rng.choice(LABELS) for _ in range(100)]
    right = scored(list(zip(gold, gold, strict=True)), "exact_label")[1]
    for spoil in ("{0}, invoice", "{0} {0}", "{0}\t{0} {0}", "", "unknown"):
        guesses = [spoil.format(g) if n % 4 == 0 else g for n, g in enumerate(gold)]
        worse = scored(list(zip(gold, guesses, strict=True)), "exact_label")[1]
        for score in ("f1_weighted", "f1_macro", "f1_micro", "recall_weighted", "exact_match",
                      "accuracy_format_free"):  # fmt: skip
            assert worse[score] < right[score] == 1.0, (spoil, score)
        assert worse["invalid_rate"] == 0.25
    other = [LABELS[(LABELS.index(g) + 1) % 5] if n % 4 == 0 else g for n, g in enumerate(gold)]
    wrong = scored(list(zip(gold, other, strict=True)), "exact_label")[1]
    assert wrong["precision_weighted"] < 1
    assert wrong["invalid_rate"] == 0


def test_invalid_outputs_do_not_invent_classes():
    pairs = [("a", "a")] * 8 + [("b", "b")] * 8
    base = scored([*pairs, ("a", "junk 1"), ("b", "junk 2")], "exact_label")[1]
    same = scored([*pairs, ("a", "junk"), ("b", "junk")], "exact_label")[1]
    assert base == same
    assert base["f1_macro"] == pytest.approx(2 * 8 / 17)


def test_labels_known_from_training_are_valid_but_wrong():
    records, summary = scored([("a", "z"), ("a", "a")], "exact_label", known=["z"])
    assert [r["valid"] for r in records] == [True, True]
    assert summary["invalid_rate"] == 0
    assert summary["f1_weighted"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("prediction", "gold", "found"),
    [
        ("refund", "refund", True),
        (" The label is: REFUND. ", "refund", True),
        ("wrong_item!", "Wrong Item", True),
        ("card declined", "card-declined", True),
        ("late refund", "late refund", True),
        ("late refund", "refund", False),
        ("refunded", "refund", False),
        ("refund or invoice", "refund", False),
        ("refund refund", "refund", False),
        ("late refund refund", "late refund", False),
        ("", "refund", False),
    ],
)
def test_labels_found_in_free_text(prediction, gold, found):
    assert labels_found(prediction, [gold], search_forms(LABELS)) is found


def test_paths_are_compared_without_the_spaces_around_separators():
    assert canonical(" a>b  >c ", "label_path") == "a > b > c"
    records, summary = scored([("a > b", "a>b"), ("c d", "C  D.")], "label_path")
    assert [r["correct"] for r in records] == [True, False]
    assert summary["exact_match"] == 0
    assert summary["accuracy_format_free"] == 1


def test_rows_are_read_or_refused_by_line(tmp_path):
    path = tmp_path / "test.jsonl"
    task = DomainTask(name="t", path=str(path), prompt_column="q", label_column="y", limit=2)
    rows = [{"id": "x", "q": "one", "y": "a"}, {"q": "two", "y": "b"}, {"q": "three", "y": "c"}]

    def load(lines):
        path.write_text("\n".join(lines), encoding="utf-8")
        return load_rows(task)

    read = load([json.dumps(row) for row in rows])
    assert [(r.id, r.prompt, r.label) for r in read] == [("x", "one", "a"), ("2", "two", "b")]
    first = json.dumps(rows[0])
    for line, words in (
        ("{", "test.jsonl:2: not JSON"),
        ("[1]", "test.jsonl:2: not a JSON object"),
        ('{"q": "a"}', "test.jsonl:2: no text in 'y'"),
        ('{"q": 3, "y": "a"}', "test.jsonl:2: no text in 'q'"),
        ('{"id": "x", "q": "a", "y": "b"}', "two rows have the id 'x'"),
    ):
        with pytest.raises(UserError) as error:
            load([first, line])
        assert words in error.value.message
    with pytest.raises(UserError, match="no rows"):
        load([""])
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        load_rows(task)


def one_by_one(model, tokenizer, prompt, max_new_tokens):
    """Greedy decoding of one prompt with no cache and no padding."""
    ids = tokenizer.encode(prompt)[-(model.config.max_position_embeddings - max_new_tokens) :]
    start = len(ids)
    for _ in range(max_new_tokens):
        with torch.no_grad():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
        if "\n" in tokenizer.decode(ids[start:]):
            break
    return tokenizer.decode(ids[start:]).partition("\n")[0]


PROMPTS = [" ".join(random.Random(n).choices(WORDS, k=1 + 3 * (n % 7))) for n in range(24)]


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gpt2", "mistral"])
def test_batched_answers_equal_single_ones(architecture):
    model, tokenizer = tiny_model(architecture), tiny_tokenizer()
    expected = [one_by_one(model, tokenizer, prompt, 12) for prompt in PROMPTS]
    assert len(set(expected)) > 5
    for batch_tokens in (1, 200, 10_000):
        answers = answer_all(model, tokenizer, PROMPTS, 12, batch_tokens, silent)
        assert [answer.text for answer in answers] == expected
        assert not any(answer.truncated for answer in answers)


def test_the_probability_of_an_answer_is_that_of_all_its_tokens():
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    for prompt, answer in zip(
        PROMPTS, answer_all(model, tokenizer, PROMPTS, 6, 300, silent, "end"), strict=True
    ):
        ids, expected = tokenizer.encode(prompt), 0.0
        for _ in range(answer.tokens):
            with torch.no_grad():
                best, token = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1).max(-1)
            expected += float(best)
            ids.append(int(token))
        assert answer.probability == pytest.approx(np.exp(expected), rel=1e-3)
        assert answer.tokens == 6 or ids[-1] == tokenizer.eos_token_id


def test_answers_over_several_lines():
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    with torch.no_grad():
        model.lm_head.weight[tokenizer.encode("\n")[0]] *= 3
    whole = answer_all(model, tokenizer, PROMPTS, 20, 4096, silent, "end")
    lines = answer_all(model, tokenizer, PROMPTS, 20, 4096, silent, "line")
    assert [a.text.partition("\n")[0] for a in whole] == [a.text for a in lines]
    assert any("\n" in answer.text for answer in whole)


def test_answers_stop_at_a_line_break_or_the_end():
    tokenizer = tiny_tokenizer()
    stops = {"newline": tokenizer.encode("\n")[0], "end": tokenizer.eos_token_id}
    for stop in stops.values():
        model = tiny_model("llama")
        with torch.no_grad():  # a larger row of the head: the stop token often wins
            model.lm_head.weight[stop] *= 3
        answers = answer_all(model, tokenizer, PROMPTS, 40, 4096, silent)
        expected = [one_by_one(model, tokenizer, prompt, 40) for prompt in PROMPTS]
        assert [answer.text for answer in answers] == expected
        finished = [answer.finished for answer in answers]
        assert any(finished)
        assert all("\n" not in a.text and "<|endoftext|>" not in a.text for a in answers)


def test_long_prompts_keep_their_end_and_are_counted():
    model, tokenizer = tiny_model("llama", context=20), tiny_tokenizer()
    answers = answer_all(model, tokenizer, PROMPTS, 8, 4096, silent)
    lengths = [len(tokenizer.encode(prompt)) for prompt in PROMPTS]
    assert [answer.truncated for answer in answers] == [length > 12 for length in lengths]
    assert any(answer.truncated for answer in answers)
    assert [a.text for a in answers] == [one_by_one(model, tokenizer, p, 8) for p in PROMPTS]
    with pytest.raises(UserError, match="leaves no room"):
        answer_all(model, tokenizer, PROMPTS, 20, 4096, silent)


def test_answering_is_deterministic_and_leaves_the_model_as_it_was():
    model, tokenizer = tiny_model("neox", hidden_dropout=0.5).train(), tiny_tokenizer()
    state = torch.get_rng_state()
    first = answer_all(model, tokenizer, PROMPTS[:6], 8, 4096, silent)
    assert first == answer_all(model, tokenizer, PROMPTS[:6], 8, 4096, silent)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(
        [a.text for a in first], [one_by_one(model.eval(), tokenizer, p, 8) for p in PROMPTS[:6]]
    )
