"""Committing messages: the first of a write's two transactions, and the second, which adds vectors.

Every function takes an open connection and a scope; what a passage is was decided before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, delete, insert, select, update
from uuid_utils import uuid7

from mnemic.errors import IdConflict
from mnemic.inputs import shown
from mnemic.records import Message, Scope, Skipped
from mnemic.stores import schema
from mnemic.stores.making import message_row, record_row, term_row
from mnemic.stores.rows import (
    Appended,
    Embedded,
    NewMessage,
    NewPassage,
    chunks,
    from_id,
    to_micros,
)

# A writer embeds at once; whoever finds the job later than this may take it that the writer is gone.
EMBED_GRACE_MICROS = 30_000_000
IN_CHUNK = 500
# The digest of a message that is still being said: no content has it.
UNSAID = bytes(16)

_known_messages = select(
    schema.messages.c.session, schema.messages.c.message_id, schema.messages.c.digest
).where(
    schema.messages.c.scope == bindparam("scope"),
    schema.messages.c.message_id.in_(bindparam("ids", expanding=True)),
)
_known_records = select(schema.records.c.fingerprint, schema.records.c.id).where(
    schema.records.c.scope == bindparam("scope"),
    schema.records.c.fingerprint.in_(bindparam("prints", expanding=True)),
    schema.records.c.status == "current",
)
_version = select(schema.scopes.c.version, schema.scopes.c.name).where(
    schema.scopes.c.scope == bindparam("scope")
)
_set_version = (
    update(schema.scopes)
    .where(schema.scopes.c.scope == bindparam("key"))
    .values(
        version=bindparam("to"),
        tenant=bindparam("in_tenant"),
        kind=bindparam("of_kind"),
        name=bindparam("named"),
    )
)
_set_session = (
    update(schema.sessions)
    .where(
        schema.sessions.c.scope == bindparam("key"),
        schema.sessions.c.session == bindparam("of_session"),
    )
    .values(
        started_at=case(
            (schema.sessions.c.started_at > bindparam("first"), bindparam("first")),
            else_=schema.sessions.c.started_at,
        ),
        last_at=case(
            (schema.sessions.c.last_at < bindparam("last"), bindparam("last")),
            else_=schema.sessions.c.last_at,
        ),
        changed=bindparam("at_seq"),
    )
)
_drop_job = delete(schema.jobs).where(
    schema.jobs.c.scope == bindparam("key"), schema.jobs.c.id == bindparam("job")
)
_due = (
    select(schema.records.c.id, schema.records.c.speaker, schema.records.c.text)
    .outerjoin(
        schema.vectors,
        and_(
            schema.vectors.c.scope == schema.records.c.scope,
            schema.vectors.c.record == schema.records.c.id,
            schema.vectors.c.embedder == bindparam("embedder"),
        ),
    )
    .where(
        schema.records.c.scope == bindparam("scope"),
        schema.records.c.id.in_(bindparam("ids", expanding=True)),
        schema.vectors.c.record.is_(None),
    )
)
# Made once: building a statement costs more than SQLite takes to run it.
_inserts = {table.name: insert(table) for table in schema.metadata.sorted_tables}


def take_version(connection: Connection, scope: Scope, now: int) -> int:
    """The scope's version, its row made if it has none. The row stays locked until the commit."""
    found = connection.execute(_version, {"scope": scope.key}).first()
    if found is not None:
        return int(found.version)
    connection.execute(
        _inserts[schema.scopes.name],
        {
            "scope": scope.key,
            "tenant": scope.tenant,
            "kind": scope.kind,
            "name": scope.name,
            "version": 0,
            "created_at": now,
            "settings": None,
        },
    )
    return 0


def set_version(connection: Connection, scope: Scope, version: int) -> None:
    """Write the version that the transaction's changes have reached."""
    connection.execute(
        _set_version,
        {
            "key": scope.key,
            "to": version,
            "in_tenant": scope.tenant,
            "of_kind": scope.kind,
            "named": scope.name,
        },
    )


class Place(NamedTuple):
    """The key of a message, and its place in the order of arrival."""

    key: bytes
    seq: int


