"""The versions of a scope's instructions: one record each for its words, one row for the rest.

Which version stands for which, and when, is decided by the layer (`layers/procedural`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, select, update
from uuid_utils import uuid7

from mnemic.records import Example, Procedure, ProcedureAuthor, ProcedureMode, Scope, Status
from mnemic.stores import schema
from mnemic.stores.appending import EMBED_GRACE_MICROS, add_job, set_version, take_version
from mnemic.stores.database import Database
from mnemic.stores.erasing import LEAST_OTHER, Erased, drop_records, log_changes
from mnemic.stores.known import KnownEmbedder, require_in_use
from mnemic.stores.making import term_row
from mnemic.stores.rows import (
    Appended,
    NewPassage,
    from_id,
    from_json,
    from_micros,
    now_micros,
    optional_micros,
    optional_moment,
    require_id,
    to_json,
    to_micros,
)
from mnemic.stores.store import SCRUB, SCRUB_GRACE_MICROS

# The key of a record's metadata that names the version a proposal was made from.
BASE = "base"
# A name's version that counts: in force, or disabled.
HEADS: tuple[Status, ...] = ("current", "retired")

_records, _versions = schema.records, schema.procedures
_joined = (
    select(
        *(
            _versions.c[name]
            for name in ("name", "version", "mode", "reason", "author", "examples")
        ),
        *(_records.c[name] for name in ("id", "text", "status", "recorded_at", "metadata")),
        *(_records.c[name] for name in ("valid_from", "valid_to")),
    )
    .select_from(_versions)
    .join(
        _records, and_(_records.c.scope == _versions.c.scope, _records.c.id == _versions.c.record)
    )
)


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version that is to be written; `words` has its text and terms."""

    name: str
    words: NewPassage
    mode: ProcedureMode
    status: Status
    author: ProcedureAuthor
    reason: str | None = None
    examples: tuple[Example, ...] = ()
    base: int | None = None


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version that an import brings along: its number, its times and, where it is free, its id stay."""

    new: NewVersion
    number: int
    id: str | None
    recorded_at: datetime
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    pinned: bool = False


class ProcedureRows:
    """The instructions of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def in_force(self, scope: Scope) -> list[Procedure]:
        """The versions in force, by name."""
        query = _of(scope).where(_records.c.status == "current").order_by(_versions.c.name)
        return self._read(query)

    def head_page(self, scope: Scope, after: str, limit: int) -> list[Procedure]:
        """The next names' versions that count, in force or disabled, after a name."""
        query = _of(scope).where(_records.c.status.in_(HEADS), _versions.c.name > after)
        return self._read(query.order_by(_versions.c.name).limit(limit))

    def names(self, scope: Scope) -> list[str]:
        """Every name that has a version."""
        query = select(_versions.c.name).distinct().where(_versions.c.scope == scope.key)
        with self.database.read_once() as connection:
            return list(connection.execute(query.order_by(_versions.c.name)).scalars())

    def find(self, scope: Scope, name: str, version: int | None) -> Procedure | None:
        """The version of a number, or the one that counts; None where there is none."""
        counts = _records.c.status.in_(HEADS)
        which = counts if version is None else _versions.c.version == version
        found = self._read(_of(scope).where(_versions.c.name == name, which))
        return found[0] if found else None

    def versions(self, scope: Scope, name: str) -> list[Procedure]:
        """Every version of a name, oldest first."""
        query = _of(scope).where(_versions.c.name == name)
        return self._read(query.order_by(_versions.c.version))

    def proposed(self, scope: Scope) -> list[Procedure]:
        """The versions that wait for approval, oldest first."""
        query = _of(scope).where(_records.c.status == "proposed")
        return self._read(query.order_by(_records.c.id))

    @contextmanager
    def writing(self, scope: Scope, embedder: KnownEmbedder) -> Iterator[Writing]:
        """One transaction that changes instructions: nobody else changes any meanwhile."""
        with self.database.write() as connection:
            require_in_use(connection, embedder)
            writing = Writing(connection, scope)
            yield writing
            writing.end()

    def erase(self, scope: Scope, name: str) -> Erased:
        """Take away every version of a name, and say what bytes to look for."""
        with self.database.write() as connection:
            found = _procedures(connection, _of(scope).where(_versions.c.name == name))
            if not found:
                return Erased()
            ids = [require_id(version.id) for version in found]
            connection.execute(
                delete(_versions).where(_versions.c.scope == scope.key, _versions.c.name == name)
            )
            drop_records(connection, scope, ids)
            log_changes(connection, scope, now_micros(), [("forgotten", key) for key in ids])
            erased = Erased(memories=len(ids), texts=_bytes_of(found))
            erased.size = sum(map(len, erased.texts))
            at = now_micros() + SCRUB_GRACE_MICROS
            erased.job = add_job(connection, scope, SCRUB, b"", at)
        return erased

    def _read(self, query: Select[Any]) -> list[Procedure]:
        with self.database.read_once() as connection:
            return _procedures(connection, query)


