"""Ids are those of the tokenizers library, and no text becomes a control token."""

import json
from pathlib import Path

import numpy as np
import pytest
from places import SHARED_DATA
from small_tokenizer import EOS, WORDS, reference, small_tokenizer, small_tokenizer_json
from tokenizers import Tokenizer, models
from tokenizers.processors import TemplateProcessing

from configs import UserError
from mixing.tokens.tokenizer import TRICKY_STRINGS, Encoder, SpecialStrings, choose_encoder
from mixing.tokens.tokenizer_file import load_tokenizer, parse_tokenizer

REAL = SHARED_DATA / "tokenizers"


def real_tokenizer(name: str):
    path = REAL / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    return load_tokenizer(str(path))


ADVERSARIAL = [
    *TRICKY_STRINGS,
    "<|endoftext|>",
    "a<|endoftext|>b <|endoftext|>\n<|endoftext|><|endoftext|>",
    "<|im_start|>user\nhi<|im_end|> <|fim_prefix|><|pad|> <|padding|>",
    "<|extra_id_0|>|||EMAIL_ADDRESS|||  text with runs of          spaces",
    "\x00\x01\x1f\x7f\x80\x9f",
    " " * 5000,
    "\n" * 3000 + "\t" * 77,
    "a\u0301\u0323\u0302" * 50,
    "\u05e9\u05b8\u05c1 \ufb2c \u0958",
    "".join(chr(c) for c in range(0x20, 0x850, 7)),
    "".join(chr(c) for c in range(0x4E00, 0x9FFF, 61)),
    "".join(chr(c) for c in range(0x1F300, 0x1FAFF, 3)),
    "x" * 10_000 + "1" * 1000,
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0",
]


@pytest.mark.parametrize("name", ["gpt2", "olmo2", "pythia_20b"])
def test_both_libraries_give_the_same_ids_on_adversarial_strings(name):
    tokenizer = real_tokenizer(name)
    fast, slow = Encoder(tokenizer, "gigatoken"), Encoder(tokenizer, "tokenizers")
    backend = reference(tokenizer)
    for encode in (
        lambda e: e.encode(ADVERSARIAL),
        lambda e: e.encode(ADVERSARIAL, [t.encode() for t in ADVERSARIAL]),
    ):
        ids, offsets = encode(fast)
        assert (ids.dtype, offsets.dtype) == (np.uint32, np.int64)
        assert np.array_equal(ids, encode(slow)[0])
        assert np.array_equal(offsets, encode(slow)[1])
        for i, text in enumerate(ADVERSARIAL):
            expected = backend.encode(text, add_special_tokens=False).ids
            assert ids[offsets[i] : offsets[i + 1]].tolist() == expected
    specials = {t["id"] for t in json.loads(tokenizer.json_text)["added_tokens"] if t["special"]}
    assert not specials & set(ids.tolist())


@pytest.mark.parametrize(
    ("name", "eos", "size"),
    [
        ("gpt2", 50256, 50257),
        ("olmo2", 100257, 100278),
        ("pythia_20b", 0, 50277),
    ],
)
def test_end_of_text_of_real_files(name, eos, size):
    tokenizer = real_tokenizer(name)
    assert (tokenizer.eos_id, tokenizer.vocab_size, tokenizer.bos_id) == (eos, size, None)
    assert tokenizer.token_dtype == ("<u4" if size > 65536 else "<u2")


@pytest.mark.parametrize("library", ["gigatoken", "tokenizers"])
def test_special_strings_stay_text_and_are_counted(library):
    encoder = Encoder(small_tokenizer(), library)
    ids, _ = encoder.encode([f"the court{EOS}may"])
    assert small_tokenizer().eos_id not in ids.tolist()
    assert reference(small_tokenizer()).decode(ids.tolist()) == f"the court{EOS}may"
    assert encoder.count_special_like(f"{EOS}a{EOS}{EOS[:-1]}".encode()) == 2
    assert encoder.encode([])[1].tolist() == [0]


def test_the_longest_special_string_counts_once():
    assert SpecialStrings(["<a>", "<a>b", "[c]"]).count(b"<a>b <a> [c] <x> [") == 3
    assert SpecialStrings([]).count(b"<a>") == 0


