"""Builds the folder of a source in the store: once for each content, with a ledger."""

import errno
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs import CheckFailed, Data, Source, UserError
from mixing.building.erasing import finish_source
from mixing.building.ingest import Tally, TokenEnds, ingest, sample_texts
from mixing.documents import RowOptions
from mixing.ledger import Ledger
from mixing.publish import building, publish
from mixing.sources import (
    FoundFiles,
    InputFile,
    fingerprint,
    hub_files,
    is_local,
    local_files,
    remembered_files,
)
from mixing.store import (
    FORMAT_VERSION,
    NO_ID_HASH,
    QUARANTINE,
    ShardWriter,
    SourceReader,
    load_erasures,
    open_source,
    source_key,
    write_manifest,
)
from mixing.tokens import TokenizerFile, Workers, refuse_unlike

Progress = Callable[[str], None]


@dataclass(frozen=True)
class SourceReport:
    """What became of one source. ``dropped`` counts documents by reason; ``notes`` counts what
    was noticed and kept (bom_stripped, crlf_documents, special_like_strings, ...)."""

    name: str
    role: str
    key: str
    documents_in: int
    documents_written: int
    dropped: dict[str, int]
    tokens: int
    shards: int
    reused: bool
    quarantine: str | None
    tokenizer_library: str
    seconds: float
    text_bytes: int
    notes: dict[str, int]
    ledger_balanced: bool


@dataclass(frozen=True)
class _Job:
    """One source with all that decides its content."""

    source: Source
    data: Data
    tokenizer: TokenizerFile
    found: FoundFiles
    files: tuple[InputFile, ...]
    key: str
    read_tokens: int | None
    """No more is read of a hub source once as many tokens are written; None: all of it is."""

    @property
    def store(self) -> Path:
        return Path(self.data.store)

    @property
    def ends(self) -> TokenEnds:
        if self.source.format != "text":  # the template says how a conversation begins and ends
            return TokenEnds(None, None)
        eos_id = self.tokenizer.eos_id if self.data.append_eos else None
        return TokenEnds(self.tokenizer.bos_id, eos_id)


def build_corpus(
    data: Data, tokenizer: TokenizerFile, workers: int, progress: Progress
) -> list[SourceReport]:
    """Build every source that is not in the store yet; ``workers`` processes tokenize."""
    with Workers(tokenizer, workers) as pool:
        return [_build(source, data, tokenizer, pool, progress) for source in data.sources]


def build_source(
    source: Source, data: Data, tokenizer: TokenizerFile, workers: int, progress: Progress
) -> SourceReport:
    """Build one source, or find it in the store.

    Raises UserError, with nothing published, where a file is missing or changes meanwhile, no
    document is usable, or more rows are bad than ``max_bad`` allows.
    """
    with Workers(tokenizer, workers) as pool:
        return _build(source, data, tokenizer, pool, progress)


def find_source(source: Source, data: Data, tokenizer: TokenizerFile) -> str | None:
    """Key of the source if it is built and complete, else None.

    Trusted without reading: that an input file whose path, size and modification time are the
    same still has the content that was hashed, and that shards of the right size are intact.
    Raises UserError where the store's copy is damaged.
    """
    if not is_local(source) and remembered_files(source, Path(data.store)) is None:
        return None
    job = _job(source, data, tokenizer, lambda _: None)
    if not (job.store / job.key).exists():
        return None
    open_source(job.store, job.key)
    return job.key


def _job(source: Source, data: Data, tokenizer: TokenizerFile, progress: Progress) -> _Job:
    found, read_tokens = FoundFiles((), 0, 0), None
    if is_local(source):
        found = local_files(source)
        files = fingerprint(found.paths, Path(data.store), progress)
    else:
        files = hub_files(source, Path(data.store), progress)
        read_tokens = source.take
    rows = RowOptions.of(source)
    key = source_key(files, tokenizer, rows, data.append_eos, data.shard_tokens, read_tokens)
    return _Job(source, data, tokenizer, found, files, key, read_tokens)


def _build(
    source: Source, data: Data, tokenizer: TokenizerFile, pool: Workers, progress: Progress
) -> SourceReport:
    started = time.monotonic()
    job = _job(source, data, tokenizer, progress)
    reader = _already_built(job, progress)
    reused = reader is not None
    try:
        if reader is None:
            reader, reused = _build_locked(job, pool, progress)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"source '{source.name}': no space left in {job.store}",
            "free some or set data.store to another disk",
        ) from None
    if erasures := load_erasures(job.store):  # what was killed, or came in meanwhile
        finish_source(job.store, job.key, erasures, progress)
        reader = open_source(job.store, job.key, job.source.name)
    _refuse_bad(job, _ledger(reader), reader.manifest["cut_files"], reader.path(QUARANTINE))
    return _report(job, reader, reused, time.monotonic() - started)


def _already_built(job: _Job, progress: Progress) -> SourceReader | None:
    if not (job.store / job.key).exists():
        return None
    try:
        return open_source(job.store, job.key, job.source.name)
    except UserError as error:
        progress(f"{job.source.name}: the store's copy is damaged and is built again: {error}")
        return None


def _build_locked(job: _Job, pool: Workers, progress: Progress) -> tuple[SourceReader, bool]:
    """``(reader, whether another build of the same content made it)``."""
    with building(job.store, job.key, progress) as folder:
        reader = _already_built(job, progress)
        if reader is not None:
            return reader, True
        _write_source(job, folder, pool, progress)
        publish(folder, job.store, job.key)
        return open_source(job.store, job.key, job.source.name), False


