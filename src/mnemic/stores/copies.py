"""Copies of a whole SQLite store: taking one while others write, and putting one in its place.

A copy is made by `VACUUM INTO`: one moment of the store, nothing of what was deleted, and writers go on.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic, time
from typing import Literal

# Between two looks at how far a copy has come, in steps of SQLite's machine.
_STEPS = 20_000
# A copy that nothing was written to for so many seconds may have been left by a killed process; on
# Windows, where one can't ask whether it was, for an hour.
_OLD = 60.0 if os.name != "nt" else 3_600.0
# The copies that this process is making, by the end of their names.
_making: set[str] = set()

Progress = Callable[[int, int], None]


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection to a database that is there, to read it."""
    # By SQLite and not by hand: closing a file of our own would drop SQLite's locks on it. And `rw`,
    # which SQLite takes as `ro` where it may not write: only so an empty log is removed in the end.
    uri = path.as_uri()
    if not uri.startswith("file:///"):  # SQLite takes a Windows server's name as a part of the path
        uri = f"file://{uri.removeprefix('file:')}"
    return sqlite3.connect(f"{uri}?mode=rw", uri=True)


def whose(path: Path, mark: int) -> Literal["ours", "empty", "theirs", "unreadable"]:
    """Whose database a file is: ours bears the mark."""
    try:
        with closing(open_to_read(path)) as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            found = connection.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return "unreadable"
        raise
    return "empty" if not tables else "ours" if found == mark else "theirs"


@contextmanager
def beside(path: Path, mark: str) -> Iterator[Path]:
    """A name beside a file for a copy of one's own, which is removed in the end.

    What killed processes left there is removed as well.
    """
    name = re.compile(rf"{re.escape(path.name)}\.{mark}-(\d+)-[0-9a-f]{{16}}([.-].*)?")
    for left in path.parent.iterdir():
        match = name.fullmatch(left.name)
        if match is not None and _is_left(left, int(match[1])):
            with suppress(OSError):
                left.unlink()
    end = f".{mark}-{os.getpid()}-{secrets.token_hex(8)}"
    _making.add(end)
    part = path.with_name(f"{path.name}{end}")
    try:
        yield part
    finally:
        remove(part)
        _making.discard(end)


def _is_left(path: Path, pid: int) -> bool:
    """Whether the process that makes a copy has ended."""
    with suppress(OSError):
        if time() - path.stat().st_mtime <= _OLD:
            return False
    if pid == os.getpid():  # of an earlier process of this number, as it is in every container
        return not any(end in path.name for end in _making)
    if os.name == "nt":  # where asking after a process would end it
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def write_copy(
    driver: sqlite3.Connection, source: Path, path: Path, progress: Progress | None
) -> int:
    """Write what a connection sees to a file, whole or not at all; returns its size in bytes."""
    total = source.stat().st_size
    raised: list[BaseException] = []
    with beside(path, "part") as part:

        def look() -> int:
            """Tell how far it has come; what that raises ends the copy."""
            try:
                if progress is not None:
                    progress(_size(part), total)
            except BaseException as error:
                raised.append(error)
            return len(raised)

        try:
            driver.set_progress_handler(look, _STEPS)
            driver.execute("VACUUM INTO ?", (str(part),)).close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                # Python swallows a Ctrl-C that comes on the way into `look`.
                raise raised.pop() if raised else KeyboardInterrupt from None
            raise
        finally:
            driver.set_progress_handler(None, 0)
        _sync(part)  # while it can be written to, as the store itself may not be
        shutil.copymode(source, part)
        os.replace(part, path)
        _sync(path.parent)
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


def rename(path: Path, name: Path) -> None:
    """Give a database that nobody has open another name, with its log."""
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{name}{suffix}")


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
