"""Forgetting: rows in one transaction, and which bytes to look for afterwards.

A memory goes when no message is left that says it. One that another message says as well is said
again in that message's words, so that nothing of the forgotten one stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, insert, select, update

from mnemic.errors import AmbiguousMessage
from mnemic.inputs import shown
from mnemic.records import Message, Scope
from mnemic.stores import schema
from mnemic.stores.appending import IN_CHUNK, set_version, take_version
from mnemic.stores.making import record_row, term_row
from mnemic.stores.rows import NewPassage, chunks, message_from_row

# More bytes of text than this are not looked for: the file is written anew.
MAX_SOUGHT = 400_000
# Ids, tags and metadata are looked for from this many bytes on.
LEAST_OTHER = 12


# What goes with everything else of a scope; messages and jobs go by rules of their own.
_OF_SCOPE = (
    schema.records,
    schema.support,
    schema.terms,
    schema.vectors,
    schema.sessions,
    schema.summaries,
    schema.procedures,
)


@dataclass(slots=True)
class Erased:
    """What one transaction took away.

    `texts` is what is to be looked for in the files, of `size` bytes; over `MAX_SOUGHT` it isn't all.
    `sessions` has the `seq` of the messages that went, by session.
    """

    messages: int = 0
    memories: int = 0
    texts: list[bytes] = field(default_factory=list)
    size: int = 0
    reworded: list[bytes] = field(default_factory=list)
    sessions: dict[str, list[int]] = field(default_factory=dict)
    job: bytes | None = None
    copies: bytes | None = None


def messages_of_record(connection: Connection, scope: Scope, record: bytes) -> list[bytes]:
    """The messages that say a memory."""
    rows = connection.execute(
        select(schema.support.c.message)
        .distinct()
        .where(schema.support.c.scope == scope.key, schema.support.c.record == record)
    ).scalars()
    return [bytes(message) for message in rows]


def messages_named(
    connection: Connection, scope: Scope, message_id: str, session: str | None
) -> list[bytes]:
    """The message of a caller's id; `AmbiguousMessage` where several sessions have it."""
    where = [schema.messages.c.scope == scope.key, schema.messages.c.message_id == message_id]
    if session is not None:
        where.append(schema.messages.c.session == session)
    rows = connection.execute(select(schema.messages.c.id, schema.messages.c.session).where(*where))
    found = {str(row.session): bytes(row.id) for row in rows}
    if len(found) > 1:
        sessions = ", ".join(shown(name) for name in sorted(found)[:3])
        raise AmbiguousMessage(
            f"message id {shown(message_id)} is in use in several sessions ({sessions});"
            " name the session as well"
        )
    return list(found.values())


def messages_in_session(connection: Connection, scope: Scope, session: str) -> list[bytes]:
    """Every message of a session."""
    rows = connection.execute(
        select(schema.messages.c.id).where(
            schema.messages.c.scope == scope.key, schema.messages.c.session == session
        )
    ).scalars()
    return [bytes(message) for message in rows]


def erase_messages(
    connection: Connection,
    scope: Scope,
    messages: Sequence[bytes],
    now: int,
    *,
    facts: bool = True,
) -> Erased:
    """Take messages away with every memory that only they say; without `facts`, passages alone.

    `reworded` names the memories whose first message went but that another one says as well; the
    caller gives those the other message's words (`reword`) in the same transaction.
    """
    erased = Erased()
    affected: set[bytes] = set()
    for some in chunks(messages, IN_CHUNK):
        _note_messages(
            connection,
            erased,
            schema.messages.c.scope == scope.key,
            schema.messages.c.id.in_(list(some)),
        )
        support = and_(
            schema.support.c.scope == scope.key, schema.support.c.message.in_(list(some))
        )
        if not facts:
            support = and_(support, schema.support.c.start < schema.support.c.stop)
        rows = connection.execute(select(schema.support.c.record).where(support)).scalars()
        affected.update(bytes(record) for record in rows)
        connection.execute(delete(schema.support).where(support))
        gone = connection.execute(
            delete(schema.messages).where(
                schema.messages.c.scope == scope.key, schema.messages.c.id.in_(list(some))
            )
        )
        erased.messages += gone.rowcount
    if not erased.messages:
        return erased
    stay = _supported(connection, scope, affected)
    moved = stay - _supported(connection, scope, stay, first=True)
    # A fact keeps its words when a message goes.
    erased.reworded = sorted(_of_kind(connection, scope, moved, episodic=True))
    dead = sorted(affected - stay)
    _note_unsaid(connection, erased, scope, dead)
    drop_records(connection, scope, dead)
    erased.memories = len(dead)
    changes: list[tuple[str, bytes | None]] = [("forgotten", record) for record in dead]
    changes += [("unsupported", record) for record in sorted(stay)]
    version = log_changes(connection, scope, now, changes or [("forgotten", None)])
    _revise_sessions(connection, scope, erased, version)
    _drop_empty_sessions(connection, scope, erased)
    return erased


