"""What is asked of all scopes at once: counts, jobs, which embedder made the vectors.

It sees ids, states and counts, never text: no column that holds any is named here, and a test pins it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select, update

from mnemic.errors import EmbedderMismatch
from mnemic.records import Scope, ScopeStats, StoreStats
from mnemic.stores import schema
from mnemic.stores.database import HEAD, Database
from mnemic.stores.derived import PAGE, bad_terms, is_usable
from mnemic.stores.known import (
    CURRENT,
    EPOCH,
    NEXT,
    KnownEmbedder,
    find_known,
    remember_known,
    set_meta,
)


class Ledger:
    """The operator's view of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- the embedder --------------------------------------------------------------------------

    def embedder(self) -> KnownEmbedder | None:
        """The embedder whose vectors answer; None where nothing was ever written."""
        with self.database.read() as connection:
            return find_known(connection, CURRENT)

    def adopt(self, name: str, dimensions: int) -> KnownEmbedder:
        """Remember this embedder for a store that has none; returns the one it has."""
        with self.database.write() as connection:
            known = find_known(connection, CURRENT)
            if known is None:
                known = KnownEmbedder(1, name, dimensions)
                remember_known(connection, CURRENT, known)
            return known

    def start_move(self, name: str, dimensions: int) -> KnownEmbedder:
        """Begin, or take up again, the move to another embedder."""
        with self.database.write() as connection:
            current, target = find_known(connection, CURRENT), find_known(connection, NEXT)
            if target is not None and (target.name, target.dimensions) == (name, dimensions):
                return target
            if target is not None:
                _drop_vectors(connection, target)
            number = max(known.number for known in (current, target) if known is not None) + 1
            target = KnownEmbedder(number, name, dimensions)
            remember_known(connection, NEXT, target)
            return target

    def finish_move(self, target: KnownEmbedder) -> bool:
        """Let the target's vectors answer and drop the old ones; False while any is missing."""
        with self.database.write() as connection:
            if find_known(connection, NEXT) != target:
                raise EmbedderMismatch("another move was begun meanwhile; run reembed again")
            if _missing(connection, target.number):
                return False
            current = find_known(connection, CURRENT)
            if current is not None:
                _drop_vectors(connection, current)
            remember_known(connection, CURRENT, target)
            connection.execute(delete(schema.meta).where(schema.meta.c.key == NEXT))
            return True

    def renumber(self, known: KnownEmbedder) -> None:
        """Let the embedder go by a number that others know it by; a move under way is given up."""
        vectors = schema.vectors
        with self.database.write() as connection:
            current, target = find_known(connection, CURRENT), find_known(connection, NEXT)
            if current is None:
                remember_known(connection, CURRENT, known)  # nothing was ever written
            if current in (None, known) or replace(current, number=known.number) != known:
                return
            if target is not None:
                _drop_vectors(connection, target)
                connection.execute(delete(schema.meta).where(schema.meta.c.key == NEXT))
            mine = vectors.c.embedder == current.number
            connection.execute(update(vectors).where(mine).values(embedder=known.number))
            remember_known(connection, CURRENT, known)

    # --- counts --------------------------------------------------------------------------------

    def scopes(self) -> list[Scope]:
        """Every scope that holds something, by name."""
        with self.database.read() as connection:
            return [scope for scope, _ in _named_scopes(connection)]

    def stats(self) -> StoreStats:
        """The counts of the whole store."""
        with self.database.read() as connection:
            known = find_known(connection, CURRENT)
            jobs = connection.execute(
                select(schema.jobs.c.kind, func.count()).group_by(schema.jobs.c.kind)
            )
            return StoreStats(
                url=self.database.backend.url,
                schema=HEAD,
                embedder=None if known is None else known.name,
                bytes_on_disk=self.database.backend.bytes_on_disk(),
                scopes=tuple(_scope_stats(connection, 0 if known is None else known.number)),
                jobs={kind: int(number) for kind, number in jobs},
            )

    def unusable(self, terms_version: int) -> tuple[int, int]:
        """How many memories' vectors, and how many memories' terms, are damaged or out of date."""
        vectors, records, terms = schema.vectors, schema.records, schema.terms
        same = and_(terms.c.scope == records.c.scope, terms.c.record == records.c.id)
        words = select(func.count()).select_from(records).outerjoin(terms, same)
        bad = 0
        with self.database.read() as connection:
            known = find_known(connection, CURRENT)
            if known is not None:
                mine = select(vectors.c.vector).where(vectors.c.embedder == known.number)
                rows = connection.execute(mine).scalars()
                bad = sum(
                    not is_usable(raw, known) for page in rows.partitions(PAGE) for raw in page
                )
            old = connection.execute(words.where(bad_terms(terms_version))).scalar()
        return bad, int(old or 0)

    # --- bytes ---------------------------------------------------------------------------------

    def truncate_log(self) -> bool:
        """Empty the write-ahead log into the file; False where a reader stands in the way."""
        with self.database.using() as engine:
            return self.database.backend.truncate_log(engine)

    def rewrite(self) -> bool:
        """Write the file anew without what was deleted; False where another is at work in it."""
        with self.database.using() as engine:
            return self.database.backend.rewrite(engine)

    def left_over(self, texts: Sequence[bytes]) -> bool:
        """Tell whether a piece of any of the texts is left in the file where no row is."""
        with self.database.using():
            return self.database.backend.left_over(texts)

    def copy_to(
        self, path: Path, replace: bool, progress: Callable[[int, int], None] | None
    ) -> int:
        """Write a copy of one moment of the store to a file; returns its size in bytes."""
        with self.database.using() as engine:
            return self.database.backend.copy_to(engine, path, replace, progress)

    def begin_epoch(self, epoch: str) -> None:
        """Make every cache load anew: what it knew of the store's versions holds no longer."""
        with self.database.write() as connection:
            set_meta(connection, EPOCH, epoch)

    def reindex(self) -> None:
        """Make the database's own indexes anew from its rows."""
        with self.database.using() as engine:
            self.database.backend.reindex(engine)

    def damage(self) -> list[str]:
        """What the database itself finds wrong with its files; empty where nothing is."""
        with self.database.using() as engine:
            return self.database.backend.damage(engine)


