"""Equal repetition: the part of each source that an arm reads, and the epochs that it then has."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from ingest_helpers import a_data, a_source, build, random_texts, write_texts
from tiny import tiny_recipe, write_recipe

from alloy.commands.plan import command as plan_command
from alloy.planning.planning import plan_recipe
from alloy.runs.building import build_recipe
from alloy.sweeps.arm import arm_recipe, arms
from alloy.sweeps.repetition import repeated_recipes
from alloy.sweeps.sharing import course, shared_starts, shared_tokens
from configs import Recipe, UserError
from configs.load import parse_recipe, with_values
from mixing.blend.caps import rows_read
from mixing.blend.plan import Plan
from mixing.corpus import Corpus, open_corpus, trained_spans
from mixing.selection.exclude import HELDOUT, Spans
from mixing.selection.subset import first_units

STEP_TOKENS = 8 * 32
FULL_TOKENS = 100 * STEP_TOKENS
ONE_PHASE = {"schedule.warmup": 0.0, "schedule.anneal": 0.0}


# --- a part of a source ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_first_units_are_exact_and_nested(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    document = np.sort(rng.integers(0, 15, count))  # some documents have several spans
    spans = Spans(document, np.arange(count) * 100, rng.integers(1, 90, count))
    keys = rng.integers(0, 2**64, 15, np.uint64)[document]
    before = np.zeros(count, np.int64)
    for share in (0.01, 0.2, 0.5, 0.93, 1.0):
        cut = first_units(keys, spans, spans.length, share, whole=False)
        assert cut.sum() == round(share * spans.length.sum())
        assert (cut >= before).all()
        assert (cut <= spans.length).all()
        assert ((cut > 0) & (cut < spans.length)).sum() <= 1
        whole = first_units(keys, spans, spans.length, share, whole=True)
        assert ((whole == 0) | (whole == spans.length)).all()
        assert cut.sum() <= whole.sum() < cut.sum() + spans.length.max()
        before = cut


def opened(store: Path, path: Path, **options: Any) -> Corpus:
    source = a_source(path, heldout=0.05)
    data = a_data(store, source, seq_len=64, **options)
    return open_corpus(data, {"s": build(store, source).key})


def test_a_part_goes_by_the_texts_and_its_ledger_balances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{text} {i}" for i, text in enumerate(random_texts(3, 600))]
    paths = [
        write_texts(tmp_path / "a.jsonl", texts),
        write_texts(tmp_path / "b.jsonl", reversed(texts)),
    ]
    wholes = [opened(tmp_path / "store", path) for path in paths]
    monkeypatch.setattr("mixing.tokens.encode.encode_block", lambda *_: pytest.fail("tokenized"))
    parts = []
    for path, whole in zip(paths, wholes, strict=True):
        corpus = opened(tmp_path / "store", path, subset=0.25)
        ledger, before = corpus.ledgers["s"], whole.ledgers["s"]
        assert ledger.balanced
        assert sum(ledger.tokens.values()) == sum(before.tokens.values())
        assert ledger.tokens["packed"] == round(0.25 * before.tokens["packed"])
        assert ledger.tokens["outside_subset"] == before.tokens["packed"] - ledger.tokens["packed"]
        spans = trained_spans(corpus.packed["s"])
        hashes = corpus.readers["s"].content_hashes[spans.document]
        parts.append(dict(zip(hashes.tolist(), spans.length.tolist(), strict=True)))
        held = [(c.reasons["s"] == HELDOUT).sum() for c in (corpus, whole)]
        assert held[0] == held[1] > 10
    assert parts[0] == parts[1]
    other = opened(tmp_path / "store", paths[0], subset=0.25, seed=1)
    hashes = other.readers["s"].content_hashes[trained_spans(other.packed["s"]).document]
    assert len(parts[0].keys() & set(hashes.tolist())) < 0.6 * len(parts[0])


def test_trained_spans_are_whole_documents_again(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "a.jsonl", random_texts(5, 300))
    for packing in ("best_fit", "concat"):
        corpus = opened(tmp_path / "store", path, packing=packing)
        spans = trained_spans(corpus.packed["s"])
        kept = np.flatnonzero(corpus.reasons["s"] == 0)
        assert spans.document.tolist() == kept.tolist()
        assert spans.length.tolist() == corpus.readers["s"].lengths[kept].tolist()
        assert not spans.start.any()


# --- equal epochs ----------------------------------------------------------------------------


def recipe(tiny: Path, run_dir: Path, of_sweep: dict[str, Any], **values: Any) -> Recipe:
    """40 steps for a run of 100, in which the domain is read up to eight times."""
    tree = tiny_recipe(tiny, run_dir)
    tree["schedule"]["tokens"] = 40 * STEP_TOKENS
    shares = [0, 0.1, 0.25, 0.5, 1]
    tree["sweep"] = {"general": shares, "full_tokens": FULL_TOKENS, **of_sweep}
    for source in tree["data"]["sources"]:
        source |= {"max_epochs": 30}
    one = with_values(parse_recipe(tree), values, "test")
    build_recipe(one, lambda _: None)
    return one


def plans(one: Recipe) -> list[tuple[Plan, dict[str, float]]]:
    """The plan of each arm, and the epochs of its full run."""
    found = []
    for own, repetition in repeated_recipes(one, arms(one)):
        assert repetition is not None
        found.append((plan_recipe(own).plan, dict(repetition.full_epochs)))
    return found


def rows_off(plan: Plan, full_epochs: dict[str, float]) -> float:
    """How far a source is from equal epochs, in rows: its own where it is read more than once,
    else those of the run."""
    return max(
        abs(rows_read(plan, s.name) - full_epochs[s.name] * s.rows) / max(1, full_epochs[s.name])
        for s in plan.sources
    )


def test_epochs_are_those_of_the_full_run_within_a_row(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path, {"seeds": [0, 1]}, **ONE_PHASE)
    found = plans(one)
    for (plan, full_epochs), arm in zip(found, arms(one), strict=True):
        assert rows_off(plan, full_epochs) <= 1.0, arm.name
        own = arm_recipe(one, arm)
        assert rows_off(plan_recipe(own).plan, full_epochs) > 10, arm.name  # what it mends
        full = with_values(own, {"schedule.tokens": FULL_TOKENS}, "test")
        assert full_epochs == plan_recipe(full).plan.epochs
    assert max(max(epochs.values()) for _, epochs in found) > 7


def test_each_phase_rounds_once(tiny: Path, tmp_path: Path) -> None:
    values = {"schedule.phases.anneal.general": 0.6, "data.packing": "concat"}
    for plan, full_epochs in plans(recipe(tiny, tmp_path, {"general": [0.1, 0.5]}, **values)):
        assert rows_off(plan, full_epochs) <= len(plan.phases) == 3


def test_fixed_domain_tokens_too(tiny: Path, tmp_path: Path) -> None:
    of_sweep = {"general": [0, 0.5], "full_tokens": 20_000}
    values = {**ONE_PHASE, "schedule.tokens_of": "domain", "schedule.tokens": 8_000}
    for plan, full_epochs in plans(recipe(tiny, tmp_path, of_sweep, **values)):
        assert rows_off(plan, full_epochs) <= 1.0


def test_trunks_are_shared_as_before(tiny: Path, tmp_path: Path) -> None:
    over = {"schedule.phases.anneal.general": [0.1, 0.6]}
    one = recipe(tiny, tmp_path, {"general": [0.25], "budgets": [0.5], "over": over})
    saved = []
    for each in (one, with_values(one, {"sweep.full_tokens": None}, "test")):
        found = [course(own, plan_recipe(own)) for own, _ in repeated_recipes(each, arms(each))]
        saved.append(shared_tokens(found, shared_starts(found)))
    assert saved[0] == saved[1]
    assert sum(saved[0]) > 0
    told = [repetition for _, repetition in repeated_recipes(one, arms(one)) if repetition]
    assert len({each.subset for each in told}) == 1
    # A shorter arm stands for a shorter run.
    assert [each.full_tokens for each in told] == [FULL_TOKENS] * 2 + [FULL_TOKENS // 2] * 2


@pytest.mark.parametrize(
    ("steps", "words"), [(40, "no longer than its arm"), (5000, "would be read")]
)
def test_a_full_run_that_cannot_be_is_refused(
    tiny: Path, tmp_path: Path, steps: int, words: str
) -> None:
    tokens = steps * STEP_TOKENS
    one = recipe(tiny, tmp_path, {"full_tokens": tokens})
    with pytest.raises(UserError, match=f"sweep.full_tokens {tokens}: .*{words}"):
        repeated_recipes(one, arms(one))


def test_a_full_run_at_its_cap_is_not_refused_for_rounding(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path, {"general": [0]})
    ((_, full_epochs),) = plans(one)
    capped = with_values(one, {"data.sources.own.max_epochs": full_epochs["own"]}, "test")
    assert plans(capped)[0][0].epochs["own"] == pytest.approx(full_epochs["own"], rel=0.1)


def test_the_plan_says_it(tiny: Path, tmp_path: Path) -> None:
    one = recipe(tiny, tmp_path, {"general": [0, 0.5]})
    path = write_recipe(tmp_path / "r.yaml", one.model_dump(mode="json"))
    done = CliRunner().invoke(plan_command, [str(path)], catch_exceptions=False)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("repetition:")]
    assert "the run of 25,600 tokens that they stand for" in line
    done = CliRunner().invoke(plan_command, [str(path), "--json"], catch_exceptions=False)
    rows = json.loads(done.stdout)["sweep"]["arms"]
    for row, (plan, full_epochs) in zip(rows, plans(one), strict=True):
        told = {s["name"]: (s["epochs"], s["full_epochs"]) for s in row["repetition"]["sources"]}
        assert told == {name: (plan.epochs[name], full_epochs[name]) for name in plan.epochs}
