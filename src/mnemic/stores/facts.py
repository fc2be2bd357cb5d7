"""The facts of a scope: one record each, and the messages that say it.

What makes two facts one (`NewFact.words.fingerprint`) is decided where they are read (`writing/facts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, bindparam, insert, or_, select, update
from uuid_utils import uuid7

from mnemic.errors import InputError
from mnemic.inputs import shown
from mnemic.records import MemoryRecord, Scope
from mnemic.stores import loading, schema
from mnemic.stores.appending import EMBED_GRACE_MICROS, IN_CHUNK, add_job
from mnemic.stores.database import Database
from mnemic.stores.erasing import log_changes, messages_named
from mnemic.stores.known import KnownEmbedder, require_in_use
from mnemic.stores.making import term_row
from mnemic.stores.rows import (
    Appended,
    NewPassage,
    chunks,
    now_micros,
    optional_micros,
    require_id,
    to_json,
    to_micros,
)

_records, _support = schema.records, schema.support
# Two questions rather than one with an OR, for which SQLite would read every record of the scope.
_same = select(
    *(_records.c[name] for name in ("id", "status", "confidence", "importance", "pinned"))
).where(
    _records.c.scope == bindparam("scope"),
    _records.c.fingerprint == bindparam("print"),
    _records.c.kind == "semantic",
)
_taken = select(_records.c.id).where(
    _records.c.scope == bindparam("scope"), _records.c.id == bindparam("id")
)


@dataclass(frozen=True, slots=True)
class NewFact:
    """A fact that is to be written; `words` has its terms, and tells whether it is there already.

    `said_in` names the messages that say it: a caller's id, and its session ("" where it has none; None
    where any session is meant).
    """

    record: MemoryRecord
    words: NewPassage
    said_in: tuple[tuple[str, str | None], ...] = ()


class FactRows:
    """The facts of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def append(
        self,
        scope: Scope,
        embedder: KnownEmbedder,
        new: Sequence[NewFact],
        places: Sequence[str] = (),
    ) -> Appended:
        """Commit facts with their terms, support, changes and the job that embeds them; all or nothing.

        One that is there already is supported by the new one's messages, and keeps the higher
        confidence and importance. `memory_ids` has the records, in order; `stored` counts those that
        were made or changed. Raises `InputError` for a message that isn't there; `places` say there
        where each fact is from.
        """
        with self.database.write() as connection:
            require_in_use(connection, embedder)
            return _append(connection, scope, new, places)

    def remember(
        self, scope: Scope, embedder: KnownEmbedder, new: NewFact
    ) -> tuple[MemoryRecord, Appended]:
        """`append` one fact, and read it back as it is now."""
        with self.database.write() as connection:
            require_in_use(connection, embedder)
            done = _append(connection, scope, [new])
            [key] = done.memory_ids
            return loading.find_records(connection, scope, [key])[key], done

    def page(self, scope: Scope, after: bytes, limit: int) -> list[tuple[bytes, MemoryRecord]]:
        """The next facts after an id, in the order of recording; those no longer current too."""
        query = _facts(scope).where(_records.c.id > after).order_by(_records.c.id)
        return self._read(scope, query.limit(limit))

    def said_in(self, scope: Scope, records: Sequence[bytes]) -> dict[bytes, list[tuple[str, str]]]:
        """The messages that say some facts, in the order of arrival: a caller's id, and its session."""
        messages = schema.messages
        said_by = and_(messages.c.scope == _support.c.scope, messages.c.id == _support.c.message)
        found: dict[bytes, list[tuple[str, str]]] = {}
        with self.database.read() as connection:
            for some in chunks(records, IN_CHUNK):
                rows = connection.execute(
                    select(_support.c.record, messages.c.message_id, messages.c.session)
                    .join(messages, said_by)
                    .where(_support.c.scope == scope.key, _support.c.record.in_(list(some)))
                    .order_by(messages.c.seq)
                )
                for record, message_id, session in rows:
                    found.setdefault(bytes(record), []).append((message_id, session))
        return found

    def profile(self, scope: Scope, limit: int) -> list[MemoryRecord]:
        """The facts that hold now: the pinned, then by importance times confidence, then the newest."""
        now = now_micros()
        columns = _records.c
        query = (
            _facts(scope)
            .where(
                columns.status == "current",
                or_(columns.expires_at.is_(None), columns.expires_at > now),
                or_(columns.valid_from.is_(None), columns.valid_from <= now),
                or_(columns.valid_to.is_(None), columns.valid_to > now),
            )
            .order_by(
                columns.pinned.desc(),
                (columns.importance * columns.confidence).desc(),
                columns.said_at.desc(),
                columns.id.desc(),
            )
        )
        return [record for _, record in self._read(scope, query.limit(limit))]

    def _read(self, scope: Scope, query: Any) -> list[tuple[bytes, MemoryRecord]]:
        with self.database.read() as connection:
            ids = [bytes(key) for key in connection.execute(query).scalars()]
            found = loading.find_records(connection, scope, ids)
        return [(key, found[key]) for key in ids if key in found]