def erase_unsaid(
    connection: Connection, scope: Scope, record: bytes, now: int, erased: Erased
) -> None:
    """Take away a fact or an instruction's version itself, if it is there, and add that to `erased`."""
    if not _of_kind(connection, scope, [record], episodic=False):
        return
    _note_unsaid(connection, erased, scope, [record])
    version = and_(schema.procedures.c.scope == scope.key, schema.procedures.c.record == record)
    _note_procedures(connection, erased, version)
    connection.execute(delete(schema.procedures).where(version))
    support = (schema.support.c.scope == scope.key, schema.support.c.record == record)
    connection.execute(delete(schema.support).where(*support))
    drop_records(connection, scope, [record])
    log_changes(connection, scope, now, [("forgotten", record)])
    erased.memories += 1


def erase_everything(connection: Connection, scope: Scope, now: int) -> Erased:
    """Take away all that a scope holds, its names too; only its key, version and history stay."""
    erased = Erased()
    records = connection.execute(
        select(schema.records.c.id, schema.records.c.text).where(
            schema.records.c.scope == scope.key
        )
    ).all()
    _note_messages(connection, erased, schema.messages.c.scope == scope.key)
    _note(erased, (row.text for row in records))
    sessions = select(schema.sessions.c.session).where(schema.sessions.c.scope == scope.key)
    _note(erased, (scope.name, *connection.execute(sessions).scalars()), LEAST_OTHER)
    summaries = select(schema.summaries.c.text).where(schema.summaries.c.scope == scope.key)
    _note(erased, connection.execute(summaries).scalars())
    _note_procedures(connection, erased, schema.procedures.c.scope == scope.key)
    _note_unsaid(connection, erased, scope)
    erased.memories = len(records)
    for table in _OF_SCOPE:
        connection.execute(delete(table).where(table.c.scope == scope.key))
    done_with = schema.jobs.c.kind.not_in(("scrub", "copies"))
    connection.execute(delete(schema.jobs).where(schema.jobs.c.scope == scope.key, done_with))
    gone = connection.execute(delete(schema.messages).where(schema.messages.c.scope == scope.key))
    erased.messages = gone.rowcount
    if erased.messages or erased.memories:
        changes: list[tuple[str, bytes | None]] = [("forgotten", bytes(row.id)) for row in records]
        log_changes(connection, scope, now, changes or [("forgotten", None)])
    connection.execute(
        update(schema.scopes)
        .where(schema.scopes.c.scope == scope.key)
        .values(tenant=None, kind=None, name=None, settings=None)
    )
    return erased


def drop_records(connection: Connection, scope: Scope, records: Sequence[bytes]) -> None:
    """Delete records with their terms and vectors."""
    for some in chunks(records, IN_CHUNK):
        ids = list(some)
        for table, column in (
            (schema.records, schema.records.c.id),
            (schema.terms, schema.terms.c.record),
            (schema.vectors, schema.vectors.c.record),
        ):
            connection.execute(delete(table).where(table.c.scope == scope.key, column.in_(ids)))


def log_changes(
    connection: Connection, scope: Scope, now: int, changes: Sequence[tuple[str, bytes | None]]
) -> int:
    """Append to the scope's history and raise its version, which is returned."""
    version = take_version(connection, scope, now)
    rows = [
        {"scope": scope.key, "seq": version + n, "at": now, "action": action, "record": record}
        for n, (action, record) in enumerate(changes, 1)
    ]
    if rows:
        connection.execute(schema.changes.insert(), rows)
        set_version(connection, scope, version + len(rows))
    return version + len(rows)


def reword(
    connection: Connection,
    scope: Scope,
    record: bytes,
    passage_of: Callable[[Message, int, int], NewPassage],
) -> None:
    """Give a memory the words of the earliest message that still says it; its vector is due anew."""
    row = _first_support(connection, scope, record)
    message = message_from_row(row)
    passage = passage_of(message, row["start"], row["stop"])
    values = record_row(scope, record, row["seq"], row["passage"], message, passage)
    kept = ("scope", "id", "recorded_at", "pinned", "status", "confidence", "importance")
    same = (schema.records.c.scope == scope.key, schema.records.c.id == record)
    connection.execute(
        update(schema.records)
        .where(*same)
        .values({name: value for name, value in values.items() if name not in kept})
    )
    for table in (schema.terms, schema.vectors):
        connection.execute(
            delete(table).where(table.c.scope == scope.key, table.c.record == record)
        )
    connection.execute(insert(schema.terms), term_row(scope, record, passage))
    connection.execute(
        update(schema.support)
        .where(
            schema.support.c.scope == scope.key,
            schema.support.c.record == record,
            schema.support.c.message == row["id"],
            schema.support.c.passage == row["passage"],
        )
        .values(repeat=0)
    )


