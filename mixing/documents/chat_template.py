"""Renders conversations by a chat template, and tells which stretches are an assistant's turn.

    messages ─▶ render ─▶ whole text      messages[:i] ─▶ render ─▶ where turn i begins and ends

The cut points are found by rendering prefixes of the conversation. That needs no knowledge of the
template, and a template for which it cannot work (it writes an earlier turn otherwise once a later
one follows) is noticed, because the rendered prefix then is no prefix of the whole text.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from configs import UserError

PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ 'Assistant:\\n' + m.content | trim + eos_token }}{% else %}"
    "{{ m.role | capitalize + ':\\n' + m.content | trim + '\\n\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)
"""For tokenizers without a template of their own: ``User:``, a line break, the text without
surrounding white space, an empty line; an assistant's turn ends in the end-of-text token."""

# A template that asks for the date gets this one: a build gives the same bytes on any day.
FIXED_DATE = datetime.datetime(2024, 7, 26)


@dataclass(frozen=True)
class Message:
    """One turn. ``trained`` is False for turns of others, and where an assistant's has weight 0."""

    role: str
    content: str
    trained: bool


@dataclass(frozen=True)
class Part:
    """A stretch of a rendered conversation."""

    text: str
    supervised: bool


class CannotRender(Exception):
    """Why a conversation has no rendering; the argument is the reason's name."""


class ChatTemplate:
    """A Jinja template with what transformers offers to one: trimmed blocks, loop controls,
    ``tojson``, ``raise_exception``, ``strftime_now`` (of FIXED_DATE) and the ``generation`` block.
    It runs in a sandbox that cannot change what it is given.

    ``variables`` are the special tokens by name (``bos_token``, ``eos_token``, ...).
    """

    def __init__(self, source: str, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(
                f"the chat template cannot be parsed: line {error.lineno}: {error.message}",
                "correct chat_template beside the tokenizer",
            ) from None

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """Raises CannotRender where the template refuses, or stumbles over, the messages."""
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return self._template.render(
                **self._variables,
                messages=turns,
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError):
            # A template is a program of the model's maker; whatever it stumbles over, this row
            # has no rendering.
            raise CannotRender("template_refused") from None

    def parts(self, messages: Sequence[Message]) -> list[Part]:
        """The whole rendering, cut where trained turns begin and end; texts join up to it.

        A turn begins where the prompt for it ends and ends where it does as the last turn.
        Raises CannotRender where the template makes that impossible.
        """
        whole = self.render(messages)
        parts: list[Part] = []
        done = 0
        for index, message in enumerate(messages):
            if not message.trained:
                continue
            prompt = self.render(messages[:index], add_generation_prompt=True)
            is_last = index + 1 == len(messages)
            turn = whole if is_last else self.render(messages[: index + 1])
            fits = whole.startswith(prompt) and whole.startswith(turn) and turn.startswith(prompt)
            if not fits or len(prompt) < done or message.content.strip() not in turn[len(prompt) :]:
                raise CannotRender("template_rewrites_turns")
            parts += [Part(whole[done : len(prompt)], False), Part(turn[len(prompt) :], True)]
            done = len(turn)
        parts.append(Part(whole[done:], False))
        return [part for part in parts if part.text]


class _GenerationBlock(jinja2.ext.Extension):
    """``{% generation %}`` marks an assistant's turn for transformers; here it has to parse."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's way to name the tags of an extension

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


@lru_cache(maxsize=1)
def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[jinja2.ext.loopcontrols, _GenerationBlock],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return FIXED_DATE.strftime(form)
