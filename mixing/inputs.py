"""Which files a source is made of, and the hashes of their bytes."""

import glob
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from configs import Source, UserError

SUFFIXES = (".jsonl", ".jsonl.zst", ".jsonl.gz")
READ_BYTES = 1 << 20
# A file written again within the clock tick of its last hash would keep size and mtime.
SETTLED_SECONDS = 2.0


@dataclass(frozen=True)
class InputFile:
    """One file of a source. ``name`` is its path below the folder common to all of them;
    ``xxh3_128`` hashes its bytes as they lie on disk."""

    path: Path
    name: str
    bytes: int
    xxh3_128: str


@dataclass(frozen=True)
class FoundFiles:
    """Paths that the globs and folders of a source give, each once, in order of path."""

    paths: tuple[Path, ...]
    named_twice: int
    other_files_in_folders: int


def find_files(source: Source) -> FoundFiles:
    """Expand the paths of a source. Raises UserError for what gives no file."""
    paths: list[Path] = []
    others = 0
    for pattern in source.path:
        found, ignored = _expand(pattern, source.name)
        paths += found
        others += ignored
    unique = {path.resolve(): path for path in reversed(paths)}
    ordered = tuple(sorted(unique, key=str))
    return FoundFiles(ordered, len(paths) - len(ordered), others)


def _expand(pattern: str, name: str) -> tuple[list[Path], int]:
    """Files of one entry of ``path``, and how many files of a folder are of another kind."""
    path = Path(pattern).expanduser()
    kinds = ", ".join(SUFFIXES)
    if path.is_dir():
        inside = [p for p in path.rglob("*") if p.is_file() and not _hidden(p, path)]
        usable = [p for p in inside if p.name.endswith(SUFFIXES)]
        if not usable:
            raise UserError(
                f"source '{name}': no {kinds} file in the folder {pattern}", "correct its path"
            )
        return usable, len(inside) - len(usable)
    if path.exists():
        matched = [path]
    else:
        matched = [Path(p) for p in glob.glob(str(path), recursive=True)]
        matched = [p for p in matched if p.is_file()]
    if not matched:
        what = "no file matches" if glob.has_magic(pattern) else "no such file or folder:"
        raise UserError(f"source '{name}': {what} {pattern}", "correct its path")
    for file in matched:
        if not file.name.endswith(SUFFIXES):
            raise UserError(f"source '{name}': {file} is none of {kinds}", "convert or rename it")
    return matched, 0


def _hidden(path: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(below).parts)


def fingerprint(
    paths: Sequence[Path], store: Path, progress: Callable[[str], None]
) -> tuple[InputFile, ...]:
    """Hash the files, in order of their content, so that names do not decide the order.

    Hashes are remembered in the store and trusted while a file's path, size and modification
    time stay the same. A build reads every byte again and compares.
    """
    cache_path = store / ".inputs" / f"{xxhash.xxh3_128_hexdigest(repr(paths).encode())}.json"
    remembered = _load_cache(cache_path)
    common = os.path.commonpath([p.parent for p in paths])
    started = time.time()
    files: list[InputFile] = []
    cache: dict[str, list[object]] = {}
    for path in paths:
        stat = _stat(path)
        stamp = [stat.st_size, stat.st_mtime_ns]
        known = remembered.get(str(path))
        if known is not None and known[:2] == stamp:
            digest = str(known[2])
        else:
            digest = hash_file(path, progress)
        if stat.st_mtime < started - SETTLED_SECONDS:
            cache[str(path)] = [*stamp, digest]
        name = path.relative_to(common).as_posix()
        files.append(InputFile(path, name, stat.st_size, digest))
    if cache != remembered:
        _save_cache(cache_path, cache)
    return tuple(sorted(files, key=lambda f: (f.xxh3_128, f.bytes, f.name)))


def hash_file(path: Path, progress: Callable[[str], None] | None = None) -> str:
    """xxh3_128 of a file's bytes, as hex digits."""
    digest = xxhash.xxh3_128()
    size = _stat(path).st_size
    if progress is not None and size > 1 << 30:
        progress(f"hashing {path} ({size / 1e9:.1f} GB)")
    try:
        with open(path, "rb") as file:
            while piece := file.read(READ_BYTES):
                digest.update(piece)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "check that it can be read") from None
    return digest.hexdigest()


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "check that it can be read") from None


def _load_cache(path: Path) -> dict[str, list[object]]:
    try:
        cache = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return cache if isinstance(cache, dict) else {}


def _save_cache(path: Path, cache: dict[str, list[object]]) -> None:
    """Replace the cache in one step; a lost race loses only a remembered hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(cache), encoding="utf-8")
    os.replace(temporary, path)
