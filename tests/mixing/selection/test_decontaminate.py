"""Eval items are found in what they are hidden in, and boilerplate is not mistaken for them."""

import json
import random

import numpy as np
import pytest
from ingest_helpers import a_source, built, random_texts, write_texts
from small_tokenizer import small_tokenizer

from configs import UserError
from mixing.selection.decontaminate import (
    EvalSet,
    ItemIndex,
    Match,
    contamination,
    merged_spans,
    ngram_keys,
    passages,
    words_of,
)
from mixing.selection.exclude import Spans, kept_spans, without
from mixing.tokens.tokenizer import Decoder
from mixing.tokens.tokenizer_file import parse_tokenizer

NAMES = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho"


def items(seed: int, count: int, words: int = 20) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(f"{rng.choice(NAMES.split())}{rng.randrange(50)}" for _ in range(words))
        for _ in range(count)
    ]


def look(tmp_path, texts: list[str], evals: list[str]):
    reader = built(tmp_path / "store", a_source(write_texts(tmp_path / "a.jsonl", texts)))
    decoder = Decoder(small_tokenizer())
    everything = np.arange(reader.documents)
    index = ItemIndex([EvalSet("exam", tuple(evals))])
    return contamination(reader, everything, decoder, index), reader, decoder


def test_decoding_gives_the_text_and_the_bytes_of_each_token(tmp_path):
    texts = ["the court\r\n may", "\u00e9\U0001f600 \u6f22\u5b57 \0 x", "<|endoftext|> in text"]
    reader = built(tmp_path / "store", a_source(write_texts(tmp_path / "a.jsonl", texts)))
    decoder = Decoder(small_tokenizer())
    for i, text in enumerate(texts):
        ids = reader.tokens(i)
        assert decoder.text(ids) == text
        ends = decoder.token_ends(ids)
        assert ends[-1] == len(text.encode())
        for k in range(len(ids)):
            assert decoder.token_ends(ids[: k + 1])[-1] == ends[k]


def test_hidden_items_are_found_and_only_their_passages_go(tmp_path):
    exam = items(1, 30)
    texts = random_texts(2, 200)
    hidden = {7: 3, 50: 11, 120: 29}
    for document, item in hidden.items():
        texts[document] = f"{texts[document]} caf\u00e9. {exam[item].upper()}! {texts[document]}"
    result, reader, decoder = look(tmp_path, texts, exam)
    assert {(m.document, m.item) for m in result.matches} == set(hidden.items())
    assert result.unjudged == {"exam": 0}
    for match in result.matches:
        assert match.found == match.of == 13
        row = json.loads(match.as_json(reader, decoder))
        assert row["passage"].strip(" !").lower() == exam[match.item]
        assert row["line"] == match.document + 1
    spans = kept_spans(reader, np.zeros(reader.documents, np.uint8), result.removed)
    left: dict[int, str] = {}
    for document, start, length in zip(spans.document, spans.start, spans.length, strict=True):
        part = decoder.text(reader.tokens(document, start, length))
        left[int(document)] = left.get(int(document), "") + part
    for document, text in enumerate(texts):
        if document not in hidden:
            assert left[document] == text
        else:
            assert exam[hidden[document]] not in left[document].lower()
            assert words_of(left[document]) == [
                w for w in words_of(text) if w not in exam[hidden[document]].split()
            ]
    total = int(reader.lengths.sum())
    assert result.removed_share == pytest.approx(1 - spans.length.sum() / total)


@pytest.mark.parametrize(
    ("kept_words", "is_found"), [(20, True), (14, True), (13, False), (8, False)]
)
def test_half_of_an_item_must_stand_together(tmp_path, kept_words, is_found):
    # 20 words have 13 n-grams of 8; the first 14 words have 7 of them, more than half.
    (item,) = items(3, 1)
    part = " ".join(item.split()[:kept_words])
    result, _, _ = look(tmp_path, ["the court", f"may {part} may"], [item])
    assert bool(result.matches) == is_found


def test_halves_that_lie_far_apart_do_not_count(tmp_path):
    (item,) = items(4, 1, words=30)
    words = item.split()
    scattered = [" ".join(words[i : i + 10]) for i in (0, 10, 20)]
    far = " the court may order".join(["", *(s + " pays" * 200 for s in scattered)])
    assert look(tmp_path / "far", [far], [item])[0].matches == ()
    assert len(look(tmp_path / "near", [" ".join(scattered)], [item])[0].matches) == 1


