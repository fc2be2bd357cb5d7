"""Copies of a whole SQLite store: taking one while others write, and putting one in its place.

A copy is made by `VACUUM INTO`: one moment of the store, nothing of what was deleted, and writers go on.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from time import monotonic, time
from typing import Literal

# Between two looks at how far a copy has come, in steps of SQLite's machine.
_STEPS = 20_000
# A copy that was begun so many seconds ago was left by a process that was killed.
_OLD = 3_600.0
_numbers = count(1)

Progress = Callable[[int, int], None]


def whose(path: Path, mark: int) -> Literal["ours", "empty", "theirs", "unreadable"]:
    """Whose database a file is: ours bears the mark."""
    # By SQLite and not by hand: closing a file of our own would drop SQLite's locks on it.
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            found = connection.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return "unreadable"
        raise
    return "empty" if not tables else "ours" if found == mark else "theirs"


def beside(path: Path, mark: str) -> Path:
    """A name beside a file for a copy of one's own; what killed processes left there is removed."""
    start = f"{path.name}.{mark}-"
    for left in path.parent.iterdir():
        if left.name.startswith(start) and _is_left(left, left.name[len(start) :]):
            with suppress(FileNotFoundError):
                left.unlink()
    return path.with_name(f"{start}{os.getpid()}-{next(_numbers)}")


def _is_left(path: Path, name: str) -> bool:
    """Whether the process that a file is named after has ended."""
    digits = name.partition("-")[0]
    if not digits.isdecimal() or int(digits) == os.getpid():
        return False
    if os.name == "nt":  # where asking after a process would end it
        return time() - path.stat().st_mtime > _OLD
    try:
        os.kill(int(digits), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def write_copy(
    driver: sqlite3.Connection, source: Path, path: Path, progress: Progress | None
) -> int:
    """Write what a connection sees to a file, whole or not at all; returns its size in bytes."""
    part = beside(path, "part")
    total = source.stat().st_size
    if progress is not None:
        driver.set_progress_handler(lambda: progress(_size(part), total), _STEPS)
    try:
        driver.execute("VACUUM INTO ?", (str(part),)).close()
        shutil.copymode(source, part)
        _sync(part)
        os.replace(part, path)
        _sync(path.parent)
    finally:
        driver.set_progress_handler(None, 0)
        remove(part)
    size = path.stat().st_size
    if progress is not None:
        progress(size, size)
    return size


def overwrite(source: Path, target: sqlite3.Connection, patience: float) -> None:
    """Give a database the content of another in one transaction; its readers keep what they see.

    Raises `sqlite3.OperationalError` (busy) where it stays locked for more than `patience` seconds.
    """
    until = monotonic() + patience

    def look(status: int, _remaining: int, _total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and monotonic() > until:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = status
            raise error

    with closing(sqlite3.connect(source)) as connection:
        connection.backup(target, progress=look)


def set_aside(path: Path, mark: str) -> Path:
    """Rename a database that can't be read, with its log; returns its new name."""
    aside = path.with_name(f"{path.name}.{mark}")
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def remove(path: Path) -> None:
    """Remove a database that nobody has open, with what lies beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.remove(f"{path}{suffix}")


def _sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        return  # Windows can't open a folder, and needs no such thing
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