class _Batch:
    """The rows of one append, collected so that each table is written once."""

    def __init__(self, scope: Scope, version: int, now: int) -> None:
        self.scope = scope
        self.version = version
        self.now = now
        self.messages: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = []
        self.terms: list[dict[str, Any]] = []
        self.support: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.spans: dict[str, tuple[int, int]] = {}

    def change(self, action: str, record: bytes | None) -> int:
        self.version += 1
        self.changes.append(
            {
                "scope": self.scope.key,
                "seq": self.version,
                "at": self.now,
                "action": action,
                "record": record,
            }
        )
        return self.version

    def message(self, new: NewMessage, place: Place | None) -> Place:
        message = new.message
        key, seq = place or Place(uuid7().bytes, self.version + 1)
        said_at = to_micros(message.said_at)
        session = message.session or ""
        first, last = self.spans.get(session, (said_at, said_at))
        self.spans[session] = (min(first, said_at), max(last, said_at))
        self.messages.append(message_row(self.scope, key, seq, message, new.digest))
        return Place(key, seq)

    def record(self, new: NewMessage, number: int, passage: NewPassage, seq: int) -> bytes:
        row = record_row(self.scope, uuid7().bytes, seq, number, new.message, passage)
        key: bytes = row["id"]
        self.records.append(row)
        self.terms.append(term_row(self.scope, key, passage))
        return key

    def supports(
        self, record: bytes, message: bytes, number: int, passage: NewPassage, repeat: bool
    ) -> None:
        self.support.append(
            {
                "scope": self.scope.key,
                "record": record,
                "message": message,
                "passage": number,
                "start": passage.start,
                "stop": passage.stop,
                "repeat": int(repeat),
            }
        )

    def flush(self, connection: Connection) -> None:
        for table, rows in (
            (schema.messages, self.messages),
            (schema.records, self.records),
            (schema.terms, self.terms),
            (schema.support, self.support),
            (schema.changes, self.changes),
        ):
            if rows:
                connection.execute(_inserts[table.name], rows)
        for session, (first, last) in self.spans.items():
            touch_session(connection, self.scope, session, (first, last), self.version)
        set_version(connection, self.scope, self.version)


def append(
    connection: Connection,
    scope: Scope,
    new: Sequence[NewMessage],
    now: int,
    place: Place | None = None,
) -> Appended:
    """Commit messages with their passages, terms, changes and the job that embeds them.

    A message whose id is there with the same content is skipped; with other content, `IdConflict`.
    A passage that repeats a current memory of the same speaker supports that memory instead. A single
    message may be given the `place` of one that was taken away in the same transaction.
    """
    done = Appended()
    fresh = _not_yet_known(connection, scope, new, done)
    if not fresh:
        return done
    batch = _Batch(scope, take_version(connection, scope, now), now)
    if place is not None:
        batch.change("completed", None)
    known = _find_repeated(connection, scope, fresh)
    for message in fresh:
        _add_message(batch, message, known, done, place)
    done.stored = len(fresh)
    if done.to_embed:
        done.job = add_job(
            connection,
            scope,
            "embed",
            b"".join(key for key, *_ in done.to_embed),
            now + EMBED_GRACE_MICROS,
        )
    batch.flush(connection)
    return done


def begin(connection: Connection, scope: Scope, key: bytes, message: Message, now: int) -> None:
    """Put down what is there of a message that is still being said; its place in the session is taken."""
    batch = _Batch(scope, take_version(connection, scope, now), now)
    batch.message(NewMessage(message, UNSAID, ()), Place(key, batch.version + 1))
    batch.change("streaming", None)
    batch.flush(connection)


def _add_message(
    batch: _Batch,
    new: NewMessage,
    known: dict[bytes, bytes],
    done: Appended,
    place: Place | None,
) -> None:
    key, seq = batch.message(new, place)
    supported: set[bytes] = set()
    for number, passage in enumerate(new.passages):
        record = known.get(passage.fingerprint)
        repeat = record is not None
        if record is None:
            record = known[passage.fingerprint] = batch.record(new, number, passage, seq)
            done.to_embed.append((record, new.message.name, passage.text))
        elif record not in supported:
            done.skipped.append(Skipped(new.message.id, "repeat", from_id(record)))
        batch.supports(record, key, number, passage, repeat)
        batch.change("supported" if repeat else "remembered", record)
        supported.add(record)
    done.memory_ids.extend(supported)
    if not new.passages:
        done.skipped.append(Skipped(new.message.id, "no text"))
        batch.change("remembered", None)


