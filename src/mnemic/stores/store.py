"""The store: one method for each thing that happens to content, each in one transaction.

Every method takes the scope first: no scope, no read. What is asked of all scopes is `ledger.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, update

from mnemic.records import Change, MemoryRecord, Message, Scope
from mnemic.stores import appending, erasing, loading, schema
from mnemic.stores.database import Database
from mnemic.stores.erasing import Erased
from mnemic.stores.known import KnownEmbedder, require_in_use
from mnemic.stores.rows import (
    Appended,
    Embedded,
    IndexRows,
    NewMessage,
    NewPassage,
    SaidMessage,
    Stand,
    now_micros,
)
from mnemic.stores.turns import session_digest

SCRUB = "scrub"
COPIES = "copies"
# Whoever erases also removes the bytes at once; a job older than this has lost its process.
SCRUB_GRACE_MICROS = 10_000_000


class Store:
    """The rows of one database; `copied` says that recent turns are copied to another place too."""

    def __init__(self, database: Database, *, copied: bool = False) -> None:
        self.database = database
        self._copied = copied

    # --- writing -----------------------------------------------------------------------------

    def append(self, scope: Scope, embedder: KnownEmbedder, new: Sequence[NewMessage]) -> Appended:
        """Commit messages with their passages, terms and job, on disk when this returns.

        Raises `EmbedderMismatch` where the store has moved to another embedder meanwhile.
        """
        with self.database.write() as connection:
            require_in_use(connection, embedder)
            return appending.append(connection, scope, new, now_micros())

    def add_vectors(
        self,
        scope: Scope,
        embedder: KnownEmbedder,
        vectors: Sequence[Embedded],
        job: bytes | None = None,
    ) -> None:
        """Commit vectors, and finish the job they were due to. Not synced: they can be made again."""
        with self.database.write(durable=False) as connection:
            require_in_use(connection, embedder)
            appending.add_vectors(connection, scope.key, embedder.number, vectors)
            if job is not None:
                appending.finish_job(connection, scope.key, job)

    def set_pinned(self, scope: Scope, record: bytes, pinned: bool) -> bool:
        """Pin or unpin; False where there is no such memory."""
        with self.database.write() as connection:
            changed = connection.execute(
                update(schema.records)
                .where(schema.records.c.scope == scope.key, schema.records.c.id == record)
                .values(pinned=int(pinned))
            ).rowcount
            if changed:
                action = "pinned" if pinned else "unpinned"
                erasing.log_changes(connection, scope, now_micros(), [(action, record)])
        return bool(changed)

    def erase(
        self,
        scope: Scope,
        select_messages: Callable[[Connection], Sequence[bytes]],
        passage_of: Callable[[Message, int, int], NewPassage],
    ) -> Erased:
        """Take away the messages that `select_messages` names, and what only they say."""
        with self.database.write() as connection:
            erased = _erase(connection, scope, select_messages(connection), passage_of)
            return self._with_jobs(connection, scope, erased)

    def erase_memory(
        self,
        scope: Scope,
        record: bytes,
        passage_of: Callable[[Message, int, int], NewPassage],
        *,
        keep_messages: bool = False,
    ) -> Erased:
        """Take away a memory with the messages that say it, or, a fact or instruction, without them."""
        with self.database.write() as connection:
            chosen = [] if keep_messages else erasing.messages_of_record(connection, scope, record)
            erased = _erase(connection, scope, chosen, passage_of)
            erasing.erase_unsaid(connection, scope, record, now_micros(), erased)
            return self._with_jobs(connection, scope, erased)

    def erase_everything(self, scope: Scope) -> Erased:
        """Take away all that the scope holds."""
        with self.database.write() as connection:
            erased = erasing.erase_everything(connection, scope, now_micros())
            return self._with_jobs(connection, scope, erased)

    def _with_jobs(self, connection: Connection, scope: Scope, erased: Erased) -> Erased:
        """Note in the same transaction what is still to go, should we die before it does."""
        at = now_micros() + SCRUB_GRACE_MICROS
        if erased.messages or erased.memories:
            erased.job = appending.add_job(connection, scope, SCRUB, b"", at)
        if self._copied and erased.sessions:
            keys = b"".join(session_digest(scope.key, name) for name in erased.sessions)
            erased.copies = appending.add_job(connection, scope, COPIES, keys, at)
        return erased

    # --- reading -----------------------------------------------------------------------------

    def index_rows(
        self, scope: Scope, embedder: KnownEmbedder, known: Stand | None
    ) -> IndexRows | None:
        """What an index that stands at `known` must learn; None where nothing changed."""
        if known is not None:
            with self.database.read_once() as connection:
                if loading.find_stand(connection, scope, embedder) == known:
                    return None
        with self.database.read() as connection:
            return loading.index_rows(connection, scope, embedder, known)

    def rows_by_id(
        self, scope: Scope, embedder: KnownEmbedder, stand: Stand, ids: Sequence[bytes]
    ) -> IndexRows:
        """The index rows of some records, as they are now."""
        with self.database.read() as connection:
            return loading.rows_by_id(connection, scope, embedder.number, stand, ids)

    def find_records(self, scope: Scope, ids: Sequence[bytes]) -> dict[bytes, MemoryRecord]:
        """The records among the ids that are there."""
        with self.database.read_once() as connection:
            return loading.find_records(connection, scope, ids)

    def find_codes(
        self, scope: Scope, embedder: KnownEmbedder, ids: Sequence[bytes]
    ) -> dict[bytes, bytes]:
        """The codes of the tokens of those records that have any."""
        with self.database.read_once() as connection:
            return loading.find_codes(connection, scope, embedder.number, ids)

    def record_page(
        self, scope: Scope, after: bytes, limit: int
    ) -> list[tuple[bytes, MemoryRecord]]:
        """The next records after an id, in the order of recording."""
        with self.database.read() as connection:
            return loading.record_page(connection, scope, after, limit)

    def message_page(self, scope: Scope, after: int, limit: int) -> list[SaidMessage]:
        """The next messages after a `seq`, in the order of arrival, with what stands on them."""
        with self.database.read() as connection:
            return loading.message_page(connection, scope, after, limit)

    def labels(self, scope: Scope) -> list[tuple[bytes, list[str], dict[str, Any]]]:
        """Id, tags and metadata of the records that carry any."""
        with self.database.read() as connection:
            return list(loading.labels(connection, scope))

    def history(self, scope: Scope, record: bytes) -> list[Change]:
        """Every change of one record, oldest first."""
        with self.database.read() as connection:
            return loading.history(connection, scope, record)


def _erase(
    connection: Connection,
    scope: Scope,
    messages: Sequence[bytes],
    passage_of: Callable[[Message, int, int], NewPassage],
) -> Erased:
    """Take messages away; what others say as well is said in their words from now on."""
    if not messages:
        return Erased()
    erased = erasing.erase_messages(connection, scope, messages, now_micros())
    for record in erased.reworded:
        erasing.reword(connection, scope, record, passage_of)
    if erased.reworded:
        payload = b"".join(erased.reworded)
        appending.add_job(connection, scope, "embed", payload, now_micros())
    return erased
