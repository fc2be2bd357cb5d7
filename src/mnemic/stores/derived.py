"""Rows that are made from text and can be made again, vectors and terms: which are missing or unusable.

Every method takes the scope first. Counts over all scopes are `ledger.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select

from mnemic.records import MemoryRecord, Scope
from mnemic.stores import erasing, loading, schema
from mnemic.stores.appending import IN_CHUNK
from mnemic.stores.database import Database
from mnemic.stores.known import KnownEmbedder, require_in_use
from mnemic.stores.rows import Counted, chunks, now_micros

PAGE = 2_000


class DerivedRows:
    """The derived rows of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def without_vector(
        self, scope: Scope, embedder: KnownEmbedder, limit: int
    ) -> list[tuple[bytes, MemoryRecord]]:
        """Some records that this embedder has made no vector of yet."""
        return self._some(scope, _without_vector(embedder), limit)

    def due(
        self, scope: Scope, embedder: KnownEmbedder, records: Sequence[bytes]
    ) -> list[tuple[bytes, MemoryRecord]]:
        """Those of the records that this embedder has made no vector of yet."""
        query, found = _without_vector(embedder), list[tuple[bytes, MemoryRecord]]()
        for some in chunks(records, IN_CHUNK):
            found += self._some(scope, query.where(schema.records.c.id.in_(list(some))), IN_CHUNK)
        return found

    def without_terms(
        self, scope: Scope, version: int, limit: int
    ) -> list[tuple[bytes, MemoryRecord]]:
        """Some records whose terms are missing, damaged, or of another version."""
        records, terms = schema.records, schema.terms
        same = and_(terms.c.scope == records.c.scope, terms.c.record == records.c.id)
        query = select(records.c.id).outerjoin(terms, same).where(bad_terms(version))
        return self._some(scope, query, limit)

    def put_terms(self, scope: Scope, version: int, made: Sequence[Counted]) -> None:
        """Replace the terms of records that say the same words as before. Caches learn of it."""
        terms = schema.terms
        with self.database.write(durable=False) as connection:
            # What was forgotten meanwhile must not leave its words behind.
            there = loading.find_records(connection, scope, [counted.record for counted in made])
            same = {(key, record.speaker, record.text) for key, record in there.items()}
            kept = [counted for counted in made if counted[:3] in same]
            for some in chunks([counted.record for counted in kept], IN_CHUNK):
                old = (terms.c.scope == scope.key, terms.c.record.in_(list(some)))
                connection.execute(delete(terms).where(*old))
            rows: list[dict[str, Any]] = [
                {
                    "scope": scope.key,
                    "record": counted.record,
                    "version": version,
                    "length": counted.length,
                    "hashes": counted.hashes,
                    "counts": counted.counts,
                }
                for counted in kept
            ]
            if rows:
                connection.execute(insert(terms), rows)
            changes: list[tuple[str, bytes | None]] = [("reindexed", r["record"]) for r in rows]
            erasing.log_changes(connection, scope, now_micros(), changes)

    def drop_bad_vectors(self, scope: Scope, embedder: KnownEmbedder, *, coded: bool) -> int:
        """Delete vectors of a wrong size, and those that aren't finite; returns how many.

        With `coded` those too beside which there are no codes of tokens.
        """
        vectors = schema.vectors
        mine = and_(vectors.c.scope == scope.key, vectors.c.embedder == embedder.number)
        with self.database.write(durable=False) as connection:
            require_in_use(connection, embedder)
            bad: list[bytes] = []
            columns = (vectors.c.record, vectors.c.vector, vectors.c.codes.is_(None))
            for page in connection.execute(select(*columns).where(mine)).partitions(PAGE):
                bad.extend(
                    bytes(key)
                    for key, raw, bare in page
                    if not is_usable(raw, embedder) or (bare and coded)
                )
            for some in chunks(bad, IN_CHUNK):
                connection.execute(delete(vectors).where(mine, vectors.c.record.in_(list(some))))
        return len(bad)

    def _some(self, scope: Scope, query: Any, limit: int) -> list[tuple[bytes, MemoryRecord]]:
        with self.database.read() as connection:
            found = connection.execute(
                query.where(schema.records.c.scope == scope.key).limit(limit)
            )
            ids = [bytes(key) for key in found.scalars()]
            return list(loading.find_records(connection, scope, ids).items())


def _without_vector(embedder: KnownEmbedder) -> Any:
    records, vectors = schema.records, schema.vectors
    same = and_(
        vectors.c.scope == records.c.scope,
        vectors.c.record == records.c.id,
        vectors.c.embedder == embedder.number,
    )
    return select(records.c.id).outerjoin(vectors, same).where(vectors.c.record.is_(None))


def bad_terms(version: int) -> ColumnElement[bool]:
    """What tells, in an outer join with records, that terms can't be used."""
    terms = schema.terms
    return or_(
        terms.c.record.is_(None),
        terms.c.version != version,
        func.length(terms.c.hashes) != 4 * func.length(terms.c.counts),
        func.length(terms.c.hashes) % 8 != 0,
    )


def is_usable(vector: bytes, embedder: KnownEmbedder) -> bool:
    """Tell whether a vector as it is kept has the right size, and is finite."""
    if len(vector) != 2 * embedder.dimensions:
        return False
    return bool(np.isfinite(np.frombuffer(vector, dtype="<f2")).all())
