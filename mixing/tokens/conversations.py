"""Encodes conversations, with a mask that is exact to the token.

    messages ─▶ parts of the rendering ─▶ segments: control ids, stretches of text ─▶ ids + runs

A control token (``<|im_start|>``) is one where the template wrote it; the same string inside a
message is text. No token reaches over the border of a supervised stretch, as none can when the
model answers a prompt: the text on each side is encoded by itself.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from configs import UserError
from mixing.documents import PLAIN_TEMPLATE, CannotRender, ChatTemplate, Message, Part, Row
from mixing.ledger import BadRow
from mixing.tokens.masks import Masks, masks_of
from mixing.tokens.tokenizer import Encoder, whole_ids
from mixing.tokens.tokenizer_file import TokenizerFile

# Two planes of private characters: one stands for control strings inside messages while the
# template runs. Texts that use both are refused, and only where a control string is in them.
PRIVATE_PLANES = (0xF0000, 0x100000)
PROBE = (
    Message("user", "Where is it said?", False),
    Message("assistant", "In section 12.", True),
)


@dataclass(frozen=True)
class Segment:
    """A control token by id, or a stretch of text (id None)."""

    text: str
    control_id: int | None
    supervised: bool


@dataclass(frozen=True)
class EncodedConversations:
    """``rows`` with their texts, ids uint32 (tokens,) and offsets int64 (rows + 1,)."""

    rows: list[tuple[int, Row]]
    ids: np.ndarray
    offsets: np.ndarray
    masks: Masks
    bad: list[BadRow]
    notes: Counter[str]


class ConversationEncoder:
    """Renders and encodes conversations with one tokenizer."""

    def __init__(self, encoder: Encoder) -> None:
        tokenizer = encoder.tokenizer
        self._encoder = encoder
        self._template = chat_template(tokenizer)
        self._controls = tokenizer.control_ids
        self._in_text = _any_of(self._controls, {})
        self._in_rendering = _any_of(self._controls, tokenizer.swallowed_space)
        self._names = sorted(self._controls)

    def encode(self, numbered: Sequence[tuple[int, Row]]) -> EncodedConversations:
        """Rows that cannot be rendered, or have nothing to train on, come back as bad."""
        rows: list[tuple[int, Row]] = []
        segments: list[list[Segment]] = []
        bad: list[BadRow] = []
        notes: Counter[str] = Counter()
        for number, row in numbered:
            try:
                text, found = self._segments(row.messages, notes)
            except CannotRender as reason:
                glimpse = row.messages[0].content[:200]
                bad.append(BadRow(number, str(reason), glimpse, id=row.id))
                continue
            segments.append(found)
            rows.append((number, replace(row, text=text, utf8=text.encode())))
        ids, flags, offsets = self.ids_of(segments, notes)
        masks = masks_of(flags, offsets)
        nothing = np.flatnonzero(masks.targets == 0)
        if nothing.size:
            bad += [
                BadRow(number, "no_supervised_tokens", row.text[:200], id=row.id)
                for number, row in (rows[i] for i in nothing)
            ]
            kept = masks.targets > 0
            in_kept = np.repeat(kept, np.diff(offsets))
            ids, flags = ids[in_kept], flags[in_kept]
            offsets = np.append(0, np.cumsum(np.diff(offsets)[kept]))
            rows = [row for row, keep in zip(rows, kept.tolist(), strict=True) if keep]
            masks = masks_of(flags, offsets)
        return EncodedConversations(rows, ids, offsets, masks, bad, notes)

    def _segments(
        self, messages: Sequence[Message], notes: Counter[str]
    ) -> tuple[str, list[Segment]]:
        """``(the whole rendering, its segments)``."""
        hidden, base = self._hide(messages, notes)
        parts = self._template.parts(hidden)
        segments = list(merged(s for part in parts for s in self.split(part)))
        text = "".join(part.text for part in parts)
        if base is None:
            return text, segments
        shown = {base + i: name for i, name in enumerate(self._names)}
        return text.translate(shown), [replace(s, text=s.text.translate(shown)) for s in segments]

    def _hide(
        self, messages: Sequence[Message], notes: Counter[str]
    ) -> tuple[Sequence[Message], int | None]:
        """Messages with a private character for each control string, and where those begin."""
        count = sum(len(self._in_text.findall(m.content)) for m in messages)
        if not count:
            return messages, None
        everything = "".join(m.content for m in messages)
        free = [p for p in PRIVATE_PLANES if not any(p <= ord(c) < p + 0x10000 for c in everything)]
        if not free:
            raise CannotRender("special_strings_among_private_characters")
        notes["special_like_strings"] += count
        mark = {name: chr(free[0] + i) for i, name in enumerate(self._names)}
        return [
            replace(m, content=self._in_text.sub(lambda found: mark[found[0]], m.content))
            for m in messages
        ], free[0]

    def split(self, part: Part) -> Iterator[Segment]:
        """Control tokens and the text between them. White space after an assistant's last control
        token belongs to the template and is not trained on."""
        done, last_control = 0, -1
        found: list[Segment] = []
        for match in self._in_rendering.finditer(part.text):
            if match.start() > done:
                found.append(Segment(part.text[done : match.start()], None, part.supervised))
            last_control = len(found)
            name = match[match.lastindex or 0]
            found.append(Segment(match[0], self._controls[name], part.supervised))
            done = match.end()
        if done < len(part.text):
            rest = part.text[done:]
            is_end = last_control >= 0 and rest.isspace()
            found.append(Segment(rest, None, part.supervised and not is_end))
        return iter(found)

    def ids_of(
        self, documents: Sequence[Sequence[Segment]], notes: Counter[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, whether each is supervised, and offsets of the documents."""
        texts = [s.text for d in documents for s in d if s.control_id is None]
        ids, at = self._encoder.encode(texts)
        sizes = iter(np.diff(at).tolist())
        flat = [s for d in documents for s in d]
        lengths = np.array([1 if s.control_id is not None else next(sizes) for s in flat], np.int64)
        flags = np.repeat(np.array([s.supervised for s in flat], bool), lengths)
        is_control = np.repeat(np.array([s.control_id is not None for s in flat], bool), lengths)
        whole = np.empty(int(lengths.sum()), np.uint32)
        whole[~is_control] = ids
        whole[is_control] = [s.control_id for s in flat if s.control_id is not None]
        ends = np.append(0, np.cumsum(lengths))
        offsets = ends[np.append(0, np.cumsum([len(d) for d in documents], dtype=np.int64))]
        notes["borders_between_merged_tokens"] += self._unlike_whole(flat, whole, ends)
        return whole, flags, offsets

    def _unlike_whole(self, flat: Sequence[Segment], ids: np.ndarray, ends: np.ndarray) -> int:
        """Borders at which the text would have been encoded otherwise if they were not there."""
        borders = [
            i
            for i in range(1, len(flat))
            if flat[i].control_id is None
            and flat[i - 1].control_id is None
            and flat[i].supervised != flat[i - 1].supervised
        ]
        joined, at = self._encoder.encode([flat[i - 1].text + flat[i].text for i in borders])
        return sum(
            not np.array_equal(joined[at[n] : at[n + 1]], ids[ends[i - 1] : ends[i + 1]])
            for n, i in enumerate(borders)
        )


