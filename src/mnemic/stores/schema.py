"""The tables, as SQLAlchemy Core describes them: one schema for every database.

The scope's 16-byte key leads every key, and no constraint crosses scopes, so that the same schema
distributes by scope. Times are microseconds since 1970 in UTC; ids are 16-byte UUIDv7. Text lives in
`messages` and `records` only. Flags are 0 or 1. Alembic makes the same tables; a test compares them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()


class Bytes(LargeBinary):
    """Bytes as the drivers take and give them, without a conversion a value."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> None:
        """Nothing to do: both drivers take bytes."""
        return

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        """Nothing to do: both drivers give bytes."""
        return


def _scope() -> Column[bytes]:
    return Column("scope", Bytes(16), nullable=False)


# Facts about the store itself: which embedder made its vectors, and where a move to another stands.
meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

# `version` is the scope's last `changes.seq`. The names go when everything is forgotten; the row and
# its version stay, so that a cache elsewhere can't mistake a new beginning for what it knew.
scopes = Table(
    "scopes",
    metadata,
    Column("scope", Bytes(16), primary_key=True),
    Column("tenant", Text),
    Column("kind", String(8)),
    Column("name", Text),
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

# A message without a session has the empty session.
sessions = Table(
    "sessions",
    metadata,
    _scope(),
    Column("session", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("scope", "session"),
)

# `seq` orders a scope's messages as they arrived. `extra` holds what OpenAI-style messages carry
# besides text: parts, tool calls.
messages = Table(
    "messages",
    metadata,
    _scope(),
    Column("id", Bytes(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("session", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("name", Text),
    Column("content", Text, nullable=False),
    Column("digest", Bytes(16), nullable=False),
    Column("said_at", BigInteger, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("tags", Text),
    Column("metadata", Text),
    Column("extra", Text),
    PrimaryKeyConstraint("scope", "id"),
    UniqueConstraint("scope", "session", "message_id"),
)
Index("messages_by_message_id", messages.c.scope, messages.c.message_id)

# `session`, `seq` and `passage` place an episodic memory in its conversation (its first support).
records = Table(
    "records",
    metadata,
    _scope(),
    Column("id", Bytes(16), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("fingerprint", Bytes(16), nullable=False),
    Column("source", String(16), nullable=False),
    Column("speaker", Text),
    Column("session", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("passage", Integer, nullable=False),
    Column("said_at", BigInteger, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("valid_from", BigInteger),
    Column("valid_to", BigInteger),
    Column("expires_at", BigInteger),
    Column("status", String(16), nullable=False),
    Column("confidence", Float, nullable=False),
    Column("importance", Float, nullable=False),
    Column("pinned", SmallInteger, nullable=False),
    Column("tags", Text),
    Column("metadata", Text),
    PrimaryKeyConstraint("scope", "id"),
)
Index("records_by_fingerprint", records.c.scope, records.c.fingerprint)

# What a memory stands on: characters `start` to `stop` of a message. `repeat` marks all but the first.
support = Table(
    "support",
    metadata,
    _scope(),
    Column("record", Bytes(16), nullable=False),
    Column("message", Bytes(16), nullable=False),
    Column("passage", Integer, nullable=False),
    Column("start", Integer, nullable=False),
    Column("stop", Integer, nullable=False),
    Column("repeat", SmallInteger, nullable=False),
    PrimaryKeyConstraint("scope", "record", "message", "passage"),
)
Index("support_by_message", support.c.scope, support.c.message)

# float16, little endian. A record may hold one vector per embedder while a store moves over.
vectors = Table(
    "vectors",
    metadata,
    _scope(),
    Column("record", Bytes(16), nullable=False),
    Column("embedder", SmallInteger, nullable=False),
    Column("vector", Bytes, nullable=False),
    PrimaryKeyConstraint("scope", "record", "embedder"),
)

# Stems as 64-bit hashes (`<u8`) with their counts (`<u2`); `length` counts all terms of the text.
terms = Table(
    "terms",
    metadata,
    _scope(),
    Column("record", Bytes(16), nullable=False),
    Column("version", SmallInteger, nullable=False),
    Column("length", Integer, nullable=False),
    Column("hashes", Bytes, nullable=False),
    Column("counts", Bytes, nullable=False),
    PrimaryKeyConstraint("scope", "record"),
)

# The history, and the feed that caches follow. It holds no text.
changes = Table(
    "changes",
    metadata,
    _scope(),
    Column("seq", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("action", String(16), nullable=False),
    Column("record", Bytes(16)),
    PrimaryKeyConstraint("scope", "seq"),
)
Index("changes_by_record", changes.c.scope, changes.c.record)

# The outbox: written in the transaction that makes the work, deleted in the one that finishes it.
jobs = Table(
    "jobs",
    metadata,
    _scope(),
    Column("id", Bytes(16), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("run_at", BigInteger, nullable=False),
    Column("error", Text),
    Column("payload", Bytes, nullable=False),
    PrimaryKeyConstraint("scope", "id"),
)
