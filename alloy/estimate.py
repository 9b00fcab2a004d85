"""Sizes of sources that are not built yet, from the beginning of their files."""

import math
from pathlib import Path

from configs import Data, Source, UserError
from mixing.conversations import ConversationEncoder
from mixing.documents import (
    HashingReader,
    Row,
    RowOptions,
    decompressed,
    parse_row,
)
from mixing.inputs import find_files
from mixing.plan import PlanSource
from mixing.tokenizer import Encoder, TokenizerFile

_SAMPLE_FILES = 4
_SAMPLE_BYTES = 1 << 17
_SAMPLE_CHARACTERS = 20_000


def estimated_source(source: Source, data: Data, tokenizer: TokenizerFile) -> PlanSource:
    """Rows and tokens of a source from about 128 KiB at the start of a few of its files.

    Tokens and documents are scaled by the files' bytes on disk, so a file whose beginning is not
    like the rest is estimated badly: the plan built from it is marked ``estimated``. Raises
    UserError where no file is found or the sample has no usable document.
    """
    files = find_files(source).paths
    sampled: list[Row] = []
    disk_bytes = 0
    for path in files[:: math.ceil(len(files) / _SAMPLE_FILES)]:
        found, read = _sample(path, RowOptions.of(source))
        sampled += found
        disk_bytes += read
    if not sampled:
        columns = source.text_column if source.format == "text" else f"format {source.format}"
        raise UserError(
            f"source '{source.name}' has no usable document at the start of {files[0]}",
            f"check data.sources.{source.name}: its text is looked for in '{columns}'",
        )
    scale = sum(path.stat().st_size for path in files) / max(disk_bytes, 1)
    scale *= 1 - _heldout(source)
    if source.format == "text":
        tokens, targets = _text_tokens([row.text for row in sampled], tokenizer, data.append_eos)
    else:
        tokens, targets = _conversation_tokens(sampled, tokenizer)
    return PlanSource(
        name=source.name,
        role=source.role,
        rows=max(1, math.ceil(tokens * scale / data.seq_len)),
        tokens=round(tokens * scale),
        supervised_tokens=round(targets * scale),
        max_epochs=source.max_epochs,
        key="",
        pack_hash="",
    )


def _heldout(source: Source) -> float:
    return 0.0 if source.role == "retention" else source.heldout


def _sample(path: Path, options: RowOptions) -> tuple[list[Row], int]:
    """Rows of the whole lines at the start of a file, and the bytes on disk that they took."""
    with path.open("rb") as raw:
        pieces: list[bytes] = []
        for piece in decompressed(HashingReader(raw), path):
            pieces.append(piece)
            if sum(map(len, pieces)) >= _SAMPLE_BYTES:
                break
        read = min(raw.tell(), path.stat().st_size)
    data = b"".join(pieces)
    whole = data if read == path.stat().st_size else data[: data.rfind(b"\n") + 1]
    rows = [parse_row(line, 1, options) for line in whole.split(b"\n") if line]
    return [r for r in rows if isinstance(r, Row)], read


def _text_tokens(
    texts: list[str], tokenizer: TokenizerFile, append_eos: bool
) -> tuple[float, float]:
    """Tokens and targets of all texts, from every n-th; only texts over the sample are cut."""
    every = math.ceil(sum(map(len, texts)) / _SAMPLE_CHARACTERS)
    sample = [text[:_SAMPLE_CHARACTERS] for text in texts[::every]]
    ids, _ = Encoder(tokenizer, "tokenizers").encode(sample)
    tokens = len(ids) * sum(map(len, texts)) / sum(map(len, sample)) + len(texts) * append_eos
    return tokens, tokens - len(texts)


def _conversation_tokens(rows: list[Row], tokenizer: TokenizerFile) -> tuple[float, float]:
    """Tokens and targets of all conversations, rendered."""
    encoder = ConversationEncoder(Encoder(tokenizer, "tokenizers"))
    found = encoder.encode(list(enumerate(rows, 1)))
    return len(found.ids), max(1, int(found.masks.targets.sum()))
