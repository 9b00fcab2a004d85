"""Sizes of sources that are not built yet, from the beginning of their files."""

import math
from pathlib import Path

from configs import Data, Source, UserError
from mixing.blend import PlanSource
from mixing.documents import Row, RowOptions, blocks_of, parse_block
from mixing.sources import Block, InputFile, is_local, local_files
from mixing.tokens import ConversationEncoder, Encoder, TokenizerFile

_SAMPLE_FILES = 4
_SAMPLE_BYTES = 1 << 17
_SAMPLE_CHARACTERS = 20_000


def estimated_source(source: Source, data: Data, tokenizer: TokenizerFile) -> PlanSource:
    """Rows and tokens of a source from about 128 KiB at the start of a few of its files.

    Tokens and documents are scaled by the files' bytes on disk, so a file whose beginning is not
    like the rest is estimated badly: the plan built from it is marked ``estimated``. Raises
    UserError where no file is found or the sample has no usable document.
    """
    if not is_local(source):
        return _taken_of_hub(source, data)
    files = local_files(source).paths
    sampled: list[Row] = []
    read = 0.0
    for path in files[:: math.ceil(len(files) / _SAMPLE_FILES)]:
        found, share = _sample(path, RowOptions.of(source))
        sampled += found
        read += share * path.stat().st_size
    if not sampled:
        columns = source.text_column if source.format == "text" else f"format {source.format}"
        raise UserError(
            f"source '{source.name}' has no usable document at the start of {files[0]}",
            f"check data.sources.{source.name}: its text is looked for in '{columns}'",
        )
    scale = sum(path.stat().st_size for path in files) / max(read, 1)
    if source.format == "text":
        tokens, targets = _text_tokens([row.text for row in sampled], tokenizer, data.append_eos)
    else:
        tokens, targets = _conversation_tokens(sampled, tokenizer)
    scale = min(scale, (source.take or math.inf) / tokens) * (1 - _heldout(source))
    return _estimate(source, data, tokens * scale, targets * scale)


def _taken_of_hub(source: Source, data: Data) -> PlanSource:
    """What is to be read of the hub, which is not asked before a build."""
    if source.take is None:
        raise UserError(
            f"source '{source.name}': the size of {source.hub} is not known before it is built",
            f"run `alloy build`, or say how many tokens data.sources.{source.name}.take takes",
        )
    tokens = source.take * (1 - _heldout(source))
    return _estimate(source, data, tokens, tokens)


def _estimate(source: Source, data: Data, tokens: float, targets: float) -> PlanSource:
    tokens, targets = data.subset * tokens, data.subset * targets
    return PlanSource(
        name=source.name,
        role=source.role,
        rows=max(1, math.ceil(tokens / data.seq_len)),
        tokens=round(tokens),
        supervised_tokens=round(targets),
        max_epochs=source.max_epochs,
        key="",
        pack_hash="",
    )


def _heldout(source: Source) -> float:
    return 0.0 if source.role == "retention" else source.heldout


def _sample(path: Path, options: RowOptions) -> tuple[list[Row], float]:
    """Rows at the start of a file, and the share of the file that they take."""
    file = InputFile(path, path.name, path.stat().st_size, "")
    first = next((b for b in blocks_of(file, options, _SAMPLE_BYTES) if isinstance(b, Block)), None)
    if first is None:
        return [], 1.0
    return [row for _, row in parse_block(first, options)[0]], first.file_share


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
