"""Which files a dataset of the Hugging Face hub is made of, without downloading them.

    hub id, config, split, revision ─▶ datasets: files ─▶ the hub's hashes of them ─▶ InputFile

The listing is remembered in the store, so what is built, planned and trained stays the same when
the dataset changes, and only building asks the hub.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xxhash
from fsspec.core import url_to_fs

from configs import Source, UserError
from mixing.publish import replace_file
from mixing.sources.inputs import NAMES, FoundFiles, InputFile, file_kind, find_files, unreadable


def is_local(source: Source) -> bool:
    """Whether the source is files of this machine."""
    return source.hub is None or Path(source.hub).expanduser().is_dir()


def local_files(source: Source) -> FoundFiles:
    """The files of a source that is local: what its paths give, or the split of a dataset's
    folder, one saved by the datasets library too."""
    if source.hub is None:
        return find_files(source)
    folder = Path(source.hub).expanduser()
    if source.revision is not None:
        raise UserError(
            f"source '{source.name}': {folder} is a folder, which has no revision "
            f"'{source.revision}'",
            "leave the revision out, or give a hub id",
        )
    if (folder / "state.json").is_file():
        paths = [str(folder)]
    elif (folder / "dataset_dict.json").is_file():
        paths = [str(folder / source.split)]
    else:
        paths = split_files(source)
    return find_files(source.model_copy(update={"path": tuple(paths)}))


def remembered_files(source: Source, store: Path) -> tuple[InputFile, ...] | None:
    """The listing of an earlier build; None where there is none."""
    try:
        entries = json.loads(_listing(source, store).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return tuple(InputFile(**{**entry, "path": Path(entry["path"])}) for entry in entries)


def hub_files(source: Source, store: Path, say: Callable[[str], None]) -> tuple[InputFile, ...]:
    """The files of a hub source, in an order that their content alone decides.

    Raises UserError where the hub cannot be reached or has no such dataset, and for files that
    cannot be read as rows.
    """
    known = remembered_files(source, store)
    if known is not None:
        return known
    say(f"{source.name}: asking the hub for the files of {source.hub}")
    found = [_input_file(url) for url in split_files(source)]
    files = tuple(sorted(found, key=lambda f: (f.xxh3_128, f.bytes, f.name)))
    path = _listing(source, store)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps([{**asdict(f), "path": str(f.path)} for f in files]).encode())
    return files


def _listing(source: Source, store: Path) -> Path:
    wanted = [source.hub, source.config, source.split, source.revision]
    digest = xxhash.xxh3_128_hexdigest(json.dumps(wanted).encode())
    return store / ".inputs" / f"hub-{digest}.json"


def split_files(source: Source) -> list[str]:
    """Paths or addresses of the files of the source's split, as the datasets library finds them."""
    import datasets  # a second of imports that only such sources pay
    import datasets.exceptions

    assert source.hub is not None
    where = f"source '{source.name}': {source.hub}"
    try:
        builder = datasets.load_dataset_builder(source.hub, source.config, revision=source.revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: {reason}", "check hub, config and revision") from None
    by_split: dict[str, Any] = dict(builder.config.data_files or {})
    if source.split not in by_split:
        known = ", ".join(map(str, by_split)) or "none that are files"
        raise UserError(f"{where} has no split '{source.split}'", f"its splits: {known}")
    files = [str(file) for file in by_split[source.split]]
    for file in files:
        if file_kind(Path(file)) is None:
            raise UserError(f"{where}: {file} is none of {NAMES}", "convert it to one of them")
    return files


def _input_file(url: str) -> InputFile:
    filesystem, path = url_to_fs(url)
    try:
        info = filesystem.info(path)
    except Exception as error:  # of whatever library the network is asked with
        raise unreadable(url, error) from error
    content = (info.get("lfs") or {}).get("sha256") or info.get("blob_id")
    if not content:
        raise UserError(f"{url}: the hub gives no hash of it", "download it and give its path")
    name = url.partition("@")[2].partition("/")[2] or url
    return InputFile(Path(name), name, info["size"], f"hub-{content}", remote=url)
