"""Turns columns into a conversation: prompt and response, OpenAI messages, Bedrock converse."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from configs import Source
from mixing.documents.chat_template import Message

ROLES = frozenset({"system", "developer", "user", "assistant"})
Format = Literal["text", "prompt_response", "messages", "converse"]


@dataclass(frozen=True)
class Schema:
    """How the columns of a row become a conversation; part of a built source's key."""

    format: Format
    prompt_column: str
    response_column: str
    system_column: str | None

    @classmethod
    def of(cls, source: Source) -> "Schema | None":
        """None for plain text."""
        if source.format == "text":
            return None
        return cls(
            source.format, source.prompt_column, source.response_column, source.system_column
        )

    def identity(self) -> dict[str, Any]:
        """What of it decides the conversation: column names only where they are read."""
        if self.format != "prompt_response":
            return {"format": self.format}
        return {
            "format": self.format,
            "prompt": self.prompt_column,
            "response": self.response_column,
            "system": self.system_column,
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        if self.format == "prompt_response":
            named = (self.system_column, self.prompt_column, self.response_column)
            return tuple(name for name in named if name is not None)
        return ("messages",) if self.format == "messages" else ("system", "messages")

    def messages(self, row: Mapping[str, Any]) -> tuple[Message, ...] | str:
        """The conversation of a row, or the reason why it has none."""
        if self.format == "prompt_response":
            missing = self._missing(row)
            if missing is not None:
                return missing
            turns = self._prompt_response(row)
        elif self.format == "messages":
            turns = row.get("messages")
        else:
            turns = _converse(row)
        if turns is None:
            return "no_messages"
        if not isinstance(turns, list):
            return "messages_not_a_list"
        found: list[Message] = []
        for turn in turns:
            message = _message(turn)
            if isinstance(message, str):
                return message
            found.append(message)
        if not any(message.trained for message in found):
            return "no_supervised_tokens"
        return tuple(found)

    def _missing(self, row: Mapping[str, Any]) -> str | None:
        if row.get(self.prompt_column) is None:
            return "no_prompt"
        return "no_response" if row.get(self.response_column) is None else None

    def _prompt_response(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        turns = [
            {"role": "user", "content": row[self.prompt_column]},
            {"role": "assistant", "content": row[self.response_column]},
        ]
        system = row.get(self.system_column) if self.system_column is not None else None
        return turns if system in (None, "") else [{"role": "system", "content": system}, *turns]


def _converse(row: Mapping[str, Any]) -> Any:
    """Bedrock keeps the system prompt, a list of texts, beside the messages."""
    system, turns = row.get("system"), row.get("messages")
    if system in (None, []) or not isinstance(turns, list):
        return turns
    return [{"role": "system", "content": system}, *turns]


def _message(turn: Any) -> Message | str:
    if not isinstance(turn, dict):
        return "message_not_an_object"
    role = turn.get("role")
    if not isinstance(role, str) or role not in ROLES:
        return "unknown_role"
    content = _text(turn.get("content"))
    if content is None or turn.get("tool_calls"):
        return "content_not_text"
    if not content or content.isspace():
        return "empty_content"
    weight = turn.get("weight")  # OpenAI: 0 keeps an assistant's turn out of the loss
    if weight not in (None, 0, 1):
        return "bad_weight"
    return Message(role, content, role == "assistant" and weight != 0)


def _text(content: Any) -> str | None:
    """A string, or the texts of content blocks joined by line breaks; None for anything else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    texts: list[str] = []
    for block in content:
        # OpenAI: {type: text, text: ...}; converse: {text: ...}; pictures and tools are no text
        if not isinstance(block, dict) or not isinstance(block.get("text"), str):
            return None
        if any(value is not None and key not in ("type", "text") for key, value in block.items()):
            return None
        if block.get("type", "text") != "text":
            return None
        texts.append(block["text"])
    return "\n".join(texts)
