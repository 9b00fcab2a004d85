"""Which files a source is made of, and the hashes of their bytes."""

import glob
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Self, cast

import xxhash
from fsspec.core import url_to_fs

from configs import Source, UserError
from mixing.publish import replace_file

Kind = Literal["lines", "csv", "tsv", "text", "parquet", "arrow"]
_KINDS: dict[str, Kind] = {
    ".jsonl": "lines",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".md": "text",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_COMPRESSED = (".zst", ".gz")  # not around Parquet and Arrow, which compress inside
NAMES = ".jsonl, .csv, .tsv, .txt, .md (each also .zst and .gz), .parquet or .arrow"
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
    remote: str | None = None
    """Where a file of the hub lies; its ``xxh3_128`` is then the hub's own hash of it."""

    @property
    def kind(self) -> Kind:
        found = file_kind(self.path)
        assert found is not None
        return found

    @property
    def place(self) -> str:
        """Path or address, for people."""
        return self.remote or str(self.path)

    def open(self) -> BinaryIO:
        if self.remote is None:
            return open(self.path, "rb")
        return cast(BinaryIO, RemoteFile(self.remote))


class RemoteFile:
    """A file of the hub in a ``with`` block, which ends in a UserError where a read of it failed,
    even if somebody took that for damage of what is inside."""

    def __init__(self, place: str) -> None:
        filesystem, path = url_to_fs(place)
        try:
            self._raw = filesystem.open(path, "rb")
        except Exception as error:  # of whatever library the network is asked with
            raise unreadable(place, error) from error
        self._place = place
        self._failure: Exception | None = None

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def read(self, size: int = -1) -> bytes:
        try:
            return self._raw.read(size)
        except Exception as error:
            self._failure = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self._failure is not None:
            raise unreadable(self._place, self._failure) from None


def unreadable(place: str, error: Exception) -> UserError:
    """What to raise where the network failed."""
    return UserError(
        f"{place}: {' '.join(str(error).split()) or type(error).__name__}",
        "build again; sources that are complete are kept",
    )


def file_kind(path: Path) -> Kind | None:
    """What is inside, by the name; None for what cannot be read."""
    name = path.name.lower()
    packed = name.endswith(_COMPRESSED)
    kind = _KINDS.get(Path(name.rpartition(".")[0] if packed else name).suffix)
    return None if packed and kind in ("parquet", "arrow") else kind


@dataclass(frozen=True)
class FoundFiles:
    """Paths that the globs and folders of a source give, each once, in order of path."""

    paths: tuple[Path, ...]
    named_twice: int
    other_files_in_folders: int


def find_files(source: Source) -> FoundFiles:
    """Expand the paths of a source. Raises UserError for what gives no file, and for text files
    of which conversations are wanted."""
    paths: list[Path] = []
    others = 0
    for pattern in source.path:
        found, ignored = _expand(pattern, source.name)
        paths += found
        others += ignored
    unique = {path.resolve(): path for path in reversed(paths)}
    ordered = tuple(sorted(unique, key=str))
    texts = [path for path in ordered if file_kind(path) == "text"]
    if texts and source.format != "text":
        raise UserError(
            f"source '{source.name}': {texts[0]} has no columns for format {source.format}",
            "give its path as rows, such as .jsonl, or use format text",
        )
    return FoundFiles(ordered, len(paths) - len(ordered), others)


def _expand(pattern: str, name: str) -> tuple[list[Path], int]:
    """Files of one entry of ``path``, and how many files of a folder are of another kind."""
    path = Path(pattern).expanduser()
    if path.is_dir():
        return _in_folder(path, name)
    if path.exists():
        matched = [path]
    else:
        matched = [Path(p) for p in glob.glob(str(path), recursive=True)]
        matched = [p for p in matched if p.is_file()]
    if not matched:
        what = "no file matches" if glob.has_magic(pattern) else "no such file or folder:"
        raise UserError(f"source '{name}': {what} {pattern}", "correct its path")
    for file in matched:
        if file_kind(file) is None:
            raise UserError(
                f"source '{name}': {file} is none of {NAMES}", "convert, rename or exclude it"
            )
    return matched, 0


def _in_folder(folder: Path, name: str) -> tuple[list[Path], int]:
    """Files with rows where there are any, else the text files; a dataset saved by the datasets
    library says itself which of its files are data."""
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        raise UserError(
            f"source '{name}': {folder} holds the splits {', '.join(splits)}",
            f"name one, such as {folder / splits[0]}",
        )
    inside = [p for p in folder.rglob("*") if p.is_file() and not _hidden(p, folder)]
    if (folder / "state.json").is_file():
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        usable = [folder / file["filename"] for file in state["_data_files"]]
    else:
        kinds = {path: file_kind(path) for path in inside}
        usable = [path for path, kind in kinds.items() if kind not in (None, "text")]
        usable = usable or [path for path, kind in kinds.items() if kind == "text"]
    if not usable:
        raise UserError(f"source '{name}': no {NAMES} in the folder {folder}", "correct its path")
    return usable, len(set(inside) - set(usable))


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
    """A lost race loses only a remembered hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(cache).encode())
