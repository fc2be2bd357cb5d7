"""Codes of a memory's tokens beside its vector."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vectors", sa.Column("codes", sa.LargeBinary))
