"""Damage of each kind that `crash.py` must find, done behind its back between a kill and its look."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench._cheap import mark_of
from bench._crash_check import Checker
from bench._crash_notes import ALL, IMPORTS, Place, import_said, said_by
from mnemic.records import Scope

if TYPE_CHECKING:
    from bench.crash import Crash

Tamper = Callable[["Crash", Checker], bool]


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file)) as connection, connection:
        yield connection


def _key(user: str) -> bytes:
    return Scope("default", "user", user).key


def _drop(file: Path, place: Place) -> bool:
    """Take a message away with all that only it says, as if it had never been."""
    scope = _key(place[0])
    with opened(file) as connection:
        found = connection.execute(
            "SELECT id FROM messages WHERE scope = ? AND message_id = ?", (scope, place[1])
        ).fetchone()
        if found is None:
            return False
        run: Any = connection.execute
        run("DELETE FROM support WHERE scope = ? AND message = ?", (scope, found[0]))
        run("DELETE FROM messages WHERE scope = ? AND id = ?", (scope, found[0]))
        alone = "NOT IN (SELECT record FROM support WHERE scope = ?)"
        for table, column in (("records", "id"), ("terms", "record"), ("vectors", "record")):
            run(f"DELETE FROM {table} WHERE scope = ? AND {column} {alone}", (scope, scope))
    return True


def lose(crash: Crash, checker: Checker) -> bool:
    """An acknowledged message is lost."""
    added = chain.from_iterable(step.added for step in checker.book.steps if step.ended < 1e30)
    there = [place for place in added if place in checker.book.alive and place[0] != ALL]
    return bool(there) and _drop(checker.file, crash.rng.choice(there))


def half(crash: Crash, checker: Checker) -> bool:
    """Of a killed call's list, the last message is lost."""
    for intent in checker.book.pending:
        if intent["do"] == "remember" and len(said_by(intent)) > 1:
            said = {item.content for item in said_by(intent)}
            with opened(checker.file) as connection:
                query = "SELECT message_id, content FROM messages WHERE scope = ? ORDER BY seq"
                rows = connection.execute(query, (_key(intent["user"]),)).fetchall()
            new = [id for id, content in rows if content in said]
            new = [id for id in new if (intent["user"], id) not in checker.book.alive]
            if len(new) > 1:
                return _drop(checker.file, (intent["user"], new[-1]))
    return False


def batch(crash: Crash, checker: Checker) -> bool:
    """Of a killed import, the last message is lost."""
    for intent in checker.book.pending:
        if intent["do"] == "import":
            said = [*import_said(crash.args.seed, intent["number"])]
            new = [place for place in said if place not in checker.book.alive]
            there = [place for place in new if _there(checker.file, place)]
            if there:
                return _drop(checker.file, there[-1])
    return False


def _there(file: Path, place: Place) -> bool:
    query = "SELECT 1 FROM messages WHERE scope = ? AND message_id = ?"
    with opened(file) as connection:
        return bool(connection.execute(query, (_key(place[0]), place[1])).fetchone())


def resurrect(crash: Crash, checker: Checker) -> bool:
    """A forgotten message is back."""
    erased = [(p, s) for p, s in checker.book.erased.items() if s.content and p[0] not in IMPORTS]
    if not erased:
        return False
    (user, id), said = crash.rng.choice(erased)
    message = {"role": "user", "content": said.content, "id": id, "name": said.name}
    with crash.open(checker.file) as memory:
        given = {key: value for key, value in message.items() if value is not None}
        memory.user(user).remember(given, session=said.session)
    return True


def bytes_(crash: Crash, checker: Checker) -> bool:
    """The text of a forgotten message stands somewhere in the file."""
    book = checker.book
    dead = [s for s in book.dead().values() if mark_of(s.content) not in book.unclean]
    if not dead:
        return False
    with opened(checker.file) as connection:
        connection.execute("INSERT INTO meta VALUES ('sabotage', ?)", (dead[0].content,))
    return True


