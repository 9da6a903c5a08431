"""Artefacts on disk: a directory for each, named by the hash of what it was made from.

An artefact is worked on under `HASH.partial`, which survives a kill so that work can go on, and is renamed
when it is whole. `turnsmith.json` in it says what it was made from and what came out.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnsmith import ranks
from turnsmith.errors import StorageError, UsageError
from turnsmith.types import Json, is_object

RECORD = "turnsmith.json"
LONGEST = 400  # bytes of who holds a lock: a host has a name of 253 at most


def digest(*parts: Json) -> str:
    """A short hash of values that JSON can hold; the order of keys does not matter.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def writing(where: Path) -> Generator[None]:
    """Turns a full or read-only disk into a StorageError that names the place and the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(
                f"the disk is full: {where} could not be written. Free some space and give the same "
                "command again; what was finished is kept"
            ) from None
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StorageError(
                f"{where} cannot be written ({error.strerror}): choose another directory"
            ) from None
        raise


def write_text(path: Path, text: str) -> None:
    """Write aside, flush, rename: a reader sees the old or the new text, never half of one. Of several
    processes that run together the main one writes."""
    if not ranks.is_main():
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with aside.open("w", encoding="utf-8") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            aside.replace(path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise


def flush(path: Path) -> None:
    """Wait until the file, or the names in the directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put(aside: Path, path: Path) -> None:
    """Give a directory of files its name once they are on the disk; a reader sees all of them or none.

    Where one of this name is there, a process of a killed run came first: it wrote the same.
    """
    for file in (*aside.iterdir(), aside):
        flush(file)
    try:
        aside.rename(path)
    except OSError:
        if not path.is_dir():
            raise
        shutil.rmtree(aside)


class Shelf:
    """The store of artefacts under one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the finished artefact is, or will be."""
        return self.root / key

    def ready(self, key: str) -> bool:
        """Whether it is finished."""
        return (self.path(key) / RECORD).is_file()

    def record(self, key: str) -> dict[str, Any]:
        """What a finished artefact says of itself."""
        file = self.path(key) / RECORD
        try:
            found = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise StorageError(
                f"artefact {file.parent} is broken ({error}): remove it and run again"
            ) from None
        assert is_object(found)
        return found

    def obtain(self, key: str, make: Callable[[Path], Mapping[str, Json]], *, together: bool = False) -> bool:
        """Make the artefact unless it is there, and say whether it was.

        make: works in the directory that it is given, and gives the artefact's record. together: of several
        processes that run together all take part, else the main one makes it while the others wait; the
        record is the main one's. Who had to wait for another process takes what that one made.
        """
        if not ranks.is_main():
            return self._followed(key, make)
        if self.ready(key):
            ranks.told(word=False)
            return True
        with self.making(key) as directory:
            if self.ready(key):
                ranks.told(word=False)
                return True
            if together:
                ranks.told(word=True)
                self.finish(key, make(directory))
            else:
                with ranks.by_itself():
                    self.finish(key, make(directory))
            ranks.told(word=False)
        return False

    def _followed(self, key: str, make: Callable[[Path], Mapping[str, Json]]) -> bool:
        """What the main process obtains, which has this one take part where all do."""
        made = ranks.told()
        if made:
            partial = self.root / f"{key}.partial"
            self._seen(partial, partial.is_dir())
            make(partial)
            ranks.told()
        self._seen(self.path(key), self.ready(key))
        return not made

    def _seen(self, place: Path, there: bool) -> None:
        if not there:
            raise UsageError(
                f"{place}, which the main process made, is not seen from this one: TURNSMITH_HOME has to be "
                "on a disk that all machines share"
            )

    @contextmanager
    def making(self, key: str) -> Generator[Path]:
        """The directory to work in, for one process at a time; what an earlier attempt left is still there.

        Who had to wait for another process asks `ready` again before working.
        """
        partial, lock = self.root / f"{key}.partial", self.root / f"{key}.lock"

        def meet(holder: str) -> None:
            print(f"{holder} is making {key}: waiting for it", file=sys.stderr, flush=True)

        with writing(partial):
            handle = locked(lock, meet)
        try:
            with writing(partial):
                partial.mkdir(exist_ok=True)
                yield partial
        finally:
            if self.ready(key):
                shutil.rmtree(partial, ignore_errors=True)
                lock.unlink(missing_ok=True)
            os.close(handle)

    def finish(self, key: str, record: Mapping[str, Json]) -> Path:
        """Declare the artefact whole."""
        partial, final = self.root / f"{key}.partial", self.path(key)
        if self.ready(key):
            return final
        for torn in filter(Path.is_file, partial.glob("*.partial")):  # texts that a kill cut short
            torn.unlink()
        write_text(partial / RECORD, json.dumps(record, indent=1, ensure_ascii=False, default=list))
        with writing(final):
            partial.rename(final)
        return final


def locked(lock: Path, meet: Callable[[str], None]) -> int:
    """A handle that holds the lock, with the holder's name in the file; waits for whoever holds it.

    meet: is told who that is. The system lets go of what a dead process held.
    """
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(lock, os.O_CREAT | os.O_RDWR)
        except FileNotFoundError:
            continue  # who held it has just removed the directory, in which nothing was left
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                meet(os.pread(handle, LONGEST, 0).decode(errors="replace") or "another process")
                fcntl.flock(handle, fcntl.LOCK_EX)
            except BaseException:
                os.close(handle)
                raise
        if os.fstat(handle).st_nlink:
            os.ftruncate(handle, 0)
            os.pwrite(handle, this_process().encode(), 0)
            return handle
        os.close(handle)  # who held it has finished and removed the file: a newer one counts


def is_held(lock: Path) -> bool:
    """Whether a process holds the lock at this moment. Nothing is made, and no link is followed."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def this_process() -> str:
    """What a lock says of its holder."""
    return f"process {os.getpid()} on {platform.node()}"