def _not_yet_known(
    connection: Connection, scope: Scope, new: Sequence[NewMessage], done: Appended
) -> list[NewMessage]:
    """Leave out what is there already; raise `IdConflict` before anything is written."""
    given = [message.message.id for message in new if message.id_given]
    digests: dict[tuple[str, str], bytes] = {}
    for ids in chunks(given, IN_CHUNK):
        for row in connection.execute(_known_messages, {"scope": scope.key, "ids": list(ids)}):
            digests[row.session, row.message_id] = bytes(row.digest)
    fresh: list[NewMessage] = []
    for item in new:
        place = (item.message.session or "", item.message.id)
        known = digests.get(place)
        if known is None:
            digests[place] = item.digest
            fresh.append(item)
        elif known == item.digest:
            done.skipped.append(Skipped(item.message.id, "same id and content"))
        else:
            where = f"session {shown(place[0])}" if place[0] else "the messages without a session"
            raise IdConflict(
                f"message id {shown(place[1])} is in use in {where} for another content;"
                " give the new message an id of its own, or forget the old one first",
                item.message.id,
            )
    return fresh


def _find_repeated(
    connection: Connection, scope: Scope, fresh: Sequence[NewMessage]
) -> dict[bytes, bytes]:
    """Map the fingerprints that current memories have already to those memories."""
    prints = list({passage.fingerprint for item in fresh for passage in item.passages})
    known: dict[bytes, bytes] = {}
    for some in chunks(prints, IN_CHUNK):
        for row in connection.execute(_known_records, {"scope": scope.key, "prints": list(some)}):
            known.setdefault(bytes(row.fingerprint), bytes(row.id))
    return known


def touch_session(
    connection: Connection, scope: Scope, session: str, span: tuple[int, int], version: int
) -> None:
    """Note when a session's first and last message were said, and that a change concerned it."""
    first, last = span
    values = {"key": scope.key, "of_session": session, "first": first, "last": last}
    if not connection.execute(_set_session, {**values, "at_seq": version}).rowcount:
        row = {"scope": scope.key, "session": session, "started_at": first, "last_at": last}
        connection.execute(_inserts[schema.sessions.name], {**row, "changed": version})


def add_job(
    connection: Connection,
    scope: Scope,
    kind: str,
    payload: bytes,
    run_at: int,
    key: bytes | None = None,
) -> bytes:
    """Put a job into the outbox, to be taken from `run_at` on; returns its id."""
    key = key or uuid7().bytes
    connection.execute(
        _inserts[schema.jobs.name],
        {
            "scope": scope.key,
            "id": key,
            "kind": kind,
            "state": "waiting",
            "attempts": 0,
            "run_at": run_at,
            "error": None,
            "payload": payload,
        },
    )
    return key


def finish_job(connection: Connection, scope_key: bytes, job: bytes) -> None:
    """Take a finished job out of the outbox."""
    connection.execute(_drop_job, {"key": scope_key, "job": job})


def add_vectors(
    connection: Connection, scope_key: bytes, embedder: int, vectors: Sequence[Embedded]
) -> None:
    """Add the vectors of records that still exist, say the same words, and have none yet."""
    for some in chunks(vectors, IN_CHUNK):
        values = {"scope": scope_key, "embedder": embedder, "ids": [made.record for made in some]}
        due = {(bytes(row.id), row.speaker, row.text) for row in connection.execute(_due, values)}
        rows = [
            {
                "scope": scope_key,
                "record": made.record,
                "embedder": embedder,
                "vector": made.vector,
                "codes": made.codes,
            }
            for made in some
            if made[:3] in due
        ]
        if rows:
            connection.execute(_inserts[schema.vectors.name], rows)
