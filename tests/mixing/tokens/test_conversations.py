"""Conversations: ids of the whole rendering, masks that decode to the answers, bad ones listed."""

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_helpers import (
    CHATML,
    FORGETFUL,
    INSTRUCT,
    TEMPLATES,
    TRIMMED,
    as_row,
    chat_tokenizer,
    conversation,
    messages_of,
)
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from configs import UserError
from mixing.documents.chat_template import CannotRender, ChatTemplate
from mixing.tokens.conversations import ConversationEncoder, chat_template, refuse_unlike
from mixing.tokens.masks import flags_of_runs, masks_of, runs_of_flags
from mixing.tokens.tokenizer import Encoder, whole_ids
from mixing.tokens.tokenizer_file import TokenizerFile, load_tokenizer

ENDS = {
    "plain": "<|endoftext|>",
    "chatml": "<|im_end|>",
    "trimmed": "<|endoftext|>",
    "generation": "<|im_end|>",
    "instruct": "<|endoftext|>",
}


def encoder_of(tokenizer: TokenizerFile, library: Any = "gigatoken") -> ConversationEncoder:
    return ConversationEncoder(Encoder(tokenizer, library))


def encoded(
    tokenizer: TokenizerFile, turns: Iterable[list[dict[str, Any]]], library: Any = "gigatoken"
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(text, ids, supervised) of each conversation."""
    rows = [(i, as_row(t)) for i, t in enumerate(turns, 1)]
    found = encoder_of(tokenizer, library).encode(rows)
    assert not found.bad
    begins = np.append(0, np.cumsum(found.masks.counts))
    flags = [flags_of_runs(found.masks.runs[a:b]) for a, b in pairwise(begins)]
    ids = [found.ids[a:b] for a, b in pairwise(found.offsets)]
    texts = [row.text for _, row in found.rows]
    return list(zip(texts, ids, flags, strict=True))


@pytest.mark.parametrize("library", ["gigatoken", "tokenizers"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_are_those_of_the_whole_rendering(name: str, library: str) -> None:
    tokenizer = chat_tokenizer(TEMPLATES[name])
    turns = [conversation(random.Random(seed)) for seed in range(60)]
    for text, ids, flags in encoded(tokenizer, turns, library):
        assert ids.tolist() == whole_ids(tokenizer, text).tolist()
        assert flags.size == ids.size


@pytest.mark.parametrize("name", [n for n, t in TEMPLATES.items() if t is not None])
def test_rendering_is_that_of_transformers(name: str) -> None:
    tokenizer = chat_tokenizer(TEMPLATES[name])
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.json_text),
        chat_template=TEMPLATES[name],
        **tokenizer.chat.tokens,
    )
    for seed in range(40):
        turns = conversation(random.Random(seed), odd=True)
        expected = theirs.apply_chat_template(turns, tokenize=False)
        ((text, _, _),) = encoded(tokenizer, [turns])
        assert text == expected
        assert chat_template(tokenizer).render(messages_of(turns)) == expected


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("name", TEMPLATES)
def test_masks_decode_to_the_answers(name: str, odd: bool) -> None:
    tokenizer = chat_tokenizer(TEMPLATES[name])
    backend = Tokenizer.from_str(tokenizer.json_text)
    turns = [conversation(random.Random(seed), odd=odd) for seed in range(80)]
    for asked, (_, ids, flags) in zip(turns, encoded(tokenizer, turns), strict=True):
        edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
        read = [
            backend.decode(ids[a:b].tolist(), skip_special_tokens=False)
            for a, b in edges.reshape(-1, 2).tolist()
        ]
        assert [r.strip(" ") for r in read] == [
            answer(t["content"], name) for t in asked if t["role"] == "assistant"
        ]


def answer(content: str, name: str) -> str:
    content = content.strip() if name in ("plain", "trimmed") else content
    return (content + ENDS[name]).strip(" ")


def test_control_strings_in_messages_stay_text() -> None:
    tokenizer = chat_tokenizer(CHATML)
    end = tokenizer.control_ids["<|im_end|>"]
    turns = [{"role": "user", "content": "say <|im_end|> now"}]
    turns.append({"role": "assistant", "content": "<|im_end|>"})
    ((text, ids, flags),) = encoded(tokenizer, [turns])
    assert text.count("<|im_end|>") == 5
    assert (ids == end).sum() == 3
    assert (ids[flags] == end).tolist() == [False] * (int(flags.sum()) - 1) + [True]


def test_private_characters_in_messages_are_kept() -> None:
    tokenizer = chat_tokenizer(CHATML)
    both = "\U000f0000 <|im_end|> \U00100000"
    for content in ("\U000f0000 <|im_end|>", "<|im_end|> \U00100000", "\U000f0000\U00100000"):
        turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "yes"}]
        ((text, _, _),) = encoded(tokenizer, [turns])
        assert f"user\n{content}<|im_end|>" in text
    turns = [{"role": "user", "content": both}, {"role": "assistant", "content": "yes"}]
    (bad,) = encoder_of(tokenizer).encode([(7, as_row(turns))]).bad
    assert (bad.line, bad.reason) == (7, "special_strings_among_private_characters")


def test_borders_inside_text_are_counted() -> None:
    """Where only letters separate prompt and answer, a token could reach over the border."""
    tokenizer = chat_tokenizer(INSTRUCT.replace("' ' + m.content", "m.content"))
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "]] b"}]
    found = encoder_of(tokenizer).encode([(1, as_row(turns))])
    text = found.rows[0][1].text
    apart = [*whole_ids(tokenizer, "[INST] a [/INST]"), *whole_ids(tokenizer, "]] b<|endoftext|>")]
    assert text == "[INST] a [/INST]]] b<|endoftext|>"
    assert found.ids.tolist() == apart
    differs = apart != whole_ids(tokenizer, text).tolist()
    assert found.notes["borders_between_merged_tokens"] == int(differs)


def test_a_template_that_rewrites_earlier_turns_is_noticed() -> None:
    template = chat_template(chat_tokenizer(FORGETFUL))
    one = conversation(random.Random(0), turns=1)
    assert [p.supervised for p in template.parts(messages_of(one))] == [False, True]
    with pytest.raises(CannotRender, match="template_rewrites_turns"):
        template.parts(messages_of(one + one))


def test_a_template_may_refuse() -> None:
    source = "{{ raise_exception('no') }}"
    with pytest.raises(CannotRender, match="template_refused"):
        ChatTemplate(source, {}).render(())
    with pytest.raises(UserError, match="cannot be parsed: line 1"):
        ChatTemplate("{% for %}", {})
    with pytest.raises(CannotRender):  # the sandbox
        ChatTemplate("{{ messages.append(1) }}", {}).render(())


def test_what_transformers_offers_is_there() -> None:
    source = (
        "{% for m in [1, 2, 3] %}{% if m == 2 %}{% break %}{% endif %}{{ m }}{% endfor %}"
        "{{ {'a': '<\u00e9>'} | tojson }} {{ strftime_now('%Y-%m-%d') }}"
    )
    assert ChatTemplate(source, {}).render(()) == '1{"a": "<\u00e9>"} 2024-07-26'


def test_tokenizers_that_mark_the_beginning_of_a_text_are_refused() -> None:
    refuse_unlike(chat_tokenizer(CHATML))
    refuse_unlike(chat_tokenizer(None))
    tokenizer = chat_tokenizer(CHATML)
    marking = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    marking["use_regex"] = True
    tree = {**json.loads(tokenizer.json_text), "pre_tokenizer": marking}
    with pytest.raises(UserError, match="other ids after a control token"):
        refuse_unlike(replace(tokenizer, json_text=json.dumps(tree)))


def test_special_tokens_that_swallow_space() -> None:
    tokenizer = chat_tokenizer(TRIMMED, rstrip=True, lstrip=True)
    turns = [conversation(random.Random(seed)) for seed in range(20)]
    refuse_unlike(tokenizer)
    for text, ids, _ in encoded(tokenizer, turns):
        assert ids.tolist() == whole_ids(tokenizer, text).tolist()


@pytest.mark.parametrize("seed", range(30))
def test_runs_come_back_as_flags(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 20, 12)
    flags = rng.random(lengths.sum()) < rng.choice([0, 0.1, 0.5, 1])
    offsets = np.append(0, np.cumsum(lengths))
    masks = masks_of(flags, offsets)
    begins = np.append(0, np.cumsum(masks.counts))
    for i, (a, b) in enumerate(pairwise(offsets)):
        runs = masks.runs[begins[i] : begins[i + 1]]
        assert np.array_equal(flags_of_runs(runs), flags[a:b])
        assert (runs[1:] > 0).all()
        assert masks.targets[i] == flags[a + 1 : b].sum()
        assert np.array_equal(runs_of_flags(flags[a:b]), runs)


def test_template_beside_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer()
    (tmp_path / "tokenizer.json").write_text(tokenizer.json_text)
    config = '{"chat_template": %s, "eos_token": {"content": "<|im_end|>"}, "bos_token": "<|bos|>"}'
    (tmp_path / "tokenizer_config.json").write_text(config % '"one"')
    for name in (tmp_path, tmp_path / "tokenizer.json"):
        assert load_tokenizer(str(name)).chat.template == "one"
    assert load_tokenizer(str(tmp_path)).chat.tokens["eos_token"] == "<|im_end|>"
    named = '[{"name": "rag", "template": "x"}, {"name": "default", "template": "two"}]'
    (tmp_path / "tokenizer_config.json").write_text(config % named)
    assert load_tokenizer(str(tmp_path)).chat.template == "two"
    (tmp_path / "chat_template.jinja").write_text("three")
    assert load_tokenizer(str(tmp_path)).chat.template == "three"
    other = tmp_path / "other.json"
    other.write_text(tokenizer.json_text)
    assert load_tokenizer(str(other)).chat.template is None
