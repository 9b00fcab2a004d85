"""Building under a lock in a folder of its own, and one rename that makes it visible."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mixing.shards import sync_folder


@contextmanager
def building(store: Path, key: str, progress: Callable[[str], None]) -> Iterator[Path]:
    """A lock on the key and an empty folder to build in; both end with the block.

    Another build of the same key is waited for. What killed builds of any key left is removed.
    """
    (store / ".locks").mkdir(parents=True, exist_ok=True)
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
def locked(store: Path, key: str, progress: Callable[[str], None]) -> Iterator[None]:
    """A lock on the key, waited for."""
    # Lock files stay: removing one that another process is about to lock would let two in.
    with open(store / ".locks" / key, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
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