def _drop_vectors(connection: Connection, known: KnownEmbedder) -> None:
    connection.execute(delete(schema.vectors).where(schema.vectors.c.embedder == known.number))


def _missing(connection: Connection, embedder: int) -> bool:
    records, vectors = schema.records, schema.vectors
    same = and_(
        vectors.c.scope == records.c.scope,
        vectors.c.record == records.c.id,
        vectors.c.embedder == embedder,
    )
    query = select(records.c.id).outerjoin(vectors, same).where(vectors.c.record.is_(None)).limit(1)
    return connection.execute(query).first() is not None


def _named_scopes(connection: Connection) -> list[tuple[Scope, int]]:
    rows = connection.execute(
        select(schema.scopes)
        .where(schema.scopes.c.name.is_not(None))
        .order_by(schema.scopes.c.tenant, schema.scopes.c.kind, schema.scopes.c.name)
    )
    return [(Scope(row.tenant, row.kind, row.name), int(row.version)) for row in rows]


def _scope_stats(connection: Connection, embedder: int) -> list[ScopeStats]:
    def count(table: Any, *where: Any) -> dict[bytes, int]:
        query = select(table.c.scope, func.count()).where(*where).group_by(table.c.scope)
        return {bytes(scope): int(number) for scope, number in connection.execute(query)}

    messages = count(schema.messages)
    records = count(schema.records)
    vectors = count(schema.vectors, schema.vectors.c.embedder == embedder)
    return [
        ScopeStats(
            scope=scope,
            messages=messages.get(scope.key, 0),
            memories=records.get(scope.key, 0),
            without_vector=records.get(scope.key, 0) - vectors.get(scope.key, 0),
            version=version,
        )
        for scope, version in _named_scopes(connection)
    ]
