"""Builds a folder under a lock and makes it visible by one rename; replaces files the same way."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = ".tmp"


@contextmanager
def building(store: Path, key: str, progress: Callable[[str], None]) -> Iterator[Path]:
    """A lock on the key and an empty folder to build in; both end with the block.

    Another build of the same key is waited for. What killed builds of any key left is removed.
    """
    with locked(store, key, progress):
        remove_leftovers(store, key)
        folder = store / f".building-{key}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(store: Path, key: str, progress: Callable[[str], None] | None = None) -> Iterator[None]:
    """A lock on the key, waited for. ``progress`` is told where another build has it."""
    (store / ".locks").mkdir(parents=True, exist_ok=True)
    # Lock files stay: removing one that another process is about to lock would let two in.
    with open(store / ".locks" / key, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress is not None:
                progress(f"waiting for another build of {key}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_leftovers(store: Path, own_key: str | None = None) -> None:
    """Remove what killed builds left, but for one that the caller holds the lock of."""
    for folder in store.glob(".building-*"):
        key = folder.name.removeprefix(".building-")
        if key == own_key:
            continue
        with open(store / ".locks" / key, "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its build is alive
            shutil.rmtree(folder, ignore_errors=True)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file in one step. What killed processes left in its folder is removed."""
    for left in path.parent.glob(f"*{_TEMPORARY}"):
        _remove_if_abandoned(left)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{_TEMPORARY}")
    with _locked_new(temporary) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        os.replace(temporary, path)
    sync_folder(path.parent)


@contextmanager
def _locked_new(path: Path) -> Iterator[BinaryIO]:
    """A new file that nobody takes for abandoned while it is open."""
    while True:
        with open(path, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:  # else removed before it was locked
                yield file
                return


def _remove_if_abandoned(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (FileNotFoundError, BlockingIOError, PermissionError):
        pass  # replaced meanwhile, still being written, or another user's


def publish(building_folder: Path, store: Path, key: str) -> None:
    """Rename a complete folder into place; a damaged one of the same key makes way."""
    final = store / key
    if final.exists():
        aside = store / f".building-{key}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(final, aside)
        shutil.rmtree(aside, ignore_errors=True)
    os.rename(building_folder, final)
    sync_folder(store)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