def _write_source(job: _Job, folder: Path, pool: Workers, progress: Progress) -> None:
    """Fill ``folder`` with a complete source, or raise."""
    name, rows = job.source.name, RowOptions.of(job.source)
    if rows.schema is not None:
        refuse_unlike(job.tokenizer)
    library, version, reason = pool.choose(sample_texts(job.files, rows))
    progress(f"{name}: tokenizing with {library} {version} ({reason})")
    writer = _writer(job, folder)
    try:
        erasures = load_erasures(job.store)
        tally = ingest(
            name,
            job.files,
            rows,
            library,
            job.ends,
            pool,
            writer,
            erasures,
            progress,
            job.read_tokens,
        )
        files = writer.finish()
    except BaseException:
        writer.abandon()
        raise
    ledger = tally.ledger(writer.documents)
    if not ledger.balanced:
        raise CheckFailed(f"source '{name}': its ledger does not balance: {ledger}", "report it")
    _refuse_bad(job, ledger, tally.cut_files, folder / QUARANTINE)
    encoder = {"library": library, "library_version": version, "library_reason": reason}
    write_manifest(folder, _manifest(job, ledger, tally, writer, files, encoder, folder))


def _writer(job: _Job, folder: Path) -> ShardWriter:
    masked = job.source.format != "text"
    return ShardWriter(folder, job.tokenizer.token_dtype, job.data.shard_tokens, masked)


def _manifest(
    job: _Job,
    ledger: Ledger,
    tally: Tally,
    writer: ShardWriter,
    files: dict[str, dict[str, Any]],
    encoder: dict[str, str],
    folder: Path,
) -> dict[str, Any]:
    notes = {
        **tally.notes,
        "duplicate_ids": _duplicate_ids(folder),
        "erased_documents": len(tally.erased),
        "paths_named_twice": job.found.named_twice,
        "other_files_in_folders": job.found.other_files_in_folders,
    }
    return {
        "format_version": FORMAT_VERSION,
        "key": job.key,
        "name": job.source.name,
        "tokenizer": {
            "content_hash": job.tokenizer.content_hash,
            "vocab_size": job.tokenizer.vocab_size,
            "bos_id": job.ends.bos_id,
            "eos_id": job.ends.eos_id,
            **encoder,
        },
        "token_dtype": job.tokenizer.token_dtype,
        "inputs": tally.inputs(job.files),
        "cut_files": tally.cut_files,
        "documents_in": ledger.documents_in,
        "documents_written": ledger.documents_written,
        "dropped": ledger.dropped,
        "notes": {note: count for note, count in sorted(notes.items()) if count},
        "tokens": writer.tokens,
        "text_bytes": writer.text_bytes,
        "erased": tally.erased,
        "shards": writer.shards,
        "files": files,
    }


def _refuse_bad(job: _Job, ledger: Ledger, cut_files: int, quarantine: Path) -> None:
    """Raise UserError, keeping the quarantine, where too much is bad or nothing is usable.

    A file whose rest cannot be read counts as one row in the ledger, whatever was in it; so
    the share of such files is held to ``max_bad`` as well.
    """
    name, limit = job.source.name, job.source.max_bad
    cut_share = cut_files / len(job.files)
    if not ledger.documents_in:
        raise UserError(f"source '{name}': its files hold no documents", "correct its path")
    if not ledger.documents_written:
        what = f"none of its {ledger.documents_in} documents can be used"
    elif ledger.bad_share > limit:
        what = f"{ledger.dropped_rows} of {ledger.documents_in} rows are bad"
        what += f" ({ledger.bad_share:.2%}, max_bad is {limit:.2%})"
    elif cut_share > limit:
        what = f"{cut_files} of {len(job.files)} files cannot be read to their end"
        what += f" ({cut_share:.2%}, max_bad is {limit:.2%})"
    else:
        return
    kept = job.store / ".refused" / f"{name}-{job.key[:8]}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(quarantine, kept)
    hint = f"see {kept}; correct these rows"
    if ledger.documents_written:
        percent = math.ceil(max(ledger.bad_share, cut_share) * 1e4) / 1e2
        hint += f", or allow them with max_bad: {percent:g}%"
    raise UserError(f"source '{name}': {what}: {ledger.reasons()}", hint)


def _duplicate_ids(folder: Path) -> int:
    """How many documents carry an id that an earlier one has; they are kept, as texts decide
    what is a duplicate. Sorts 8 bytes a document."""
    hashes = np.fromfile(folder / "documents.id_xxh3", "<u8")
    hashes = np.sort(hashes[hashes != NO_ID_HASH])
    return int(np.count_nonzero(hashes[1:] == hashes[:-1]))


def _ledger(reader: SourceReader) -> Ledger:
    manifest = reader.manifest
    return Ledger(manifest["documents_in"], manifest["documents_written"], manifest["dropped"])


def _report(job: _Job, reader: SourceReader, reused: bool, seconds: float) -> SourceReport:
    ledger, manifest = _ledger(reader), reader.manifest
    return SourceReport(
        name=job.source.name,
        role=job.source.role,
        key=job.key,
        documents_in=ledger.documents_in,
        documents_written=ledger.documents_written,
        dropped=ledger.dropped,
        tokens=manifest["tokens"],
        shards=len(manifest["shards"]),
        reused=reused,
        quarantine=str(reader.path(QUARANTINE)) if ledger.dropped else None,
        tokenizer_library=manifest["tokenizer"]["library"],
        seconds=seconds,
        text_bytes=manifest["text_bytes"],
        notes=manifest["notes"],
        ledger_balanced=ledger.balanced,
    )