def merged(segments: Iterator[Segment]) -> Iterator[Segment]:
    """Neighbouring texts that are alike as one, so that only the mask decides where text is cut."""
    held: Segment | None = None
    for segment in segments:
        alike = held is not None and held.control_id is None and segment.control_id is None
        if held is not None and alike and held.supervised == segment.supervised:
            held = replace(held, text=held.text + segment.text)
            continue
        if held is not None:
            yield held
        held = segment
    if held is not None:
        yield held


def chat_template(tokenizer: TokenizerFile) -> ChatTemplate:
    """The tokenizer's own template, else the plain one."""
    eos = tokenizer.token_text(tokenizer.eos_id)
    bos = tokenizer.token_text(tokenizer.bos_id)
    if tokenizer.chat.template is None:
        return ChatTemplate(PLAIN_TEMPLATE, {"bos_token": bos, "eos_token": eos})
    ends = {"bos_token": bos, "eos_token": eos}
    return ChatTemplate(tokenizer.chat.template, {**ends, **tokenizer.chat.tokens})


def refuse_unlike(tokenizer: TokenizerFile) -> None:
    """UserError where text between control tokens has other ids than by itself.

    Older SentencePiece tokenizers put a mark before what they take for the beginning of a text.
    The ids of PROBE in the template are compared with those of its whole rendering.
    """
    encoder = Encoder(tokenizer, "tokenizers")
    try:
        parts = chat_template(tokenizer).parts(PROBE)
    except CannotRender:
        return  # not a template for such a conversation: the rows will say so
    text = "".join(part.text for part in parts)
    conversations = ConversationEncoder(encoder)
    ids, _, _ = conversations.ids_of([[*conversations.split(Part(text, False))]], Counter())
    apart, _ = encoder.encode(["a\n", "b"])
    together, _ = encoder.encode(["a\nb"])
    if not np.array_equal(ids, whole_ids(tokenizer, text)) or not np.array_equal(apart, together):
        raise UserError(
            "this tokenizer gives a text other ids after a control token or a mask border than by "
            "itself (a prefix mark, or a special token of an unknown kind)",
            "use format text, or a byte-level tokenizer",
        )


def _any_of(strings: Iterable[str], space: Mapping[str, tuple[bool, bool]]) -> re.Pattern[str]:
    """Any of some strings, the longest first, one group a match; with the white space before and
    after that a special token swallows."""
    kinds: dict[tuple[bool, bool], list[str]] = {}
    for string in sorted(strings, key=lambda s: (-len(s), s)):
        kinds.setdefault(space.get(string, (False, False)), []).append(re.escape(string))
    space_of = {False: "", True: r"\s*"}
    return re.compile(
        "|".join(
            f"{space_of[before]}({'|'.join(names)}){space_of[after]}"
            for (before, after), names in sorted(kinds.items())
        )
    )
