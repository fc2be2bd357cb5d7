"""Reading rows: records for people, columns for an index.

Every function takes an open connection and a scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, select

from mnemic.records import Change, MemoryRecord, Scope
from mnemic.stores import schema
from mnemic.stores.appending import IN_CHUNK
from mnemic.stores.known import CURRENT, EPOCH, KnownEmbedder, moved_away
from mnemic.stores.rows import (
    MEMORY_COLUMNS,
    IndexRows,
    SaidMessage,
    Span,
    Stand,
    change_from_row,
    chunks,
    from_json,
    make_memory,
    message_from_row,
)

# Past this many changes, reading the whole scope is cheaper than asking for its rows by id.
MAX_DELTA = 4_000

_INDEX_COLUMNS = (
    "id",
    "kind",
    "source",
    "speaker",
    "session",
    "seq",
    "passage",
    "said_at",
    "expires_at",
    "status",
    "version",
    "length",
    "hashes",
    "counts",
    "vector",
)

# All in one question, since every recall asks them: the scope's version, the store's embedder and epoch.
_version = select(
    select(schema.scopes.c.version)
    .where(schema.scopes.c.scope == bindparam("scope"))
    .scalar_subquery(),
    select(schema.scopes.c.settings)
    .where(schema.scopes.c.scope == bindparam("scope"))
    .scalar_subquery(),
    select(schema.meta.c.value).where(schema.meta.c.key == CURRENT).scalar_subquery(),
    select(schema.meta.c.value).where(schema.meta.c.key == EPOCH).scalar_subquery(),
)
_changed = (
    select(schema.changes.c.record)
    .distinct()
    .where(
        schema.changes.c.scope == bindparam("scope"),
        schema.changes.c.seq > bindparam("after"),
        schema.changes.c.record.is_not(None),
    )
    .limit(MAX_DELTA + 1)
)
_said_by = and_(
    schema.messages.c.scope == schema.support.c.scope,
    schema.messages.c.id == schema.support.c.message,
)
_by_ids = (
    select(
        schema.messages.c.seq,
        schema.messages.c.message_id,
        *(schema.records.c[name] for name in MEMORY_COLUMNS),
    )
    .outerjoin(
        schema.support,
        and_(
            schema.support.c.scope == schema.records.c.scope,
            schema.support.c.record == schema.records.c.id,
        ),
    )
    .outerjoin(schema.messages, _said_by)
    .where(
        schema.records.c.scope == bindparam("scope"),
        schema.records.c.id.in_(bindparam("ids", expanding=True)),
    )
)


def _index_select() -> Select[Any]:
    records, terms, vectors = schema.records, schema.terms, schema.vectors
    return (
        select(
            records.c.id,
            records.c.kind,
            records.c.source,
            records.c.speaker,
            records.c.session,
            records.c.seq,
            records.c.passage,
            records.c.said_at,
            records.c.expires_at,
            records.c.status,
            terms.c.version,
            terms.c.length,
            terms.c.hashes,
            terms.c.counts,
            vectors.c.vector,
        )
        .outerjoin(terms, and_(terms.c.scope == records.c.scope, terms.c.record == records.c.id))
        .outerjoin(
            vectors,
            and_(
                vectors.c.scope == records.c.scope,
                vectors.c.record == records.c.id,
                vectors.c.embedder == bindparam("embedder"),
            ),
        )
        .where(records.c.scope == bindparam("scope"))
    )


_index_all = _index_select().order_by(schema.records.c.id)
_index_some = _index_select().where(schema.records.c.id.in_(bindparam("ids", expanding=True)))
_repeats = (
    select(
        schema.support.c.record,
        schema.messages.c.session,
        schema.messages.c.seq,
        schema.support.c.passage,
        schema.messages.c.said_at,
    )
    .join(schema.messages, _said_by)
    .where(schema.support.c.scope == bindparam("scope"), schema.support.c.repeat == 1)
)
_repeats_some = _repeats.where(schema.support.c.record.in_(bindparam("ids", expanding=True)))


_codes = select(schema.vectors.c.record, schema.vectors.c.codes).where(
    schema.vectors.c.scope == bindparam("scope"),
    schema.vectors.c.embedder == bindparam("embedder"),
    schema.vectors.c.record.in_(bindparam("ids", expanding=True)),
    schema.vectors.c.codes.is_not(None),
)


def find_stand(connection: Connection, scope: Scope, embedder: KnownEmbedder) -> Stand:
    """Where the scope stands; its version is 0 for one that never was.

    Raises `EmbedderMismatch` where the store has moved to another embedder meanwhile.
    """
    found, settings, current, epoch = connection.execute(_version, {"scope": scope.key}).one()
    if current != embedder.packed:
        raise moved_away(embedder)
    return Stand(int(found or 0), epoch or "", settings)


def index_rows(
    connection: Connection, scope: Scope, embedder: KnownEmbedder, known: Stand | None
) -> IndexRows | None:
    """What changed since it stood at `known`, or the whole scope; None where nothing changed."""
    stand = find_stand(connection, scope, embedder)
    if stand == known:
        return None
    if known is not None and known.epoch == stand.epoch and known.version < stand.version:
        after = {"scope": scope.key, "after": known.version}
        ids = [bytes(record) for record in connection.execute(_changed, after).scalars()]
        if len(ids) <= MAX_DELTA:
            return rows_by_id(connection, scope, embedder.number, stand, ids)
    values = {"scope": scope.key, "embedder": embedder.number}
    rows = connection.execute(_index_all, values).all()
    repeats = connection.execute(_repeats, {"scope": scope.key}).all()
    return IndexRows(stand, True, _columns(rows), _plain(repeats))


def rows_by_id(
    connection: Connection, scope: Scope, embedder: int, stand: Stand, ids: Sequence[bytes]
) -> IndexRows:
    """The index rows of the given records; those that are no more are named in `gone`."""
    rows: list[Row[Any]] = []
    repeats: list[Row[Any]] = []
    for some in chunks(ids, IN_CHUNK):
        values = {"scope": scope.key, "ids": list(some)}
        rows.extend(connection.execute(_index_some, {**values, "embedder": embedder}))
        repeats.extend(connection.execute(_repeats_some, values))
    found = {bytes(row.id) for row in rows}
    rows.sort(key=lambda row: bytes(row.id))
    gone = [key for key in ids if key not in found]
    return IndexRows(stand, False, _columns(rows), _plain(repeats), gone)


def _columns(rows: Sequence[Row[Any]]) -> dict[str, Sequence[Any]]:
    if not rows:
        return {name: () for name in _INDEX_COLUMNS}
    return dict(zip(_INDEX_COLUMNS, zip(*rows, strict=True), strict=True))


def _plain(rows: Iterable[Any]) -> list[tuple[bytes, str, int, int, int]]:
    return [(bytes(r.record), r.session, r.seq, r.passage, r.said_at) for r in rows]


def find_records(
    connection: Connection, scope: Scope, ids: Sequence[bytes]
) -> dict[bytes, MemoryRecord]:
    """The records among the given ids that are there."""
    rows: dict[bytes, Sequence[Any]] = {}
    said_by: dict[bytes, list[tuple[int, str]]] = {}
    for some in chunks(ids, IN_CHUNK):
        values = {"scope": scope.key, "ids": list(some)}
        for seq, message_id, *columns in connection.execute(_by_ids, values).all():
            key = columns[0]
            rows[key] = columns
            if message_id is not None:
                said_by.setdefault(key, []).append((seq, message_id))
    ids_of = {key: dict.fromkeys(i for _, i in sorted(said)) for key, said in said_by.items()}
    return {bytes(key): make_memory(row, ids_of.get(key, ())) for key, row in rows.items()}


def find_codes(
    connection: Connection, scope: Scope, embedder: int, ids: Sequence[bytes]
) -> dict[bytes, bytes]:
    """The codes of the tokens of those records that have any."""
    found: dict[bytes, bytes] = {}
    for some in chunks(ids, IN_CHUNK):
        values = {"scope": scope.key, "embedder": embedder, "ids": list(some)}
        found |= {bytes(key): codes for key, codes in connection.execute(_codes, values)}
    return found


def record_page(
    connection: Connection, scope: Scope, after: bytes, limit: int
) -> list[tuple[bytes, MemoryRecord]]:
    """The next records in id order, which is the order of recording."""
    keys = connection.execute(
        select(schema.records.c.id)
        .where(schema.records.c.scope == scope.key, schema.records.c.id > after)
        .order_by(schema.records.c.id)
        .limit(limit)
    ).scalars()
    ids = [bytes(key) for key in keys]
    found = find_records(connection, scope, ids)
    return [(key, found[key]) for key in ids if key in found]


def message_page(connection: Connection, scope: Scope, after: int, limit: int) -> list[SaidMessage]:
    """The next messages in the order of arrival, with the memories that stand on them."""
    messages, support = schema.messages, schema.support
    rows = connection.execute(
        select(messages)
        .where(messages.c.scope == scope.key, messages.c.seq > after)
        .order_by(messages.c.seq)
        .limit(limit)
    ).mappings()
    said = {bytes(row["id"]): SaidMessage(row["seq"], message_from_row(row)) for row in rows}
    for keys in chunks(list(said), IN_CHUNK):
        spans = connection.execute(
            select(support)
            .where(
                support.c.scope == scope.key,
                support.c.message.in_(list(keys)),
                support.c.start < support.c.stop,  # a fact stands on all of a message
            )
            .order_by(support.c.message, support.c.passage)
        )
        for row in spans:
            span = Span(bytes(row.record), row.start, row.stop, bool(row.repeat))
            said[bytes(row.message)].spans.append(span)
    first = [span.record for item in said.values() for span in item.spans if not span.repeat]
    records = find_records(connection, scope, first)
    for item in said.values():
        item.memories.update({s.record: records[s.record] for s in item.spans if not s.repeat})
    return list(said.values())


def labels(
    connection: Connection, scope: Scope
) -> Iterator[tuple[bytes, list[str], dict[str, Any]]]:
    """Yield id, tags and metadata of the records that carry any."""
    records = schema.records
    rows = connection.execute(
        select(records.c.id, records.c.tags, records.c.metadata).where(
            records.c.scope == scope.key,
            records.c.tags.is_not(None) | records.c.metadata.is_not(None),
        )
    )
    for key, tags, metadata in rows:
        yield bytes(key), from_json(tags) or [], from_json(metadata) or {}


def history(connection: Connection, scope: Scope, record: bytes) -> list[Change]:
    """Every change of one record, oldest first."""
    rows = connection.execute(
        select(schema.changes)
        .where(schema.changes.c.scope == scope.key, schema.changes.c.record == record)
        .order_by(schema.changes.c.seq)
    ).mappings()
    return [change_from_row(row) for row in rows]
