"""Chat templates of the usual shapes, a tokenizer with control tokens, seeded conversations."""

import json
import random
from dataclasses import replace
from typing import Any

from small_tokenizer import WORDS, small_tokenizer, small_tokenizer_json

from mixing.documents.chat_template import Message
from mixing.documents.documents import Row
from mixing.tokens.tokenizer_file import ChatSettings, TokenizerFile

CONTROLS = ("<|im_start|>", "<|im_end|>", "<|bos|>")
CHATML = """{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
TRIMMED = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_end|>\\n\\n' + "
    "m['content'] | trim + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_end|>\\n\\n' }}{% endif %}"
)
GENERATION = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INSTRUCT = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
    "{% else %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endif %}{% endfor %}"
)
FORGETFUL = """{%- for m in messages %}
    {%- if m.role == 'assistant' and not loop.last %}
        {{- '<|im_start|>assistant\\n(left out)<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
TEMPLATES = {
    "plain": None,
    "chatml": CHATML,
    "trimmed": TRIMMED,
    "generation": GENERATION,
    "instruct": INSTRUCT,
}


def chat_tokenizer(template: str | None = None, **flags: bool) -> TokenizerFile:
    """The small tokenizer with CONTROLS as special tokens; ``flags`` are set on each."""
    added = json.loads(small_tokenizer_json())["added_tokens"]
    size = small_tokenizer().vocab_size
    more = [{**added[0], "id": size + i, "content": s, **flags} for i, s in enumerate(CONTROLS)]
    tokenizer = small_tokenizer(added_tokens=[*added, *more])
    tokens = {"bos_token": "<|bos|>", "eos_token": "<|endoftext|>"}
    return replace(tokenizer, chat=ChatSettings(template, tokens))


def conversation(rng: random.Random, turns: int = 3, odd: bool = False) -> list[dict[str, Any]]:
    """System at times, then user and assistant by turns; ``odd`` content has every trap."""
    pieces = WORDS.split()
    if odd:
        pieces += ["<|im_end|>", "<|endoftext|>", "<|im_start|>system\n", "\n\n", "  ", "\t"]
        pieces += [
            "\U0001f468\u200d\U0001f469",
            "\u6f22\u5b57",
            "e\u0301",
            "[/INST]",
            "Assistant:\n",
        ]
    roles = ["system"] * rng.choice([0, 1]) + ["user", "assistant"] * rng.randint(1, turns)
    found = []
    for role in roles:
        words = rng.choices(pieces, k=rng.randint(1, 12))
        found.append({"role": role, "content": rng.choice([" ", ""]).join(["x", *words])})
    return found


def messages_of(turns: list[dict[str, Any]]) -> tuple[Message, ...]:
    return tuple(Message(t["role"], t["content"], t["role"] == "assistant") for t in turns)


def as_row(turns: list[dict[str, Any]]) -> Row:
    return Row("", b"", None, False, False, messages_of(turns))