def _first_support(connection: Connection, scope: Scope, record: bytes) -> RowMapping:
    support, messages = schema.support, schema.messages
    said_by = and_(messages.c.scope == support.c.scope, messages.c.id == support.c.message)
    return (
        connection.execute(
            select(messages, support.c.start, support.c.stop, support.c.passage)
            .join(support, said_by)
            .where(support.c.scope == scope.key, support.c.record == record)
            .order_by(messages.c.seq, support.c.passage)
            .limit(1)
        )
        .mappings()
        .one()
    )


def _supported(
    connection: Connection, scope: Scope, records: Iterable[bytes], *, first: bool = False
) -> set[bytes]:
    """Those of the records that a message says; with `first`, whose first message is still there."""
    support, stay = schema.support, set[bytes]()
    for some in chunks(sorted(records), IN_CHUNK):
        query = (
            select(support.c.record)
            .distinct()
            .where(support.c.scope == scope.key, support.c.record.in_(list(some)))
        )
        if first:
            query = query.where(support.c.repeat == 0)
        stay.update(bytes(record) for record in connection.execute(query).scalars())
    return stay


def _of_kind(
    connection: Connection, scope: Scope, records: Iterable[bytes], *, episodic: bool
) -> set[bytes]:
    """Those of the records that are passages; or those that aren't."""
    mine = schema.records.c.kind == "episodic" if episodic else schema.records.c.kind != "episodic"
    found = set[bytes]()
    for some in chunks(sorted(records), IN_CHUNK):
        query = select(schema.records.c.id).where(
            schema.records.c.scope == scope.key,
            schema.records.c.id.in_(list(some)),
            mine,
        )
        found.update(bytes(record) for record in connection.execute(query).scalars())
    return found


def _revise_sessions(connection: Connection, scope: Scope, erased: Erased, version: int) -> None:
    """Tell the sessions that lost messages, and take away what summed those up."""
    sessions, summaries = schema.sessions, schema.summaries
    for session, seqs in erased.sessions.items():
        of_session = (summaries.c.scope == scope.key, summaries.c.session == session)
        summary = connection.execute(select(summaries).where(*of_session)).one_or_none()
        if summary is not None and any(summary.first <= seq <= summary.last for seq in seqs):
            _note(erased, (summary.text,))
            connection.execute(delete(summaries).where(*of_session))
        connection.execute(
            update(sessions)
            .where(sessions.c.scope == scope.key, sessions.c.session == session)
            .values(changed=version)
        )


def _drop_empty_sessions(connection: Connection, scope: Scope, erased: Erased) -> None:
    filled = select(schema.messages.c.session).where(schema.messages.c.scope == scope.key)
    empty = (schema.sessions.c.scope == scope.key, schema.sessions.c.session.not_in(filled))
    names = connection.execute(select(schema.sessions.c.session).where(*empty)).scalars().all()
    _note(erased, names, LEAST_OTHER)
    connection.execute(delete(schema.sessions).where(*empty))


def _note(erased: Erased, texts: Iterable[str | None], least: int = 1) -> None:
    """Note what the texts were, so that a look at the files can tell whether any is left.

    Texts shorter than `least` bytes are left out: they stand all over a file.
    """
    for text in texts:
        raw = (text or "").encode()
        if len(raw) >= least and erased.size <= MAX_SOUGHT:
            erased.texts.append(raw)
            erased.size += len(raw)


def _note_messages(connection: Connection, erased: Erased, *where: ColumnElement[bool]) -> None:
    """Note what messages said, their ids and what they carried."""
    columns = schema.messages.c
    rows = connection.execute(
        select(
            columns.content,
            columns.message_id,
            columns.name,
            columns.metadata,
            columns.extra,
            columns.tags,
            columns.session,
            columns.seq,
        ).where(*where)
    )
    for content, *others, session, seq in rows:
        _note(erased, (content,))
        _note(erased, others, LEAST_OTHER)
        erased.sessions.setdefault(session, []).append(seq)


def _note_unsaid(
    connection: Connection, erased: Erased, scope: Scope, records: Sequence[bytes] | None = None
) -> None:
    """Note what facts and instructions say and carry, which no message does: all, or those named."""
    columns = schema.records.c
    query = select(columns.text, columns.tags, columns.metadata).where(
        columns.scope == scope.key, schema.NOT_EPISODIC
    )
    some: Iterable[Sequence[bytes] | None]
    some = [None] if records is None else chunks(records, IN_CHUNK)
    for ids in some:
        named = query if ids is None else query.where(columns.id.in_(list(ids)))
        for text, *others in connection.execute(named):
            _note(erased, (text,))
            _note(erased, others, LEAST_OTHER)


def _note_procedures(connection: Connection, erased: Erased, *where: ColumnElement[bool]) -> None:
    """Note what instructions carried besides their words."""
    columns = schema.procedures.c
    rows = connection.execute(select(columns.name, columns.reason, columns.examples).where(*where))
    for row in rows:
        _note(erased, row, LEAST_OTHER)