def passage(crash: Crash, checker: Checker) -> bool:
    """A passage of a long message is lost."""
    return _change(checker, "DELETE FROM support WHERE passage = 1 AND rowid % 2", many=True)


def words(crash: Crash, checker: Checker) -> bool:
    """A memory has lost its words."""
    return _change(checker, "DELETE FROM terms WHERE rowid = (SELECT max(rowid) FROM terms)")


def vector(crash: Crash, checker: Checker) -> bool:
    """A memory has lost its vector, and no job makes it anew."""
    return _change(checker, "DELETE FROM vectors WHERE rowid = (SELECT min(rowid) FROM vectors)")


def text(crash: Crash, checker: Checker) -> bool:
    """A message says something else."""
    first = "SELECT min(rowid) FROM messages"
    return _change(checker, f"UPDATE messages SET name = 'Eve' WHERE rowid = ({first})")


def pin(crash: Crash, checker: Checker) -> bool:
    """A memory is pinned that nobody pinned."""
    first = "SELECT min(rowid) FROM records WHERE NOT pinned"
    return _change(checker, f"UPDATE records SET pinned = 1 WHERE rowid = ({first})")


def page(crash: Crash, checker: Checker) -> bool:
    """A page of the file is overwritten."""
    with opened(checker.file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'support_by_message'"
        (root,) = connection.execute(query).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with checker.file.open("r+b") as file:
        file.seek((root - 1) * size + 100)
        file.write(b"\xff" * (size - 100))
    return True


def schema(crash: Crash, checker: Checker) -> bool:
    """A store was migrated by half."""
    done = checker.rows("SELECT 1 FROM pragma_table_info('records') WHERE name = 'rewritten'")
    first = "SELECT min(rowid) FROM records WHERE rewritten IS NOT NULL"
    change = f"UPDATE records SET rewritten = '' WHERE rowid = ({first})"
    return _change(checker, change if done else "UPDATE alembic_version SET version_num = '9999'")


def backup(crash: Crash, checker: Checker) -> bool:
    """A backup lacks a message."""
    return _in_backup(crash, lambda path: _drop(path, _oldest(path)))


def tear(crash: Crash, checker: Checker) -> bool:
    """A backup lacks its end."""
    return _in_backup(crash, _shorten)


def _shorten(path: Path) -> bool:
    os.truncate(path, path.stat().st_size - 4096)
    return True


def _oldest(path: Path) -> Place:
    query = """SELECT s.name, message_id FROM messages AS m JOIN scopes AS s ON s.scope = m.scope
        ORDER BY m.id LIMIT 1"""
    with opened(path) as connection:
        user, id = connection.execute(query).fetchone()
    return user, id


def _in_backup(crash: Crash, change: Callable[[Path], bool]) -> bool:
    """Change a backup of this round, and let it look as it did."""
    for name in crash.book.backups:
        path = crash.folder / name
        before = path.stat()
        if before.st_size > 200_000 and change(path):
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            return True
    return False


def _change(checker: Checker, query: str, *, many: bool = False) -> bool:
    with opened(checker.file) as connection:
        changed = connection.execute(query).rowcount
    return changed > 0 if many else changed == 1


# What is done, when, and which of the faults it is found by.
SABOTAGE: dict[str, tuple[Tamper, str, tuple[str, ...]]] = {
    "lose": (lose, "store", ("missing",)),
    "half": (half, "store", ("half",)),
    "batch": (batch, "store", ("half",)),
    "passage": (passage, "store", ("half",)),
    "resurrect": (resurrect, "store", ("resurrected",)),
    "bytes": (bytes_, "store", ("not_erased",)),
    "words": (words, "store", ("half",)),
    "vector": (vector, "store", ("left_undone",)),
    "text": (text, "store", ("changed",)),
    "pin": (pin, "store", ("changed",)),
    "page": (page, "store", ("damaged",)),
    "schema": (schema, "newer", ("half",)),
    "backup": (backup, "backups", ("missing",)),
    "tear": (tear, "backups", ("damaged",)),
}
