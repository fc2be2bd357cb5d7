"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    _conversation_tables()
    _memory_tables()
    _bookkeeping_tables()


def _conversation_tables() -> None:
    op.create_table(
        "scopes",
        sa.Column("scope", sa.LargeBinary(16), primary_key=True),
        sa.Column("tenant", sa.Text),
        sa.Column("kind", sa.String(8)),
        sa.Column("name", sa.Text),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("scope", sa.LargeBinary(16), nullable=False),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("scope", "session"),
    )
    op.create_table(
        "messages",
        sa.Column("scope", sa.LargeBinary(16), nullable=False),
        sa.Column("id", sa.LargeBinary(16), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary(16), nullable=False),
        sa.Column("said_at", sa.BigInteger, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("tags", sa.Text),
        sa.Column("metadata", sa.Text),
        sa.Column("extra", sa.Text),
        sa.PrimaryKeyConstraint("scope", "id"),
        sa.UniqueConstraint("scope", "session", "message_id"),
    )
    op.create_index("messages_by_message_id", "messages", ["scope", "message_id"])


def _memory_tables() -> None:
    op.create_table(
        "records",
        sa.Column("scope", sa.LargeBinary(16), nullable=False),
        sa.Column("id", sa.LargeBinary(16), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(16), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("speaker", sa.Text),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("passage", sa.Integer, nullable=False),
        sa.Column("said_at", sa.BigInteger, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("valid_from", sa.BigInteger),
        sa.Column("valid_to", sa.BigInteger),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("confidence", sa.Float, nullable=False),
        sa.Column("importance", sa.Float, nullable=False),
        sa.Column("pinned", sa.SmallInteger, nullable=False),
        sa.Column("tags", sa.Text),
        sa.Column("metadata", sa.Text),
        sa.PrimaryKeyConstraint("scope", "id"),
    )
    op.create_index("records_by_fingerprint", "records", ["scope", "fingerprint"])
    op.create_table(
        "support",
        sa.Column("scope", sa.LargeBinary(16), nullable=False),
        sa.Column("record", sa.LargeBinary(16), nullable=False),
        sa.Column("message", sa.LargeBinary(16), nullable=False),
        sa.Column("passage", sa.Integer, nullable=False),
        sa.Column("start", sa.Integer, nullable=False),
        sa.Column("stop", sa.Integer, nullable=False),
        sa.Column("repeat", sa.SmallInteger, nullable=False),
        sa.PrimaryKeyConstraint("scope", "record", "message", "passage"),
    )
    op.create_index("support_by_message", "support", ["scope", "message"])


def _bookkeeping_tables() -> None:
    op.create_table(
        "vectors",
        sa.Column("scope", sa.LargeBinary(16), nullable=False),
        sa.Column("record", sa.LargeBinary(16), nullable=False),
        sa.Column("embedder", sa.SmallInteger, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("scope", "record", "embedder"),
    )
    op.create_table(
        "terms",
        sa.Column("scope", sa.LargeBinary(16), nullable=False),
        sa.Column("record", sa.LargeBinary(16), nullable=False),
        sa.Column("version", sa.SmallInteger, nullable=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
        sa.Column("counts", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("scope", "record"),
    )
    op.create_table(
        "changes",
        sa.Column("scope", sa.LargeBinary(16), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("record", sa.LargeBinary(16)),
        sa.PrimaryKeyConstraint("scope", "seq"),
    )
    op.create_index("changes_by_record", "changes", ["scope", "record"])
    op.create_table(
        "jobs",
        sa.Column("scope", sa.LargeBinary(16), nullable=False),
        sa.Column("id", sa.LargeBinary(16), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("run_at", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("scope", "id"),
    )
