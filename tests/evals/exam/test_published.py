"""Measured beside published scores: comparable or not, and what the catalog holds."""

import pytest

from alloy.models.catalog import open_models, published_scores
from evals.exam.published import MMLU_QUESTIONS, beside_published
from evals.exam.subjects import MMLU_CATEGORIES

NAMES = {subject: {} for subject in MMLU_CATEGORIES}
EXAM = {"accuracy": 0.66, "cloze_accuracy_norm": 0.4, "shots": 5, "n": MMLU_QUESTIONS}
EXAM |= {"by_subject": NAMES, "truncated_prompts": 0}
SCORE = {"model": "a/b", "form": "letter", "shots": 5, "accuracy": 0.676, "harness": "lm-eval"}
SCORE |= {"source": "a card", "other_model": None}


def row(exam=None, score=None):
    [found] = beside_published(EXAM | (exam or {}), [SCORE | (score or {})])
    return found


def test_the_same_setup_has_a_difference():
    found = row()
    assert found["comparable"]
    assert (found["published"], found["measured"]) == (0.676, 0.66)
    assert found["difference"] == pytest.approx(-0.016)
    assert found["agrees"] is False  # 1.6 points are twice the half width of the interval
    assert found["text"] == (
        "MMLU, letter form, 5 shots: 66.0% measured, 67.6% published for a/b (a card); "
        "difference -1.6 points"
    )
    assert row({"accuracy": 0.674})["agrees"]
    low, high = found["interval"]
    assert low < 0.66 < high < 0.676
    # Published to a tenth of a point: what rounding does is no disagreement.
    assert row(score={"accuracy": high + 0.0004})["agrees"]
    assert not row(score={"accuracy": high + 0.0006})["agrees"]


@pytest.mark.parametrize(
    ("exam", "score", "reason"),
    [
        ({"shots": 0}, {}, "5 shots against 0"),
        ({}, {"harness": "lighteval"}, "scored by lighteval, not as lm-eval does"),
        ({"n": 1140}, {}, "1,140 of 14,042 questions were measured"),
        ({"by_subject": {"trees": {}}}, {}, "another exam than MMLU was measured"),
        ({"truncated_prompts": 12}, {}, "12 prompts lost their start"),
        ({}, {"other_model": "published for a/b, not a/c"}, "published for a/b, not a/c"),
    ],
)
def test_another_setup_is_called_not_comparable(exam, score, reason):
    found = row(exam, score)
    assert not found["comparable"]
    assert found["difference"] is found["agrees"] is None
    assert found["reasons"] == [reason]
    assert found["text"].endswith(f"; not comparable: {reason}")
    assert "66.0% measured, 67.6% published" in found["text"]


def test_each_form_has_its_own_number():
    assert row(score={"form": "cloze"})["measured"] == 0.4
    assert beside_published(None, [SCORE]) == []


def test_the_catalog_says_of_which_model_a_score_is():
    marin = published_scores("marin-community/marin-8b-base", None)
    assert {(s["shots"], s["accuracy"], s["other_model"]) for s in marin} == {
        (5, 0.676, None),
        (0, 0.659, None),
    }
    [smol] = published_scores("HuggingFaceTB/SmolLM2-135M", "main")
    assert (smol["form"], smol["harness"], smol["other_model"]) == ("cloze", "lighteval", None)
    [stage] = published_scores("HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints", "step-240000")
    assert stage["other_model"].startswith("published for HuggingFaceTB/SmolLM2-135M, not")
    trunk = published_scores("allenai/OLMo-2-1124-7B", "stage1-step928646-tokens3896B")
    assert "not revision stage1-step928646" in trunk[0]["other_model"]
    assert published_scores("a/b", None) == []
    assert all(s.source and s.harness for m in open_models() for s in m.published)
