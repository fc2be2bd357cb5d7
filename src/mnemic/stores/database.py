"""Opening a database: its connections, its transactions, its migration under a lock.

One small class per database (`sqlite.py`) supplies what differs; no table is named here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Pool, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from mnemic.errors import (
    InputError,
    MnemicError,
    StoreBusy,
    StoreClosed,
    StoreTooNew,
    StoreUnreadable,
)
from mnemic.forking import watch
from mnemic.inputs import read_path, shown
from mnemic.stores.backend import BEGIN, Backend
from mnemic.stores.gate import Gate
from mnemic.stores.sqlite import SqliteBackend, sqlite_path

# The newest migration. A test holds it against `migrations/versions`; reading it there at every start
# would import Alembic.
HEAD = "0003"
# How long closing, or a fork, waits for calls under way, in seconds.
PATIENCE = 10.0
_abandoned: list[Pool] = []
_HOLDER = "holder"
_MIGRATIONS = Path(__file__).parent / "migrations"


def backend_of(target: str | os.PathLike[str]) -> Backend:
    """Choose the backend that a path or URL names; raises `InputError` for an unknown kind."""
    read = read_path(target, "a database")
    path = sqlite_path(read)
    if path is None:
        kind = read.partition(":")[0]  # the rest may hold a password
        raise InputError(
            f"a {shown(kind)} URL names no database that this version opens;"
            " give a file's path or sqlite:///life.db"
        )
    if not path.name or path.name.startswith(":"):
        raise InputError(
            "memory needs a file, so that nothing said is lost: name one, for example life.db"
        )
    return SqliteBackend(path)


class _Holding(NamedTuple):
    """A connection that a thread writes with. It is the thread's for as long as it has this holder."""

    driver: Any
    info: dict[Any, Any]
    holder: object


class Database:
    """One open database. Opening makes it, or brings it up to date, under its write lock."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._engine: Engine | None = backend.make_engine()
        # The same connections, used without a transaction.
        self._once = self._engine.execution_options(**{BEGIN: ()})
        self._gate = Gate()
        self._mine = threading.local()
        self._interrupted = False
        self._parted = False  # whether there are no connections just now, for a fork
        event.listen(self._engine, "checkout", _on_checkout)
        event.listen(self._engine, "checkin", _on_checkin)
        watch(self)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def engine(self) -> Engine:
        """The pool of connections; raises `StoreClosed` after `close`."""
        if self._engine is None:
            raise self._closed()
        return self._engine

    def require_open(self) -> None:
        """Raise `StoreClosed` after `close`."""
        _ = self.engine

    def close(self) -> None:
        """Give back every connection, once calls under way are done. Closing twice does nothing.

        A call that goes on after `PATIENCE` keeps its connection until it is done.
        """
        why = object()
        try:
            idle = self._gate.shut(why, PATIENCE)
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.dispose()
                if idle:  # else SQLite's locks on the file have to stay
                    self.backend.closed()
        finally:
            self._gate.open(why)

    def before_fork(self) -> None:
        """Close the connections, which must not cross a fork, once calls under way are done."""
        self._parted = False
        if self._gate.shut("fork", PATIENCE):
            if self._engine is not None:
                self._engine.dispose()
                self.backend.closed()
            self._parted = True

    def after_fork(self, *, child: bool) -> None:
        """Let calls go on, over connections of their own."""
        if child:
            self._gate, self._mine = Gate(), threading.local()
        try:
            if child and not self._parted and self._engine is not None:
                # A call was under way through it all. Its connection must not even be closed here.
                _abandoned.append(self._engine.pool)
                self._engine = None
            elif self._engine is not None:
                self.backend.opened()
        finally:
            self._gate.open("fork")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment of the database."""
        with self.using() as engine, engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def read_once(self) -> Iterator[Connection]:
        """For a single reading statement, which needs no transaction to see one moment."""
        with self.using(), self._once.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction that holds the write lock; with `durable`, committed means on disk."""
        with self.using() as engine:
            # Where an interrupt (Ctrl-C) broke off the ending of this thread's last write, it is ended now.
            left: _Holding | None = getattr(self._mine, "writing", None)
            if left is not None and left.info.get(_HOLDER) is left.holder:
                with suppress(engine.dialect.loaded_dbapi.Error):
                    left.driver.rollback()
            with self.backend.begin_write(engine, durable=durable) as connection:
                info = connection.info
                self._mine.writing = _Holding(
                    connection.connection.dbapi_connection, info, info[_HOLDER]
                )
                with connection.begin():
                    yield connection
            self._mine.writing = None

    @contextmanager
    def using(self) -> Iterator[Engine]:
        """The pool of connections, for a call that neither `close` nor a fork may interrupt."""
        with self.explained(), self._gate.inside():
            engine = self.engine
            self.backend.check_place()
            if self._interrupted and self._gate.is_alone():
                # The pool may have lost count of its connections, or hold a lock: a new one takes over.
                self._interrupted = False
                engine.dispose()
            yield engine

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            self._interrupted = True
            raise
        except Exception as error:
            self._explain(error)
            raise

    def _explain(self, error: Exception) -> None:
        """Raise our error for a driver's; return where it isn't one."""
        if isinstance(error.__context__, KeyboardInterrupt) and not isinstance(error, MnemicError):
            # What the pool makes of an interrupt that falls between two of its steps.
            self._interrupted = True
            raise KeyboardInterrupt from error
        if isinstance(error, PoolTimeout):
            raise StoreBusy(
                f"too many threads use {self.backend.url} at once, and none made way; try again"
            ) from error
        cause = error.orig if isinstance(error, DBAPIError) else error
        known = None if cause is None else self.backend.explain(cause)
        if known is not None:
            raise known from error

    def _closed(self) -> StoreClosed:
        return StoreClosed(f"{self.backend.url} was closed; open it again with Memory(...)")

    def _prepare(self) -> None:
        with self.read() as connection:
            ready = self._revision(connection) == HEAD
        with self.using() as engine:
            self.backend.settle(engine)
        if ready:
            return
        with self.write() as connection:
            revision = self._revision(connection)
            if revision == HEAD:
                return
            if revision is None:
                self.backend.claim(connection)
            _upgrade(connection)

    def _revision(self, connection: Connection) -> str | None:
        """The file's migration, None for an empty file; raises where it isn't ours to touch."""
        if self.backend.is_foreign(connection):
            raise StoreUnreadable(
                f"{self.backend.url} belongs to another program; name another file"
            )
        if not connection.dialect.has_table(connection, "alembic_version"):
            return None
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        if not found:
            raise StoreUnreadable(
                f"{self.backend.url} has lost its schema's number; restore a backup"
            )
        revision = str(found)
        if revision > HEAD:
            raise StoreTooNew(
                f"{self.backend.url} was written by a newer Mnemic (its schema is {revision},"
                f" this version knows {HEAD}); upgrade with: pip install -U mnemic"
            )
        return revision


def _on_checkout(_driver: object, record: ConnectionPoolEntry, _fairy: object) -> None:
    record.info[_HOLDER] = object()


def _on_checkin(_driver: object, record: ConnectionPoolEntry) -> None:
    record.info.pop(_HOLDER, None)


def _upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the caller's transaction."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreUnreadable(
            f"no version of Mnemic makes such a schema ({shown(str(error))}); restore a backup"
        ) from error