class Writing:
    """A transaction that changes instructions. `done` says what is to be embedded after it."""

    def __init__(self, connection: Connection, scope: Scope) -> None:
        self.done = Appended()
        self._connection = connection
        self._scope = scope
        self._now = now_micros()
        self._changes: list[tuple[str, bytes]] = []
        self._first: int | None = None

    def versions(self, name: str) -> list[Procedure]:
        """Every version of a name, oldest first."""
        query = _of(self._scope).where(_versions.c.name == name).order_by(_versions.c.version)
        return _procedures(self._connection, query)

    def head(self, name: str) -> Procedure | None:
        """The version of a name that counts: in force, or disabled."""
        query = _of(self._scope).where(_versions.c.name == name, _records.c.status.in_(HEADS))
        found = _procedures(self._connection, query)
        return found[0] if found else None

    def find(self, record: bytes) -> Procedure | None:
        """The version whose words a memory holds."""
        found = _procedures(self._connection, _of(self._scope).where(_records.c.id == record))
        return found[0] if found else None

    def add(self, new: NewVersion, action: str) -> Procedure:
        """Write the next version of a name; `action` is what its history says of it."""
        key: bytes = uuid7().bytes
        query = select(func.max(_versions.c.version)).where(
            _versions.c.scope == self._scope.key, _versions.c.name == new.name
        )
        number = int(self._connection.execute(query).scalar() or 0) + 1
        self._write(key, number, new, _record_row(self._scope, key, number, new, self._now), action)
        return self._reread(key)

    def restore(self, kept: KeptVersion) -> None:
        """Write a version of a name that has none of its number, as it was."""
        key: bytes = uuid7().bytes if kept.id is None else require_id(kept.id)
        taken = select(_records.c.id).where(
            _records.c.scope == self._scope.key, _records.c.id == key
        )
        if self._connection.execute(taken).first() is not None:
            key = uuid7().bytes
        row = _record_row(self._scope, key, kept.number, kept.new, to_micros(kept.recorded_at))
        times = {name: optional_micros(getattr(kept, name)) for name in ("valid_from", "valid_to")}
        row |= {**times, "pinned": int(kept.pinned)}
        self._write(key, kept.number, kept.new, row, "instructed")

    def _write(
        self, key: bytes, number: int, new: NewVersion, row: dict[str, Any], action: str
    ) -> None:
        row["seq"] = self._log(action, key)
        self._connection.execute(insert(_records), row)
        self._connection.execute(insert(schema.terms), term_row(self._scope, key, new.words))
        self._connection.execute(insert(_versions), _version_row(self._scope, key, number, new))
        self.done.to_embed.append((key, new.name, new.words.text))
        self.done.stored += 1

    def settle(self, version: Procedure, status: Status, action: str) -> Procedure:
        """Give a version another status; its times in force follow."""
        key = require_id(version.id)
        times = {}
        if status == "current":
            times = {"valid_from": self._now, "valid_to": None}
        elif version.status == "current":
            times = {"valid_to": self._now}
        self._connection.execute(
            update(_records)
            .where(_records.c.scope == self._scope.key, _records.c.id == key)
            .values(status=status, **times)
        )
        self._log(action, key)
        return self._reread(key)

    def end(self) -> None:
        """Write the changes, and the job for what is to be embedded; to be called last."""
        if self._first is None:
            return
        rows = [
            {"scope": self._scope.key, "seq": seq, "at": self._now, "action": action, "record": key}
            for seq, (action, key) in enumerate(self._changes, self._first)
        ]
        self._connection.execute(insert(schema.changes), rows)
        set_version(self._connection, self._scope, self._first + len(rows) - 1)
        due = b"".join(key for key, *_ in self.done.to_embed)
        if due:
            at = self._now + EMBED_GRACE_MICROS
            self.done.job = add_job(self._connection, self._scope, "embed", due, at)

    def _log(self, action: str, key: bytes) -> int:
        if self._first is None:
            self._first = take_version(self._connection, self._scope, self._now) + 1
        self._changes.append((action, key))
        return self._first + len(self._changes) - 1

    def _reread(self, key: bytes) -> Procedure:
        found = self.find(key)
        assert found is not None  # this transaction has just written it
        return found