def test_an_item_over_two_documents_is_in_neither(tmp_path):
    (item,) = items(9, 1)
    words = item.split()
    halves = [f"may {' '.join(words[:10])}", f"{' '.join(words[10:])} court"]
    assert look(tmp_path / "two", halves, [item])[0].matches == ()
    assert len(look(tmp_path / "one", [" ".join(halves)], [item])[0].matches) == 1


def test_every_place_of_an_item_in_a_document_goes(tmp_path):
    (item,) = items(5, 1)
    text = f"the {item} {'court may ' * 40} {item} end"
    result, reader, _ = look(tmp_path, [text], [item])
    assert len(result.matches) == 2
    spans = kept_spans(reader, np.zeros(1, np.uint8), result.removed)
    assert len(spans.document) == 3


def test_common_ngrams_find_nothing_and_are_said(tmp_path):
    boilerplate = items(6, 1)[0]
    rare = items(7, 1)[0]
    texts = [f"{t} {boilerplate}" for t in random_texts(8, 100)] + [rare]
    result, _, _ = look(tmp_path, texts, [boilerplate, rare, f"{boilerplate} {rare}", "too short"])
    assert {(m.item, m.document) for m in result.matches} == {(1, 100), (2, 100)}
    assert result.unjudged == {"exam": 2}


def test_eval_sets_are_recorded_by_content():
    assert EvalSet("a", ("x", "y")).content_hash == EvalSet("b", ("x", "y")).content_hash
    assert EvalSet("a", ("x", "y")).content_hash != EvalSet("a", ("xy",)).content_hash


def test_ngram_keys_tell_order_and_skip_unknown_words():
    numbers = np.array([1, 2, 3, 0, 3, 2, 1, 2, 3], np.uint64)
    keys, places = ngram_keys(numbers, 3)
    assert places.tolist() == [0, 4, 5, 6]
    assert keys[0] == keys[3]
    assert len({int(k) for k in keys}) == 3


def test_no_items_and_no_words(tmp_path):
    assert look(tmp_path / "a", ["the"], [])[0].matches == ()
    result = look(tmp_path / "b", ["the"], ["!!!"])[0]
    assert (result.matches, result.unjudged) == ((), {"exam": 1})


@pytest.mark.parametrize("seed", range(20))
def test_spans_without_passages_are_those_of_brute_force(seed):
    rng = random.Random(seed)
    lengths = [rng.randrange(1, 40) for _ in range(30)]
    matches = []
    for _ in range(rng.randrange(25)):
        document = rng.randrange(30)
        start = rng.randrange(lengths[document])
        length = rng.randrange(1, lengths[document] - start + 1)
        matches.append(Match("e", 0, document, start, length, 1, 1))
    document = np.array([i for i in range(30) if i % 7])
    spans = Spans(document, np.zeros_like(document), np.array(lengths)[document])
    got = without(spans, merged_spans(matches))
    expected = []
    for i in document.tolist():
        gone = {t for m in matches if m.document == i for t in range(m.start, m.start + m.length)}
        run: list[int] = []
        for t in [*range(lengths[i]), -1]:
            if t < 0 or t in gone:
                if len(run) >= 2 or (run and not gone):
                    expected.append((i, run[0], len(run)))
                run = []
            else:
                run.append(t)
    rows = zip(got.document.tolist(), got.start.tolist(), got.length.tolist(), strict=True)
    assert list(rows) == expected


def test_passages_do_not_overlap():
    hits = [(0, 1), (1, 2), (2, 3), (3, 1), (50, 1), (51, 2), (52, 3)]
    assert list(passages(hits, 5, 2)) == [(0, 3, 3), (50, 52, 3)]
    assert list(passages(hits, 5, 4)) == []


def test_a_tokenizer_that_cannot_be_decoded_is_named():
    model = {"type": "WordLevel", "vocab": {"a": 0, "</s>": 1}, "unk_token": "a"}
    added = [{"id": 1, "content": "</s>", "special": True}]
    tree = {"version": "1.0", "model": model, "added_tokens": added}
    with pytest.raises(UserError, match="WordLevel"):
        Decoder(parse_tokenizer(json.dumps(tree), {}, {}, origin="x"))
