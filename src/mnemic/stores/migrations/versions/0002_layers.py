"""Sessions that can be read from their end, replies under way, summaries, instructions, settings."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("scopes", sa.Column("settings", sa.Text))
    op.add_column("sessions", sa.Column("changed", sa.BigInteger))
    op.add_column("messages", sa.Column("state", sa.String(16)))
    _indexes()
    op.create_table(
        "summaries",
        sa.Column("scope", sa.LargeBinary(16), nullable=False),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("messages", sa.Integer, nullable=False),
        sa.Column("rolls", sa.Integer, nullable=False),
        sa.Column("fresh", sa.Integer, nullable=False),
        sa.Column("made_by", sa.String(128), nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("scope", "session"),
    )
    op.create_table(
        "procedures",
        sa.Column("scope", sa.LargeBinary(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("record", sa.LargeBinary(16), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("author", sa.String(16), nullable=False),
        sa.Column("examples", sa.Text),
        sa.PrimaryKeyConstraint("scope", "name", "version"),
        sa.UniqueConstraint("scope", "record"),
    )


def _indexes() -> None:
    op.create_index("messages_by_session", "messages", ["scope", "session", "seq"])
    system = sa.text("role IN ('system', 'developer')")
    op.create_index(
        "messages_of_system",
        "messages",
        ["scope", "session", "seq"],
        sqlite_where=system,
        postgresql_where=system,
    )
    other = sa.text("kind <> 'episodic'")
    op.create_index(
        "records_not_episodic",
        "records",
        ["scope", "kind", "id"],
        sqlite_where=other,
        postgresql_where=other,
    )