def test_no_ids_are_added_or_cut_by_settings_in_the_file():
    backend = Tokenizer.from_str(small_tokenizer_json())
    backend.post_processor = TemplateProcessing(
        single=f"{EOS} $A {EOS}", special_tokens=[(EOS, backend.token_to_id(EOS))]
    )
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    tokenizer = parse_tokenizer(backend.to_str(), {}, {}, origin="x")
    expected = reference(small_tokenizer()).encode(WORDS, add_special_tokens=False).ids
    assert len(expected) > 4
    for library in ("gigatoken", "tokenizers"):
        assert Encoder(tokenizer, library).encode([WORDS])[0].tolist() == expected
    with_ends = Tokenizer.from_str(tokenizer.json_text).encode("the").ids
    assert tokenizer.bos_id == with_ends[0]
    assert small_tokenizer().bos_id is None


def test_content_hash_is_of_what_decides_ids():
    tree = json.loads(small_tokenizer_json())
    same = [
        json.dumps(dict(reversed(tree.items()))),
        json.dumps({**tree, "truncation": {"max_length": 5}}),
        json.dumps(tree, ensure_ascii=False, indent=3),
    ]
    base = small_tokenizer().content_hash
    for text in same:
        assert parse_tokenizer(text, {}, {}, origin="x").content_hash == base
    assert small_tokenizer(normalizer={"type": "NFC"}).content_hash != base


def test_agreement_is_checked_and_said():
    encoder = choose_encoder(small_tokenizer(), [WORDS])
    assert encoder.library == "gigatoken"
    assert "same ids as tokenizers on" in encoder.reason


def test_a_tokenizer_that_gigatoken_cannot_load_falls_back_with_the_reason():
    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "</s>": 2}, unk_token="[UNK]"))
    backend.add_special_tokens(["</s>"])
    tokenizer = parse_tokenizer(backend.to_str(), {}, {}, origin="x")
    encoder = choose_encoder(tokenizer, ["a"])
    assert (encoder.library, encoder.encode(["a"])[0].tolist()) == ("tokenizers", [0])
    assert "WordLevel" in encoder.reason


def test_a_sample_on_which_they_differ_falls_back_naming_it():
    # U+1DF7 is younger than the normalization tables of the tokenizers library.
    encoder = choose_encoder(real_tokenizer("pythia_20b"), ["fine", "a\u0323\u1df7\u0301\u1df7b"])
    if encoder.library == "gigatoken":
        pytest.skip("these versions agree on U+1DF7")
    assert "gigatoken differs on 'a" in encoder.reason


def folder(path: Path, **files: dict) -> str:
    path.mkdir()
    tree = json.loads(small_tokenizer_json())
    tree["added_tokens"] += [
        {**tree["added_tokens"][0], "id": 400, "content": "</s>"},
        {**tree["added_tokens"][0], "id": 401, "content": "<|other|>"},
    ]
    (path / "tokenizer.json").write_text(json.dumps(tree))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return str(path)


def test_a_folder_says_which_token_ends_a_text(tmp_path):
    by_name = folder(tmp_path / "a", tokenizer_config={"eos_token": {"content": "<|other|>"}})
    by_id = folder(tmp_path / "b", config={"eos_token_id": 400}, tokenizer_config={})
    both = folder(tmp_path / "c", config={"eos_token_id": 400}, tokenizer_config={"eos_token": EOS})
    neither = folder(tmp_path / "d")
    assert load_tokenizer(by_name).eos_id == 401
    assert load_tokenizer(by_name).vocab_size == 402
    assert load_tokenizer(by_id).eos_id == 400
    assert load_tokenizer(both).eos_id == 0
    with pytest.raises(UserError, match=r"candidates: '<\|endoftext\|>', '</s>'"):
        load_tokenizer(neither)


@pytest.mark.parametrize("content", ["not json", "[1]", '{"model": 3}', '{"model": {"vocab": {}}}'])
def test_what_is_no_tokenizer_is_refused(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError):
        load_tokenizer(str(path))


def test_missing_places_are_user_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in (str(tmp_path), str(tmp_path / "x.json"), "no-such-org/no-such-model"):
        with pytest.raises(UserError) as error:
            load_tokenizer(name)
        assert name in error.value.message
