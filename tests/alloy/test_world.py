"""The embedded world: what it must hold, and above all what it must not leak."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from alloy.world import WorldConfig, WorldFiles, write_world
from alloy.world.corpora import PHRASINGS
from alloy.world.facts import CATEGORIES

SUBJECTS = [subject for subjects in CATEGORIES.values() for subject in subjects]
CORPORA = ("pretrain", "replay", "retention", "comments_train")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> WorldFiles:
    """The demo's own world."""
    return write_world(tmp_path_factory.mktemp("world"), WorldConfig())


@pytest.fixture(scope="module")
def texts(files: WorldFiles) -> dict[str, list[str]]:
    """Corpus name -> its documents."""
    return {
        name: [row["text"] for row in _jsonl(files.folder / f"{name}.jsonl")] for name in CORPORA
    }


def _jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _exam(files: WorldFiles, split: str, subject: str) -> list[list[str]]:
    path = files.exam / split / f"{subject}_{split}.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def _bytes(folder: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    small = {"pretrain_documents": 600, "replay_documents": 300, "comments_train": 200}
    worlds = {}
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        folder = tmp_path / name
        write_world(folder, WorldConfig(seed=seed, **small))
        worlds[name] = _bytes(folder)
    assert worlds["first"] == worlds["again"]
    assert set(worlds["first"]) == set(worlds["other"])
    assert [name for name, data in worlds["first"].items() if data == worlds["other"][name]] == []


def test_no_exam_string_occurs_in_a_corpus(files: WorldFiles, texts: dict[str, list[str]]) -> None:
    everything = "\n\x00\n".join(text for rows in texts.values() for text in rows)
    assert "multiple choice questions (with answers) about" in everything  # the format is taught
    for subject in SUBJECTS:
        for split in ("dev", "test"):
            for question, *options, _letter in _exam(files, split, subject):
                block = "\n".join(f"{x}. {y}" for x, y in zip("ABCD", options, strict=True))
                assert question not in everything
                assert block not in everything


def test_exam_sizes_and_balance(files: WorldFiles) -> None:
    tests = {subject: _exam(files, "test", subject) for subject in SUBJECTS}
    assert sum(map(len, tests.values())) >= 1000
    for subject, rows in tests.items():
        counts = Counter(row[5] for row in rows)
        assert set(counts) == set("ABCD")
        assert max(counts.values()) - min(counts.values()) <= 2
        assert len({row[0] for row in rows}) == len(rows)
        dev = _exam(files, "dev", subject)
        assert len(dev) == 5
        assert not {row[0] for row in dev} & {row[0] for row in rows}
        for question, *options, _letter in rows + dev:
            assert len(set(options)) == 4
            assert question == question.strip()


def test_items_file_is_aligned_and_half_is_replayed(files: WorldFiles) -> None:
    items = _jsonl(files.exam_items)
    counts = Counter(item["subject"] for item in items)
    assert counts == {subject: len(_exam(files, "test", subject)) for subject in SUBJECTS}
    for subject in SUBJECTS:
        own = [item for item in items if item["subject"] == subject]
        assert [item["index"] for item in own] == list(range(len(own)))
        assert sum(item["replayed"] for item in own) == len(own) // 2


def test_facts_are_replayed_as_the_items_file_says(
    files: WorldFiles, texts: dict[str, list[str]]
) -> None:
    replay = set(" ".join(texts["replay"]).replace(".", " ").replace(":", " ").split())
    known = " ".join(texts["pretrain"])
    rows = {subject: _exam(files, "test", subject) for subject in SUBJECTS}
    for item in _jsonl(files.exam_items):
        question, *options, letter = rows[item["subject"]][item["index"]]
        relation, entity = question.removeprefix("What is the ").removesuffix("?").split(" of ")
        value = options["ABCD".index(letter)]
        fact = {"relation": relation, "entity": entity, "value": value}
        assert any(text.format(**fact) in known for text in PHRASINGS)
        assert (entity in replay) is item["replayed"]


def test_distractors_come_from_the_values_of_the_relation(files: WorldFiles) -> None:
    values: dict[str, set[str]] = {}
    for subject in SUBJECTS:
        for question, *options, _letter in _exam(files, "test", subject):
            relation = question.split()[3]
            values.setdefault(relation, set()).update(options)
    assert {len(options) for options in values.values()} == {WorldConfig().values_per_relation}


def test_corpora_share_no_document(texts: dict[str, list[str]]) -> None:
    assert len(texts["retention"]) >= 150
    everything = [text for rows in texts.values() for text in rows]
    assert len(set(everything)) == len(everything)


def test_label_tree_is_deep_wide_and_imbalanced(
    files: WorldFiles, texts: dict[str, list[str]]
) -> None:
    labels = [text.rstrip("\n").rsplit("\nTopic: ", 1)[1] for text in texts["comments_train"]]
    counts = Counter(labels).most_common()
    assert {len(label.split(" > ")) for label in labels} == {4}
    assert len(counts) >= 100
    assert counts[0][1] >= 10 * counts[len(counts) // 2][1]  # Zipf: the first against the median
    test = _jsonl(files.comments_test)
    assert len(test) >= 600
    assert {row["label"] for row in test} <= set(labels)
    trained = {text.rsplit("\nTopic:", 1)[0] for text in texts["comments_train"]}
    assert not trained & {row["prompt"].removesuffix("\nTopic:") for row in test}


def test_tokenizer_makes_words_single_tokens(
    files: WorldFiles, texts: dict[str, list[str]]
) -> None:
    tokenizer = Tokenizer.from_file(str(files.tokenizer))
    assert tokenizer.token_to_id("<|endoftext|>") == 0
    assert 1_000 <= tokenizer.get_vocab_size() <= WorldConfig().vocab_size
    words = {word for text in texts["pretrain"] for word in text.split() if word.isalpha()}
    single = sum(len(tokenizer.encode(f" {word}").ids) == 1 for word in words)
    assert single >= 0.95 * len(words)
    longest = max(len(tokenizer.encode(text).ids) for rows in texts.values() for text in rows)
    assert longest < 128  # a row of the demo holds any document and its end-of-text


def test_gigatoken_gives_the_same_ids(files: WorldFiles, texts: dict[str, list[str]]) -> None:
    gigatoken = pytest.importorskip("gigatoken")
    slow = Tokenizer.from_file(str(files.tokenizer))
    fast = gigatoken.Tokenizer(str(files.tokenizer))
    for rows in texts.values():
        sample = rows[:200]
        expected = [encoding.ids for encoding in slow.encode_batch(sample)]
        assert [list(ids) for ids in fast.encode_batch(sample, parallel=False)] == expected
