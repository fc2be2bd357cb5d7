"""The tables, as SQLAlchemy Core describes them: one schema for every database.

The scope's 16-byte key leads every key, and no constraint crosses scopes, so that the same schema
distributes by scope. Times are microseconds since 1970 in UTC; ids are 16-byte UUIDv7. Text lives in
`messages`, `records`, `summaries` and `procedures` only. Flags are 0 or 1. Alembic makes the same tables;
a test compares them.
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
    text,
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
# its version stay, so that a cache elsewhere can't mistake a new beginning for what it knew. `settings`
# is JSON: the user's time zone.
scopes = Table(
    "scopes",
    metadata,
    Column("scope", Bytes(16), primary_key=True),
    Column("tenant", Text),
    Column("kind", String(8)),
    Column("name", Text),
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("settings", Text),
)

# A message without a session has the empty session. `changed` is the `seq` of the last change to any of
# its messages: whoever holds a copy of a session tells by it whether the copy is still right.
sessions = Table(
    "sessions",
    metadata,
    _scope(),
    Column("session", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("changed", BigInteger),
    PrimaryKeyConstraint("scope", "session"),
)

# `seq` orders a scope's messages as they arrived. `extra` holds what OpenAI-style messages carry
# besides text: parts, tool calls. `state` is empty for a complete message, `interrupted` for one that
# broke off, `streaming` while it is being said; `recorded_at` then is when its text was last written.
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
    Column("state", String(16)),
    PrimaryKeyConstraint("scope", "id"),
    UniqueConstraint("scope", "session", "message_id"),
)
Index("messages_by_message_id", messages.c.scope, messages.c.message_id)
Index("messages_by_session", messages.c.scope, messages.c.session, messages.c.seq)
# The few that stay in every window, found without reading a long session.
SYSTEM_ONLY = text("role IN ('system', 'developer')")
Index(
    "messages_of_system",
    messages.c.scope,
    messages.c.session,
    messages.c.seq,
    sqlite_where=SYSTEM_ONLY,
    postgresql_where=SYSTEM_ONLY,
)

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
# Facts and instructions are few beside episodes, and listed without reading those.
NOT_EPISODIC = text("kind <> 'episodic'")
Index(
    "records_not_episodic",
    records.c.scope,
    records.c.kind,
    records.c.id,
    sqlite_where=NOT_EPISODIC,
    postgresql_where=NOT_EPISODIC,
)

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

# The rolling summary of a session: it stands for the session's messages `first` to `last` (by `seq`), all
# but those of the system, `messages` of them. `rolls` counts how often it was made of an older
# summary since it was last made of the messages themselves; then it stood for `fresh` of them.
summaries = Table(
    "summaries",
    metadata,
    _scope(),
    Column("session", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("messages", Integer, nullable=False),
    Column("rolls", Integer, nullable=False),
    Column("fresh", Integer, nullable=False),
    Column("made_by", String(128), nullable=False),
    Column("made_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("scope", "session"),
)

# An instruction's versions; the words of each, and whether it is current, are the record's.
procedures = Table(
    "procedures",
    metadata,
    _scope(),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("record", Bytes(16), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("reason", Text),
    Column("author", String(16), nullable=False),
    Column("examples", Text),
    PrimaryKeyConstraint("scope", "name", "version"),
    UniqueConstraint("scope", "record"),
)

# float16, little endian. A record may hold one vector per embedder while a store moves over. `codes` are
# those of its tokens, one behind the other, where the embedder makes any.
vectors = Table(
    "vectors",
    metadata,
    _scope(),
    Column("record", Bytes(16), nullable=False),
    Column("embedder", SmallInteger, nullable=False),
    Column("vector", Bytes, nullable=False),
    Column("codes", Bytes),
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
