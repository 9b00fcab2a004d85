"""Encodes a block of lines into token ids, hashes and document ids, in worker processes."""

import json
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Self, TypeVar

import numpy as np
import xxhash
import zstandard

from configs import UserError
from mixing.documents import Row, RowOptions, parse_block
from mixing.ledger import BadRow
from mixing.sources import Block
from mixing.tokens.conversations import ConversationEncoder
from mixing.tokens.masks import Masks
from mixing.tokens.tokenizer import Encoder, Library, choose_encoder
from mixing.tokens.tokenizer_file import TokenizerFile

T = TypeVar("T")
R = TypeVar("R")
IDS_PER_FRAME = 4096


@dataclass(frozen=True)
class BlockTask:
    """What a process needs for one block; ``bos_id``/``eos_id`` None: not added."""

    block: Block
    rows: RowOptions
    library: Library
    bos_id: int | None
    eos_id: int | None


@dataclass(frozen=True)
class EncodedBlock:
    """The documents of one block, in order of line.

    ``tokens`` (tokens,) in the type of the shards; ``lengths``, ``text_bytes``, ``lines`` int64
    and ``content_hashes``, ``id_hashes`` uint64, each (documents,). ``id_frames`` are zstd
    frames of JSON lists of ids (null: file and line) with the number of documents in each.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    text_bytes: np.ndarray
    content_hashes: np.ndarray
    id_hashes: np.ndarray
    lines: np.ndarray
    id_frames: tuple[tuple[int, bytes], ...]
    bad: tuple[BadRow, ...]
    blank_lines: int
    notes: dict[str, int]
    masks: Masks | None = None
    """Of conversations."""


def encode_block(
    task: BlockTask, encoder: Encoder, conversations: ConversationEncoder | None = None
) -> EncodedBlock:
    """Parse, tokenize and hash one block; ``conversations`` is for rows with a schema."""
    numbered, bad, notes = parse_block(task.block, task.rows)
    masks = None
    if conversations is None:
        numbered, ids, offsets, empty = _encode_texts(numbered, encoder)
        bad += empty
    else:
        found = conversations.encode(numbered)
        numbered, ids, offsets, masks = found.rows, found.ids, found.offsets, found.masks
        bad += found.bad
        notes.update(found.notes)
    bad.sort(key=lambda row: row.line)
    rows = [row for _, row in numbered]
    _count_notes(rows, encoder, notes)
    tokens, lengths = _with_ends(ids, offsets, task, encoder.tokenizer.token_dtype)
    blank_lines = notes.pop("blank_lines", 0)
    return EncodedBlock(
        tokens=tokens,
        lengths=lengths,
        text_bytes=np.array([len(row.utf8) for row in rows], np.int64),
        content_hashes=np.array([xxhash.xxh3_64_intdigest(row.utf8) for row in rows], np.uint64),
        id_hashes=np.array(
            [xxhash.xxh3_64_intdigest((row.id or "").encode()) for row in rows], np.uint64
        ),
        lines=np.array([number for number, _ in numbered], np.int64),
        id_frames=id_frames([row.id for row in rows]),
        bad=tuple(bad),
        blank_lines=blank_lines,
        notes=dict(notes),
        masks=masks,
    )


def _encode_texts(
    numbered: list[tuple[int, Row]], encoder: Encoder
) -> tuple[list[tuple[int, Row]], np.ndarray, np.ndarray, list[BadRow]]:
    """``(rows with tokens, ids, offsets, rows without)``."""
    texts, utf8 = [row.text for _, row in numbered], [row.utf8 for _, row in numbered]
    ids, offsets = encoder.encode(texts, utf8)
    empty = np.flatnonzero(np.diff(offsets) == 0).tolist()
    if not empty:
        return numbered, ids, offsets, []
    # a normalizer may leave nothing of a text; nothing is also no ids to cut
    without = [numbered[i] for i in empty]
    bad = [BadRow(number, "no_tokens", row.text[:200], id=row.id) for number, row in without]
    gone = set(empty)
    kept = [item for index, item in enumerate(numbered) if index not in gone]
    return kept, ids, np.delete(offsets, empty), bad


def _count_notes(rows: Sequence[Row], encoder: Encoder, notes: Counter[str]) -> None:
    for row in rows:
        if row.had_bom:
            notes["bom_stripped"] += 1
        if b"\r" in row.utf8 and b"\r\n" in row.utf8:
            notes["crlf_documents"] += 1
        if b"\0" in row.utf8:
            notes["nul_documents"] += 1
        if row.id is None:
            notes["documents_without_id"] += 1
        if row.odd_id:
            notes["unusable_ids"] += 1
        if row.messages:
            continue  # its text has control tokens of the template; messages are counted apart
        if special_like := encoder.count_special_like(row.utf8):
            notes["special_like_strings"] += special_like


def _with_ends(
    ids: np.ndarray, offsets: np.ndarray, task: BlockTask, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """Put BOS and EOS around each document: ``(tokens, lengths)``."""
    before, after = task.bos_id is not None, task.eos_id is not None
    lengths = np.diff(offsets) + before + after
    ends = np.cumsum(lengths)
    tokens = np.empty(int(ends[-1]) if ends.size else 0, dtype)
    is_text = np.ones(tokens.size, bool)
    if task.bos_id is not None:
        starts = ends - lengths
        tokens[starts] = task.bos_id
        is_text[starts] = False
    if task.eos_id is not None:
        tokens[ends - 1] = task.eos_id
        is_text[ends - 1] = False
    tokens[is_text] = ids
    return tokens, lengths


def id_frames(ids: Sequence[str | None]) -> tuple[tuple[int, bytes], ...]:
    """``(documents, zstd frame)`` of ids as JSON lists."""
    packer = zstandard.ZstdCompressor(level=3)
    parts = [ids[i : i + IDS_PER_FRAME] for i in range(0, len(ids), IDS_PER_FRAME)]
    return tuple((len(part), packer.compress(json.dumps(part).encode())) for part in parts)


class BlockEncoder:
    """Holds the encoders of one tokenizer, each loaded when it is first needed."""

    def __init__(self, tokenizer: TokenizerFile) -> None:
        self._tokenizer = tokenizer
        self._encoders: dict[Library, Encoder] = {}
        self._conversations: dict[Library, ConversationEncoder] = {}

    def choose(self, sample: Sequence[str]) -> tuple[Library, str, str]:
        """``(library, its version, reason)`` for texts like ``sample``."""
        encoder = choose_encoder(self._tokenizer, sample)
        self._encoders.setdefault(encoder.library, encoder)
        return encoder.library, encoder.version, encoder.reason

    def encode(self, task: BlockTask) -> EncodedBlock:
        encoder = self._encoders.get(task.library)
        if encoder is None:
            encoder = self._encoders[task.library] = Encoder(self._tokenizer, task.library)
        if task.rows.schema is None:
            return encode_block(task, encoder)
        if task.library not in self._conversations:
            self._conversations[task.library] = ConversationEncoder(encoder)
        return encode_block(task, encoder, self._conversations[task.library])


class Workers:
    """Processes that encode blocks; ``count`` 1 does it in this process.

    They are forked from a server process of their own, so neither threads nor a loaded torch
    of the caller are copied, and its imports are paid once. They start with the first use.
    """

    def __init__(self, tokenizer: TokenizerFile, count: int) -> None:
        self._tokenizer = tokenizer
        self._count = count
        self._here: BlockEncoder | None = BlockEncoder(tokenizer) if count <= 1 else None
        self._pool: ProcessPoolExecutor | None = None
        self._most_waiting = 0 if count <= 1 else 2 * count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def choose(self, sample: Sequence[str]) -> tuple[Library, str, str]:
        if self._here is not None:
            return self._here.choose(sample)
        return self._result(self._started().submit(_choose_in_worker, list(sample)))

    def encode_in_order(
        self, tasks: Iterable[tuple[T, BlockTask | BadRow]]
    ) -> Iterator[tuple[T, EncodedBlock | BadRow]]:
        """Results in the order of the tasks, each with what came with its task; a BadRow stays as
        it is. At most two tasks a process are under way."""
        waiting: deque[tuple[T, Future[EncodedBlock] | EncodedBlock | BadRow]] = deque()
        for own, task in tasks:
            if isinstance(task, BadRow):
                waiting.append((own, task))
            elif self._here is not None:
                waiting.append((own, self._here.encode(task)))
            else:
                waiting.append((own, self._started().submit(_encode_in_worker, task)))
            while len(waiting) > self._most_waiting:
                yield self._taken(*waiting.popleft())
        while waiting:
            yield self._taken(*waiting.popleft())

    def _taken(
        self, own: T, item: Future[EncodedBlock] | EncodedBlock | BadRow
    ) -> tuple[T, EncodedBlock | BadRow]:
        return own, self._result(item) if isinstance(item, Future) else item

    def _result(self, future: "Future[R]") -> R:
        try:
            return future.result()
        except BrokenProcessPool:
            raise UserError(
                "a tokenizing process was killed, perhaps for want of memory",
                f"use fewer than {self._count} processes",
            ) from None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])
            self._pool = ProcessPoolExecutor(
                self._count, context, initializer=_begin_worker, initargs=(self._tokenizer,)
            )
        return self._pool


_worker: BlockEncoder | None = None  # of a worker process, set once at its start


def _begin_worker(tokenizer: TokenizerFile) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = BlockEncoder(tokenizer)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _choose_in_worker(sample: list[str]) -> tuple[Library, str, str]:
    assert _worker is not None
    return _worker.choose(sample)


def _encode_in_worker(task: BlockTask) -> EncodedBlock:
    assert _worker is not None
    return _worker.encode(task)
