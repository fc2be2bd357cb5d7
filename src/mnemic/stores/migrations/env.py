"""Alembic's entry: runs the migrations in the connection and transaction it is handed."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
