"""Sizes of sources that are not built yet, from the beginning of their files."""

import math
from pathlib import Path

from configs import Data, Source, UserError
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
    texts: list[str] = []
    disk_bytes = 0
    for path in files[:: math.ceil(len(files) / _SAMPLE_FILES)]:
        found, read = _sample(path, RowOptions.of(source))
        texts += found
        disk_bytes += read
    if not texts:
        raise UserError(
            f"source '{source.name}' has no usable document at the start of {files[0]}",
            f"check data.sources.{source.name}.text_column '{source.text_column}'",
        )
    scale = sum(path.stat().st_size for path in files) / max(disk_bytes, 1)
    tokens = _tokens(texts, tokenizer) * scale * (1 - _heldout(source))
    documents = len(texts) * scale * (1 - _heldout(source))
    rows = max(1, math.ceil((tokens + documents * data.append_eos) / data.seq_len))
    return PlanSource(
        name=source.name,
        role=source.role,
        rows=rows,
        tokens=round(tokens + documents * data.append_eos),
        supervised_tokens=round(tokens + documents * (data.append_eos - 1)),
        max_epochs=source.max_epochs,
        key="",
        pack_hash="",
    )


def _heldout(source: Source) -> float:
    return 0.0 if source.role == "retention" else source.heldout


def _sample(path: Path, options: RowOptions) -> tuple[list[str], int]:
    """Texts of the whole lines at the start of a file, and the bytes on disk that they took."""
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
    return [r.text for r in rows if isinstance(r, Row)], read


def _tokens(texts: list[str], tokenizer: TokenizerFile) -> float:
    """Tokens of all texts, from every n-th; only texts longer than the sample are cut."""
    every = math.ceil(sum(map(len, texts)) / _SAMPLE_CHARACTERS)
    sample = [text[:_SAMPLE_CHARACTERS] for text in texts[::every]]
    ids, _ = Encoder(tokenizer, "tokenizers").encode(sample)
    return len(ids) * sum(map(len, texts)) / sum(map(len, sample))