def _facts(scope: Scope) -> Any:
    # Literally as the index has it, or SQLite would read every record of the scope.
    return select(_records.c.id).where(
        _records.c.scope == scope.key, _records.c.kind == "semantic", schema.NOT_EPISODIC
    )


def _append(
    connection: Connection, scope: Scope, new: Sequence[NewFact], places: Sequence[str] = ()
) -> Appended:
    done, now = Appended(), now_micros()
    for number, fact in enumerate(new):
        try:
            messages = _messages(connection, scope, fact)
        except InputError as error:
            if places:
                error.args = (f"{places[number]}: {error}",)
            raise
        there, key = _find_same(connection, scope, fact)
        if there is None:
            changed = True
            _insert(connection, scope, fact, key, now)
            _add_support(connection, scope, key, messages)
            done.to_embed.append((key, None, fact.words.text))
        else:
            changed = _support_again(connection, scope, fact, there, messages)
            if changed:
                log_changes(connection, scope, now, [("supported", key)])
        done.stored += changed
        done.memory_ids.append(key)
    if done.to_embed:
        payload = b"".join(key for key, *_ in done.to_embed)
        done.job = add_job(connection, scope, "embed", payload, now + EMBED_GRACE_MICROS)
    return done


def _messages(connection: Connection, scope: Scope, fact: NewFact) -> list[bytes]:
    """The keys of the messages that say a fact."""
    keys: list[bytes] = []
    for message_id, session in fact.said_in:
        found = messages_named(connection, scope, message_id, session)
        if not found:
            where = f" in session {shown(session)}" if session else ""
            raise InputError(
                f"there is no message {shown(message_id)}{where} that could say this fact;"
                " remember the message first, or leave message_ids out"
            )
        keys += found
    return list(dict.fromkeys(keys))


def _find_same(
    connection: Connection, scope: Scope, fact: NewFact
) -> tuple[RowMapping | None, bytes]:
    """The record that is this fact, of its id or else current; and an id for it that is free."""
    key = require_id(fact.record.id)
    values = {"scope": scope.key, "print": fact.words.fingerprint, "id": key}
    same = sorted(connection.execute(_same, values).mappings(), key=lambda row: bytes(row["id"]))
    mine = [row for row in same if bytes(row["id"]) == key]
    if fact.record.status == "current":
        mine += [row for row in same if row["status"] == "current"]
    if mine:
        return mine[0], bytes(mine[0]["id"])
    taken = connection.execute(_taken, values).first() is not None
    return None, uuid7().bytes if taken else key


def _insert(connection: Connection, scope: Scope, fact: NewFact, key: bytes, now: int) -> None:
    seq = log_changes(connection, scope, now, [("remembered", key)])
    connection.execute(insert(_records), _row(scope, key, seq, fact))
    connection.execute(insert(schema.terms), term_row(scope, key, fact.words))


def _row(scope: Scope, key: bytes, seq: int, fact: NewFact) -> dict[str, Any]:
    record = fact.record
    return {
        "scope": scope.key,
        "id": key,
        "kind": "semantic",
        "text": fact.words.text,
        "fingerprint": fact.words.fingerprint,
        "source": record.source,
        "speaker": None,
        "session": "",
        "seq": seq,
        "passage": 0,
        "said_at": to_micros(record.said_at),
        "recorded_at": to_micros(record.recorded_at),
        "valid_from": optional_micros(record.valid_from),
        "valid_to": optional_micros(record.valid_to),
        "expires_at": optional_micros(record.expires_at),
        "status": record.status,
        "confidence": record.confidence,
        "importance": record.importance,
        "pinned": int(record.pinned),
        "tags": to_json(list(record.tags)),
        "metadata": to_json(dict(record.metadata)),
    }


def _support_again(
    connection: Connection, scope: Scope, fact: NewFact, there: RowMapping, messages: list[bytes]
) -> bool:
    """Let a fact that is there stand on further messages; whether that changed anything."""
    key, record = bytes(there["id"]), fact.record
    known = connection.execute(
        select(_support.c.message).where(_support.c.scope == scope.key, _support.c.record == key)
    ).scalars()
    said_by = {bytes(message) for message in known}
    fresh = [message for message in messages if message not in said_by]
    _add_support(connection, scope, key, fresh)
    raised = {
        "confidence": max(there["confidence"], record.confidence),
        "importance": max(there["importance"], record.importance),
        "pinned": max(there["pinned"], int(record.pinned)),
    }
    if all(there[name] == value for name, value in raised.items()):
        return bool(fresh)
    same = and_(_records.c.scope == scope.key, _records.c.id == key)
    connection.execute(update(_records).where(same).values(**raised))
    return True


def _add_support(
    connection: Connection, scope: Scope, key: bytes, messages: Sequence[bytes]
) -> None:
    """Note the messages that say a fact: all of each, none of them the first."""
    place = {"passage": 0, "start": 0, "stop": 0, "repeat": 0}
    rows = [
        {"scope": scope.key, "record": key, "message": message, **place} for message in messages
    ]
    if rows:
        connection.execute(insert(_support), rows)