def _of(scope: Scope) -> Select[Any]:
    return _joined.where(_versions.c.scope == scope.key)


def _procedures(connection: Connection, query: Select[Any]) -> list[Procedure]:
    return [_procedure(row) for row in connection.execute(query)]


def _procedure(row: Row[Any]) -> Procedure:
    return Procedure(
        id=from_id(bytes(row.id)),
        name=row.name,
        version=row.version,
        text=row.text,
        recorded_at=from_micros(row.recorded_at),
        mode=row.mode,
        status=row.status,
        author=row.author,
        reason=row.reason,
        examples=tuple(Example(*pair) for pair in from_json(row.examples) or ()),
        valid_from=optional_moment(row.valid_from),
        valid_to=optional_moment(row.valid_to),
        base=(from_json(row.metadata) or {}).get(BASE),
    )


def _record_row(scope: Scope, key: bytes, number: int, new: NewVersion, now: int) -> dict[str, Any]:
    return {
        "scope": scope.key,
        "id": key,
        "kind": "procedural",
        "text": new.words.text,
        # No two versions are one memory, whatever they say.
        "fingerprint": hashlib.blake2b(key, digest_size=16, person=b"mnemic.procedure").digest(),
        "source": "system",
        # As a passage is found by who said it, an instruction is by its name.
        "speaker": new.name,
        "session": "",
        "passage": number,
        "said_at": now,
        "recorded_at": now,
        "valid_from": now if new.status == "current" else None,
        "valid_to": None,
        "expires_at": None,
        "status": new.status,
        "confidence": 1.0,
        "importance": 0.0,
        "pinned": 0,
        "tags": None,
        "metadata": to_json({} if new.base is None else {BASE: new.base}),
    }


def _version_row(scope: Scope, key: bytes, number: int, new: NewVersion) -> dict[str, Any]:
    return {
        "scope": scope.key,
        "name": new.name,
        "version": number,
        "record": key,
        "mode": new.mode,
        "reason": new.reason,
        "author": new.author,
        "examples": _packed(new.examples),
    }


def _bytes_of(versions: Sequence[Procedure]) -> list[bytes]:
    """What the files held of some versions."""
    texts = {version.text for version in versions}
    others = {version.name for version in versions}
    others.update(part for v in versions for part in (v.reason, _packed(v.examples)) if part)
    raw = [text.encode() for text in sorted(texts)]
    return raw + [part for part in map(str.encode, sorted(others)) if len(part) >= LEAST_OTHER]


def _packed(examples: Sequence[Example]) -> str | None:
    return to_json([[example.asked, example.answered] for example in examples])
