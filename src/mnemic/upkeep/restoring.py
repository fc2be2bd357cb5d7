"""The flow of a restore: look the backup over aside, then put it in place in one transaction.

Processes that have the store open go on: they see the old content until the moment of the change, and
the restored one after it.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from mnemic.errors import InputError, StoreError, StoreUnreadable
from mnemic.inputs import read_path, shown
from mnemic.records import Restored, StoreStats
from mnemic.stores.copies import beside, open_to_read, overwrite, remove, rename, whose, write_copy
from mnemic.stores.database import Database
from mnemic.stores.known import KnownEmbedder
from mnemic.stores.ledger import Ledger
from mnemic.stores.sqlite import (
    APPLICATION_ID,
    BUSY_TIMEOUT_MS,
    SqliteBackend,
    explain,
    require_file,
    sqlite_path,
    use_wal,
)


def restore(
    backup: str | os.PathLike[str], target: str | os.PathLike[str], *, replace: bool
) -> Restored:
    """Put a backup in a store's place, whole or not at all."""
    source, place = file_of(backup, "backup"), file_of(target, "target")
    try:
        require_file(source)
        require_file(place)
        if not source.exists():
            raise InputError(f"there is no backup at {shown(str(source))}")
        if place.exists() and place.stat().st_size and not replace:
            raise InputError(
                f"there is a store at {place}; name another, or replace it"
                " (replace=True, --replace)"
            )
        _check_marks(source, place)
        place.parent.mkdir(parents=True, exist_ok=True)
        with beside(place, "restoring") as part:
            stats = _prepared(source, part, _embedder_of(place))
            aside = _put(part, place)
    except (sqlite3.Error, OSError) as error:
        raise explain(error, place) from error
    return Restored(
        str(place), stats.messages, stats.memories, None if aside is None else str(aside)
    )


def file_of(target: str | os.PathLike[str], what: str) -> Path:
    """The file that a path or a URL names; `InputError` for another database's URL."""
    path = sqlite_path(read_path(target, f"a {what}"))
    if path is None:
        raise InputError(f"the {what} has to be a file, not another database's URL")
    return path.absolute()


def _check_marks(source: Path, place: Path) -> None:
    if whose(source, APPLICATION_ID) != "ours":
        raise StoreUnreadable(f"{source} is no backup of a store of ours; name another file")
    if place.exists():
        if place.samefile(source):
            raise InputError(f"{place} is the backup itself; name another file to restore to")
        if whose(place, APPLICATION_ID) == "theirs":
            raise StoreUnreadable(f"{place} belongs to another program; name another file")


def _embedder_of(place: Path) -> KnownEmbedder | None:
    """The embedder that those know who have the store open; None where there is no store to read."""
    if not place.exists() or whose(place, APPLICATION_ID) != "ours":
        return None
    with suppress(StoreError):
        database = Database(SqliteBackend(place))
        try:
            return Ledger(database).embedder()
        finally:
            database.close()
    return None


def _prepared(source: Path, part: Path, known: KnownEmbedder | None) -> StoreStats:
    """A copy of the backup beside the store: of this version's schema, intact, and a new epoch."""
    with closing(open_to_read(source)) as connection:
        connection.isolation_level = None
        try:
            write_copy(connection, source, part, None)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            raise explain(error, source) from error
    database = Database(SqliteBackend(part))
    try:
        ledger = Ledger(database)
        if damage := ledger.damage():
            raise StoreUnreadable(f"{source} is damaged ({damage[0]}); restore an older backup")
        if known is not None:
            ledger.renumber(known)
        ledger.begin_epoch(secrets.token_hex(8))
        return ledger.stats()
    finally:
        database.close()


def _put(part: Path, place: Path) -> Path | None:
    """Put the copy in place; returns where what was there went, should it have been unreadable."""
    if not place.exists() or whose(place, APPLICATION_ID) != "unreadable":
        _fill(place, part)
        return None
    aside = place.with_name(f"{place.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    rename(place, aside)
    with ExitStack() as undo:
        undo.callback(rename, aside, place)
        undo.callback(remove, place)
        _fill(place, part)
        undo.pop_all()
    return aside


def _fill(place: Path, part: Path) -> None:
    with closing(sqlite3.connect(place, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL").close()
        use_wal(connection)
        overwrite(part, connection, BUSY_TIMEOUT_MS / 1000)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
