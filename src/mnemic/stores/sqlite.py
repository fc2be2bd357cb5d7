"""What is particular to SQLite: how to connect, begin a write, rewrite deleted bytes, name an error."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import uniform
from time import monotonic, sleep
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError

from mnemic.errors import (
    InputError,
    MnemicError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreMoved,
    StoreReadOnly,
    StoreUnreadable,
)
from mnemic.stores.backend import BEGIN
from mnemic.stores.copies import Progress, whose, write_copy
from mnemic.stores.search import Key, closed, left_over, opened, place_of

APPLICATION_ID = 0x4D4E454D  # "MNEM", so that `file` and we can tell our files from others'
BUSY_TIMEOUT_MS = 10_000

_PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA synchronous=FULL",
    "PRAGMA fullfsync=ON",  # macOS, whose fsync leaves it to the disk when to write
    "PRAGMA secure_delete=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-16000",
)
_WRITES = {
    True: ("PRAGMA synchronous=FULL", "BEGIN IMMEDIATE"),
    False: ("PRAGMA synchronous=NORMAL", "BEGIN IMMEDIATE"),
}
# SQLITE_PROTOCOL is a lost race for the log's index, which SQLite itself has tried again for seconds.
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_NOT_OURS = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
# A quota, or a limit on a file's size, is told as a failed write.
_FULL = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMOPEN,
}
# What the system says, as SQLite would.
_LIKE = {
    **dict.fromkeys((errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", -1)), sqlite3.SQLITE_FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), sqlite3.SQLITE_READONLY),
}
_SHOWN_PATH = 120


class SqliteBackend:
    """One SQLite file in WAL mode."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.url = f"sqlite:///{self.path}"
        self._key: Key | None = None

    def make_engine(self) -> Engine:
        """Make the pool of connections; the folder is made if it is missing."""
        require_file(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain(error, self.path) from error
        engine = create_engine(
            URL.create("sqlite", database=str(self.path)),
            connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
            pool_timeout=BUSY_TIMEOUT_MS / 1000,
            pool_size=8,
            max_overflow=24,
        )
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
        event.listen(engine, "close", _on_close)
        return engine

    def begin_write(self, engine: Engine, *, durable: bool) -> Connection:
        """Connect for a write: it begins by taking the lock, and its commit fsyncs if `durable`."""
        return engine.connect().execution_options(**{BEGIN: _WRITES[durable]})

    def settle(self, engine: Engine) -> None:
        """Put a file that is ours into WAL mode, where it stays; no transaction may be open."""
        with engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            use_wal(driver)
        self.opened()

    def opened(self) -> None:
        """Take note that connections are, or may be, open."""
        if self._key is None:
            with suppress(FileNotFoundError):  # after a fork, should somebody have removed it
                self._key = opened(self.path)

    def closed(self) -> None:
        """Take note that all connections are closed."""
        key, self._key = self._key, None
        if key is not None:
            closed(key)

    def check_place(self) -> None:
        """Refuse to go on in a file that goes by another name now, or by none."""
        if self._key is not None and place_of(self.path) != self._key:
            raise StoreMoved(
                f"{self.path} was moved, removed or replaced while it was open; nothing is written to"
                " it any more: put it back, or close this memory and open it again"
            )

    def claim(self, connection: Connection) -> None:
        """Mark a new file as ours."""
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")

    def is_foreign(self, connection: Connection) -> bool:
        """Tell whether the file holds tables of another program."""
        mark = connection.exec_driver_sql("PRAGMA application_id").scalar()
        tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
        return bool(tables) and mark != APPLICATION_ID

    def bytes_on_disk(self) -> int:
        """Size of the database with its log."""
        files = (Path(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm"))
        return sum(file.stat().st_size for file in files if file.exists())

    def truncate_log(self, engine: Engine) -> bool:
        """Copy the log into the file and empty it; False where a reader stands in the way."""
        with engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            # A reader that is in our way now is likely gone in a moment; a long one is a job's task.
            driver.execute("PRAGMA busy_timeout=250")
            try:
                blocked = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                blocked = 1
            finally:
                driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        return not blocked

    def rewrite(self, engine: Engine) -> bool:
        """Write the whole file anew, so that no byte of a deleted row is left between live ones."""
        with engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            # In a temporary file, since in memory it would take as much as the store is large.
            driver.execute("PRAGMA temp_store=FILE").close()
            try:
                driver.execute("VACUUM")
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                return False
            finally:
                driver.execute("PRAGMA temp_store=MEMORY").close()
        return self.truncate_log(engine)

    def left_over(self, texts: Sequence[bytes]) -> bool:
        """Tell whether a piece of any of the texts is left in the file where no row is."""
        if self._key is None:
            raise StoreMoved(f"{self.path} is gone; was it removed?")
        try:
            return left_over(self.path, self._key, texts)
        except OSError as error:
            raise explain(error, self.path) from error

    def copy_to(self, engine: Engine, path: Path, replace: bool, progress: Progress | None) -> int:
        """Write a copy of one moment of the store to a file; returns its size in bytes."""
        try:
            if path.is_dir():
                raise InputError(f"{path} is a folder; name a file in it")
            self._check_free(path, replace)
            path.parent.mkdir(parents=True, exist_ok=True)
            with engine.connect() as connection:
                driver: Any = connection.connection.dbapi_connection
                return write_copy(driver, self.path, path, progress)
        except (OSError, sqlite3.Error) as error:
            mine = getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_OURS
            raise explain(error, self.path if mine else path) from error

    def _check_free(self, path: Path, replace: bool) -> None:
        """Refuse what a copy would destroy, or be destroyed by."""
        if path.exists():
            if path.samefile(self.path):
                raise InputError(f"{path} is the store itself; name another file")
            if not replace:
                raise InputError(
                    f"{path} is there already; name another file, or replace it"
                    " (replace=True, --replace)"
                )
            if whose(path, APPLICATION_ID) != "ours":
                raise InputError(f"{path} is no copy of a store of ours; name another file")
        for log in (f"{path}-wal", f"{path}-journal"):
            # SQLite would take it for the new file's.
            if Path(log).exists():
                raise InputError(
                    f"{log} is in use by a process that has {path.name} open, or was left of a file"
                    " that is gone; close it there, or remove it, or name another file"
                )

    def reindex(self, engine: Engine) -> None:
        """Make SQLite's indexes anew from the tables."""
        with engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.execute("REINDEX").close()

    def damage(self, engine: Engine) -> list[str]:
        """What SQLite's integrity check finds."""
        try:
            with engine.connect() as connection:
                rows = connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars().all()
        except DatabaseError as error:
            return [str(error.orig)]
        lines = [line for row in rows for line in str(row).splitlines() if line != "ok"]
        return [line for line in lines if not line.startswith("***")][:20]

    def explain(self, error: BaseException) -> MnemicError | None:
        """Turn a driver's error into one of ours; None where it isn't a known one."""
        return explain(error, self.path) if isinstance(error, sqlite3.Error) else None


def explain(error: sqlite3.Error | OSError, path: Path) -> MnemicError:
    """What SQLite, or the system, says of a file, as an error of ours that says what to do."""
    says: object = error
    if isinstance(error, OSError):
        code, says = _LIKE.get(error.errno or 0, sqlite3.SQLITE_CANTOPEN), error.strerror or error
    else:
        code = getattr(error, "sqlite_errorcode", 0)
    kinds = {code, code & 0xFF}
    name = str(path) if len(str(path)) <= _SHOWN_PATH else f"...{str(path)[-_SHOWN_PATH:]}"
    if kinds & _BUSY:
        return StoreBusy(
            f"another process kept {name} locked for over {BUSY_TIMEOUT_MS / 1000:g} s; try again"
        )
    if kinds & _NOT_OURS:
        return StoreUnreadable(
            f"{name} is not an SQLite database, or is damaged ({says});"
            " name another file, or restore a backup"
        )
    if kinds & _FULL:
        return StoreFull(
            f"no room to write {name}: the disk is full, or a quota is used up ({says});"
            " make room and try again"
        )
    shut = path.parent.is_dir() and not os.access(path.parent, os.W_OK)
    if sqlite3.SQLITE_READONLY in kinds or (sqlite3.SQLITE_CANTOPEN in kinds and shut):
        return StoreReadOnly(
            f"{name} can't be written to ({says});"
            " make the file, those beside it (-wal, -shm) and its folder writable, or name another file"
        )
    if sqlite3.SQLITE_CANTOPEN in kinds:
        return StoreError(
            f"{name} can't be opened ({says}); it has to be a file that this user may"
            " read, in a folder that this user may write to"
        )
    return StoreError(f"{name}: {says}; look it over with `mnemic doctor`, or restore a backup")


def require_file(path: Path) -> None:
    """Refuse a folder, a device, a pipe, before SQLite tries to make sense of it."""
    if path.exists() and not path.is_file():
        what = "a folder; name a file in it" if path.is_dir() else "no ordinary file; name another"
        raise InputError(f"{path} is {what}")


def use_wal(driver: sqlite3.Connection) -> None:
    """Put a file into WAL mode, where it stays."""
    until = monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            driver.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError as error:
            # Where several do this to a new file, SQLite refuses some of them without waiting.
            if not _is_busy(error) or monotonic() > until:
                raise
        sleep(uniform(0.001, 0.02))


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF in _BUSY


def sqlite_path(target: str | os.PathLike[str]) -> Path | None:
    """The file that a path or an `sqlite:///` URL names; None where it names another database.

    >>> sqlite_path("sqlite:///life.db").name
    'life.db'
    >>> sqlite_path("postgresql://localhost/life") is None
    True
    """
    text = os.fspath(target)
    for prefix in ("sqlite+pysqlite:///", "sqlite:///"):
        if text.startswith(prefix):
            return Path(text[len(prefix) :])
    return None if "://" in text else Path(text)


def _on_connect(driver: sqlite3.Connection, _record: object) -> None:
    # SQLAlchemy's own BEGIN comes from `_on_begin`; the driver must not add one of its own.
    driver.isolation_level = None
    for pragma in _PRAGMAS:
        driver.execute(pragma).close()


def _on_close(driver: DBAPIConnection, _record: object) -> None:
    # After an interrupt (Ctrl-C) a statement may be half done; closing alone would leave its lock.
    with suppress(sqlite3.ProgrammingError):
        driver.rollback()


def _on_begin(connection: Connection) -> None:
    for statement in connection.get_execution_options().get(BEGIN, ("BEGIN",)):
        connection.exec_driver_sql(statement)
